"""A compiled graph or function body: a list of steps over a frame of slots.

Slot 0 is the absent input, slot 1 takes outputs nobody named. Constants sit in the frame from
compilation on; every other value leaves its slot after its last use, so memory is bounded by the
values alive at one time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from addax.errors import AddaxError, EvaluationError
from addax.ir._judge.arrays import described, settled

Watch: TypeAlias = Callable[[ir.Value, Any], None]

ABSENT = 0
UNUSED = 1


def label(node: ir.Node) -> str:
    """How messages call a node: its op and its name, or the output it makes if it has no name."""
    op = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    if node.name:
        return f"{op} node {node.name!r}"
    outputs = ", ".join(repr(v.name) for v in node.outputs if v.name)
    return f"{op} node that makes {outputs or 'nothing'}"


@dataclass(slots=True)
class Step:
    """One node: what to call, on which slots, into which slots, and which slots it frees."""

    node: ir.Node
    call: Callable[..., Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    nested: bool
    """Whether `call` runs programs itself and takes `watch`."""
    frees: tuple[int, ...] = ()

    def advance(self, frame: list[Any], watch: Watch | None) -> None:
        """Computes the node in `frame`.

        Raises:
            EvaluationError: the node failed; names it, its op and its input shapes.
        """
        values = [frame[slot] for slot in self.inputs]
        try:
            result = self.call(*values, watch=watch) if self.nested else self.call(*values)
        except AddaxError as error:
            error.add_note(f"inside {label(self.node)}")
            raise
        except Exception as error:
            got = ", ".join(described(value) for value in values[: len(self.node.inputs)])
            raise EvaluationError(
                f"{label(self.node)} failed on inputs ({got}): {type(error).__name__}: {error}"
            ) from error
        if type(result) is np.ndarray and len(self.outputs) == 1:
            frame[self.outputs[0]] = result
        else:
            self._store(result, frame)
        if watch is not None:
            for value, slot in zip(self.node.outputs, self.outputs, strict=True):
                if slot != UNUSED:
                    watch(value, frame[slot])
        for slot in self.frees:
            frame[slot] = None

    def _store(self, result: Any, frame: list[Any]) -> None:
        results = result if type(result) is tuple else (result,)
        if any(slot != UNUSED for slot in self.outputs[len(results) :]):
            raise EvaluationError(
                f"{label(self.node)} lists {len(self.outputs)} outputs, "
                f"but the op made {len(results)}"
            )
        for slot, value in zip(self.outputs, results, strict=False):
            frame[slot] = settled(value)


@dataclass(slots=True)
class Program:
    """Steps in order, and where their values come from and go to."""

    frame: list[Any] = field(default_factory=lambda: [None, None])
    steps: list[Step] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    captures: list[tuple[ir.Value, int]] = field(default_factory=list)
    """Values of the enclosing scope that the body reads, and the slots it reads them from."""

    def run(
        self, arguments: Sequence[Any], captured: Sequence[Any] = (), watch: Watch | None = None
    ) -> list[Any]:
        """The outputs for `arguments` (one for each input) and `captured` (one for each capture).

        Raises:
            EvaluationError: a node failed; names the node, its op and its input shapes.
        """
        frame = self.frame.copy()
        for slot, value in zip(self.inputs, arguments, strict=False):
            frame[slot] = value
        for (_, slot), value in zip(self.captures, captured, strict=True):
            frame[slot] = value
        for step in self.steps:
            step.advance(frame, watch)
        return [frame[slot] for slot in self.outputs]
