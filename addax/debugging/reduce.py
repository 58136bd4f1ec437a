"""Shrinking a model while a fault stays: delta debugging on outputs, nodes and sizes.

Source      Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from addax.debugging.faults import Fault, ask
from addax.errors import AddaxError, InputError
from addax.ir.model import clone, prune
from addax.ir.query import constant_tensor
from addax.ir.shapes import infer_shapes
from addax.ir.verify import verify


@dataclass(frozen=True)
class Reduced:
    """A smaller model with the same fault.

    `nodes` before and after, `tried` models asked, and whether time ran out before no step helped.
    """

    model: ir.Model
    fault: str
    nodes: tuple[int, int]
    tried: int
    out_of_time: bool

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
        fault: What must stay; see `addax.debugging.faults`.
        seconds: When to stop, with the smallest model so far.
        progress: Called with a line at each success.

    Raises:
        InputError: The model does not have the fault.
    """
    search = _Search(model, fault, time.monotonic() + seconds, progress)
    search.run()
    return Reduced(
        search.best,
        search.found,
        (len(model.graph), len(search.best.graph)),
        search.tried,
        search.is_late,
    )


class _Search:
    def __init__(
        self,
        model: ir.Model,
        fault: Fault,
        deadline: float,
        progress: Callable[[str], None] | None,
    ) -> None:
        self.best, self.fault = clone(model), fault
        infer_shapes(self.best)
        self.tried = 1
        self._deadline, self._progress = deadline, progress
        found = ask(fault, self.best)
        if found is None:
            raise InputError("expected a model with the fault, but it does not have it")
        self.found: str = found

    @property
    def is_late(self) -> bool:
        """Whether time has run out."""
        return time.monotonic() > self._deadline

    def run(self) -> None:
        """Try the steps, large ones first, until none helps."""
        before = None
        while before != (before := self._size()) and not self.is_late:
            for step in (_fewer_outputs, _ends_earlier, _begins_later, _bypassed):
                self._exhaust(step)

    def _size(self) -> tuple[int, int, int]:
        graph = self.best.graph
        return len(graph), len(graph.inputs), len(graph.outputs)

    def _exhaust(self, step: Callable[[ir.Model], Iterator[ir.Model]]) -> None:
        """Take the first smaller model with the fault that a step offers, again and again."""
        helped = True
        while helped and not self.is_late:
            helped = any(self._accepts(candidate) for candidate in step(self.best))

    def _accepts(self, candidate: ir.Model) -> bool:
        if self.is_late:
            return False
        _shrink_interface(candidate)
        if _measure(candidate) >= _measure(self.best):
            return False
        self.tried += 1
        try:
            candidate.graph.sort()
            verify(candidate)
            found = ask(self.fault, candidate)
        except (AddaxError, ValueError):
            return False
        if found is None:
            return False
        self.best, self.found = candidate, found
        if self._progress is not None:
            self._progress(f"{len(candidate.graph)} nodes: {found}")
        return True


def _measure(model: ir.Model) -> tuple[int, int, int]:
    graph = model.graph
    return len(list(graph.all_nodes())), len(graph.outputs), len(graph.inputs)


def _fewer_outputs(model: ir.Model) -> Iterator[ir.Model]:
    """One output alone; all but one."""
    count = len(model.graph.outputs)
    for kept in range(count if count > 1 else 0):
        copy = clone(model)
        copy.graph.outputs[:] = [copy.graph.outputs[kept]]
        yield copy
    for dropped in range(count if count > 1 else 0):
        copy = clone(model)
        del copy.graph.outputs[dropped]
        yield copy


def _ends_earlier(model: ir.Model) -> Iterator[ir.Model]:
    """The model up to the node in the middle, then three quarters of the way, and so on."""
    count = len(model.graph)
    for place in _halving(count):
        copy = clone(model)
        node = copy.graph[place]
        outputs = [v for v in node.outputs if v.name and v.dtype is not None]
        if outputs:
            copy.graph.outputs[:] = outputs[:1]
            yield copy


def _begins_later(model: ir.Model) -> Iterator[ir.Model]:
    """What the first so many nodes make is given; then what any one node makes."""
    count = len(model.graph)
    for places in [*(range(n + 1) for n in _halving(count)), *([k] for k in range(count))]:
        copy = clone(model)
        nodes = [copy.graph[place] for place in places]
        cut = {v for node in nodes for v in node.outputs}
        kept = [
            v for v in cut if v.is_graph_output() or any(n not in set(nodes) for n in v.consumers())
        ]
        if all(_is_known(value) and not value.is_graph_output() for value in kept):
            for number, value in enumerate(sorted(kept, key=lambda v: str(v.name))):
                _give(copy, value, number)
            yield copy


def _bypassed(model: ir.Model) -> Iterator[ir.Model]:
    """A node's result is one of its inputs of the same type and shape."""
    for place, node in enumerate(model.graph):
        for position, value in enumerate(node.inputs):
            if value is None or not node.outputs or not _alike(value, node.outputs[0]):
                continue
            copy = clone(model)
            twin = copy.graph[place]
            source, result = twin.inputs[position], twin.outputs[0]
            if source is None or result.is_graph_output():
                continue
            result.replace_all_uses_with(source)
            yield copy


def _halving(count: int) -> list[int]:
    """Places from the middle outwards to the ends, by halves: few that cut much come first."""
    steps, seen = [2, 4, 8, 16, 64, 256, 1 << 20], dict[int, None]()
    for step in steps:
        for k in range(1, step):
            place = count * k // step
            if 0 <= place < count - 1:
                seen.setdefault(place)
            if len(seen) > count:
                break
        if step > count:
            break
    return list(seen)


def _is_known(value: ir.Value) -> bool:
    return value.dtype is not None and value.shape is not None


def _alike(a: ir.Value, b: ir.Value) -> bool:
    return (
        _is_known(a)
        and _is_known(b)
        and (a.dtype, a.shape) == (b.dtype, b.shape)
        and (constant_tensor(a) is None)
    )


def _give(model: ir.Model, value: ir.Value, number: int) -> None:
    """Make a value an input of the model."""
    taken = {v.name for v in model.graph.inputs}
    name = next(n for k in range(number, 1 << 30) if (n := f"given_{k}") not in taken)
    made = ir.Value(name=name, type=value.type, shape=value.shape)
    value.replace_all_uses_with(made)
    model.graph.inputs.append(made)


def _shrink_interface(model: ir.Model) -> None:
    """Drop what no output needs: nodes, initializers, inputs."""
    prune(model)
    for value in list(model.graph.inputs):
        if not (value.uses() or value.is_graph_output()):
            model.graph.inputs.remove(value)
