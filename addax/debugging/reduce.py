"""Shrinking a model while a fault stays: delta debugging on outputs, nodes, sizes and constants.

Algebra     keep or drop ever smaller parts of the nodes; what a dropped node made becomes an input
            that is fed with what it was, so that the rest computes what it did
Source      Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002

The same model and fault give the same result, unless the time runs out.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from addax.debugging._candidates import State, simpler, smaller
from addax.debugging.faults import Differs, Fault, ask
from addax.errors import AddaxError, InputError
from addax.ir.equivalence import draw_feeds
from addax.ir.model import clone, save
from addax.ir.shapes import infer_shapes
from addax.ir.verify import verify


@dataclass(frozen=True)
class Reduced:
    """A smaller model with the same fault, and inputs for it.

    `nodes` before and after, `tried` models asked, and whether time ran out before no step helped.
    """

    model: ir.Model
    feeds: Mapping[str, np.ndarray]
    fault: str
    nodes: tuple[int, int]
    tried: int
    out_of_time: bool

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model as ONNX and its inputs beside it; returns the path of the inputs.

        Raises:
            ModelFileError: The model cannot be written.
        """
        from addax.backends.to_ort import to_ort

        data = Path(path).with_suffix(".npz")
        save(to_ort(self.model), path)
        np.savez(data, allow_pickle=False, **self.feeds)
        return data

    def __str__(self) -> str:
        end = "; time ran out before it was smallest" if self.out_of_time else ""
        return (
            f"{self.nodes[0]} nodes became {self.nodes[1]} ({self.tried} models tried{end})\n"
            f"fault: {self.fault}"
        )


def reduce(
    model: ir.Model,
    fault: Fault,
    *,
    seconds: float = 120.0,
    progress: Callable[[str], None] | None = None,
) -> Reduced:
    """Shrink a model while `fault` stays; the model is not changed.

    Args:
        model: The model to shrink.
        fault: What must stay; see `addax.debugging.faults`. The inputs of `Differs` are shrunk
            with the model; where it has none, one set is drawn and kept, if it shows the fault.
        seconds: When to stop, with the smallest model so far.
        progress: Called with a line at each success.

    Raises:
        InputError: The model does not have the fault.
    """
    search = _Search(model, fault, time.monotonic() + seconds, progress)
    search.run()
    best = search.best
    nodes = len(model.graph), len(best.model.graph)
    return Reduced(best.model, best.feeds, search.found, nodes, search.tried, search.is_late)


class _Search:
    def __init__(
        self,
        model: ir.Model,
        fault: Fault,
        deadline: float,
        progress: Callable[[str], None] | None,
    ) -> None:
        graph = clone(model)
        infer_shapes(graph)
        given = (
            next(iter(fault.feeds), None) if isinstance(fault, Differs) and fault.feeds else None
        )
        self.fault, self.tried = fault, 1
        self._deadline, self._progress = deadline, progress
        found = ask(fault, graph)
        if found is None:
            raise InputError("expected a model with the fault, but it does not have it")
        self.found: str = found
        self._raises = _raises(fault, graph)
        self.best = State(graph, dict(given) if given is not None else _drawn(graph))
        self._keeps_feeds = (
            isinstance(fault, Differs) and self._asked(self.best, fed=True) is not None
        )

    @property
    def is_late(self) -> bool:
        """Whether time has run out."""
        return time.monotonic() > self._deadline

    def run(self) -> None:
        """Try what is smaller, then what is simpler, until nothing helps."""
        before = None
        while before is not self.best and not self.is_late:
            before = self.best
            for candidates in (smaller, simpler):
                self._exhaust(candidates)

    def _exhaust(self, candidates: Callable[[State], Iterator[State]]) -> None:
        """Take the first candidate with the fault, and go on from there."""
        helped = True
        while helped and not self.is_late:
            helped = any(self._accepts(candidate) for candidate in candidates(self.best))

    def _accepts(self, candidate: State) -> bool:
        if self.is_late:
            return False
        self.tried += 1
        try:
            verify(candidate.model)
            found = self._asked(candidate, fed=self._keeps_feeds)
        except (AddaxError, ValueError):
            return False
        if found is None:
            return False
        self.best, self.found = candidate, found
        if self._progress is not None:
            self._progress(f"{len(candidate.model.graph)} nodes: {found}")
        return True

    def _asked(self, candidate: State, *, fed: bool) -> str | None:
        """The fault of a candidate; an error is one only if it was one of the original."""
        fault = self.fault
        if fed and isinstance(fault, Differs):
            fault = replace(fault, feeds=[candidate.feeds])
        return ask(fault, candidate.model) if self._raises else fault(candidate.model, None)


def _raises(fault: Fault, model: ir.Model) -> bool:
    try:
        fault(model, None)
    except AddaxError:
        return True
    return False


def _drawn(model: ir.Model) -> dict[str, np.ndarray]:
    """Inputs for the model; none where nothing can be drawn."""
    try:
        return draw_feeds(model)
    except AddaxError:
        return {}
