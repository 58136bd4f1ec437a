"""The judge: evaluates a model in NumPy, in float64 on request, apart from every runtime.

Rewrites are judged by it, so it favours what the ONNX text says over what any runtime does. Ops are
NumPy functions of our own; what they do not cover comes from onnx's reference implementation.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import OptionError
from addax.ir._judge.compiler import Compiler
from addax.ir._judge.feeds import checked

__all__ = ["Judge", "evaluate"]

_PRECISIONS = (np.dtype(np.float32), np.dtype(np.float64))


def evaluate(
    model: ir.Model,
    feeds: Mapping[str, Any],
    *,
    precision: type | None = None,
    watch: Callable[[ir.Value, Any], None] | None = None,
) -> dict[str, Any]:
    """The outputs of `model` by name; `Judge(model, precision=precision).run(feeds, watch=watch)`.

    Use a `Judge` to run one model many times.
    """
    return Judge(model, precision=precision).run(feeds, watch=watch)


class Judge:
    """A model prepared for evaluation: constants decoded, every op's meaning found.

    With `precision=np.float64` every floating tensor is float64 whatever the model says: inputs,
    initializers, constants, and what Cast, CastLike and the like make. Formats of 8 bits and fewer
    stay as they are, because their rounding is their meaning. With `precision=None` each tensor has
    the model's own type. The model must not change between preparation and the last run.

    Raises:
        UnsupportedOpError: an op has no meaning here, or is random.
        InvalidGraphError: a value is read before it is made, a function calls itself.
        OptionError: `precision` is none of `None`, `numpy.float32`, `numpy.float64`.
    """

    def __init__(self, model: ir.Model, *, precision: type | None = None) -> None:
        if precision is not None and precision not in _PRECISIONS:
            raise OptionError(
                f"precision must be None, numpy.float32 or numpy.float64, got {precision!r}"
            )
        self.precision = None if precision is None else np.dtype(precision)
        graph = model.graph
        self.inputs = tuple(graph.inputs)
        self.outputs = tuple(str(value.name) for value in graph.outputs)
        self._program = Compiler(model, self.precision).graph(graph)
        self._defaults = {
            value: self._program.frame[slot]
            for value, slot in zip(self.inputs, self._program.inputs, strict=True)
            if value.is_initializer()
        }

    def run(
        self,
        feeds: Mapping[str, Any],
        *,
        watch: Callable[[ir.Value, Any], None] | None = None,
    ) -> dict[str, Any]:
        """The outputs by name: arrays, lists for sequences, `None` for empty optionals.

        `watch` is called with each fed input, then with each value that a node makes, in order,
        constants excepted, those inside subgraphs and functions included (each time they are
        made). What it is given may be a view of something else: read it, never write to it.

        Raises:
            InputError: the feeds do not fit the model's inputs; nothing was computed.
            EvaluationError: a node failed on what it was given.
            UnsupportedOpError: a node asks for something random, which only its inputs told.
        """
        values = checked(self.inputs, self._defaults, feeds, self.precision)
        if watch is not None:
            for value, fed in values.items():
                watch(value, fed)
        values = self._defaults | values
        with np.errstate(all="ignore"):
            results = self._program.run([values[v] for v in self.inputs], (), watch)
        shared = [x for x in values.values() if isinstance(x, np.ndarray)]
        return {
            name: _own(result, shared) for name, result in zip(self.outputs, results, strict=True)
        }


def _own(result: Any, shared: list[Any]) -> Any:
    """`result`, copied if writing to it would change a feed or a constant."""
    if isinstance(result, list):
        return [_own(item, shared) for item in result]
    if not isinstance(result, np.ndarray):
        return result
    if not result.flags.writeable or any(np.may_share_memory(result, x) for x in shared):
        return result.copy()
    return result
