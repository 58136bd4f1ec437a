"""Models that are a little smaller than a given one, the boldest first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import AddaxError
from addax.ir.evaluate import evaluate
from addax.ir.excerpt import excerpt
from addax.ir.model import clone
from addax.ir.query import constant_tensor
from addax.ir.shapes import infer_shapes

_FROZEN = 4096  # elements; what is larger stays an input, so that texts stay short
_FEW = 64  # elements of a constant that may hold sizes


@dataclass(frozen=True)
class State:
    """A model with inferred shapes, and inputs for it."""

    model: ir.Model
    feeds: dict[str, np.ndarray]

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """What every value of the main graph is on the inputs; as far as it can be computed."""
        seen: dict[str, np.ndarray] = dict(self.feeds)

        def watch(value: ir.Value, array: Any) -> None:
            node = value.producer()
            if node is not None and node.graph is self.model.graph and value.name:
                seen[value.name] = np.array(array)

        try:
            evaluate(self.model, self.feeds, watch=watch)
        except AddaxError:
            return seen
        return seen


def smaller(state: State) -> Iterator[State]:
    """Fewer nodes or fewer outputs."""
    yield from _made(state, _parts(state))
    yield from _made(state, _single_outputs(state))
    yield from _made(state, _without_nodes(state))


def simpler(state: State) -> Iterator[State]:
    """The same nodes on smaller tensors, with simpler constants."""
    yield from _made(state, _fewer_elements(state))
    yield from _made(state, _plain_constants(state))


Making = Callable[[], State | None]


def _made(state: State, makings: Iterator[Making]) -> Iterator[State]:
    del state
    for making in makings:
        try:
            made = making()
        except (AddaxError, RuntimeError, TypeError, ValueError):
            continue  # not every cut leaves a sound model
        if made is not None:
            yield made


def _cut(state: State, keep: set[int], outputs: set[str] | None = None) -> State:
    """Some nodes of the main graph, by position; what they read is fed with what it was."""
    positions = {node: k for k, node in enumerate(state.model.graph)}
    made = excerpt(state.model, lambda node: positions[node] in keep, outputs=outputs)
    names = [str(v.name) for v in made.graph.inputs if v.const_value is None]
    return State(made, {name: state.values[name] for name in names if name in state.values})


def _parts(state: State) -> Iterator[Making]:
    """One part of the nodes alone, then all but it, for ever smaller parts."""
    count = len(state.model.graph)
    size = count
    while size > 1:
        size = (size + 1) // 2
        parts = [set(range(at, min(at + size, count))) for at in range(0, count, size)]
        for part in parts:
            yield partial(_cut, state, part)
        if len(parts) > 2:  # with two parts, all but one is the other
            for part in parts:
                yield partial(_cut, state, set(range(count)) - part)


def _single_outputs(state: State) -> Iterator[Making]:
    """One output, and the nodes that it needs."""
    outputs = state.model.graph.outputs
    if len(outputs) > 1:
        for value in outputs:
            yield partial(_needed, state, str(value.name))


def _needed(state: State, name: str) -> State:
    made: set[ir.Node] = set()
    value = next(v for v in state.model.graph.outputs if v.name == name)
    waiting = [value.producer()]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in made:
            made.add(node)
            waiting += [v.producer() for v in node.inputs if v is not None]
    keep = {k for k, node in enumerate(state.model.graph) if node in made}
    return _cut(state, keep, {name})


def _without_nodes(state: State) -> Iterator[Making]:
    """One node replaced by one of its inputs, or by a constant of what it makes."""
    for position, node in enumerate(state.model.graph):
        for slot in range(len(node.inputs)):
            yield partial(_bypassed, state, position, slot)
        yield partial(_frozen, state, position)
    for value in state.model.graph.inputs:
        if value.const_value is None and value.dtype is not None and value.dtype.is_integer():
            yield partial(_fixed_input, state, str(value.name))


def _copy(state: State) -> tuple[ir.Model, list[ir.Node]]:
    made = clone(state.model)
    return made, list(made.graph)


def _bypassed(state: State, position: int, slot: int) -> State | None:
    made, nodes = _copy(state)
    node = nodes[position]
    old, new = node.outputs[0], node.inputs[slot]
    if new is None or new.dtype != old.dtype or new.shape != old.shape or len(node.outputs) > 1:
        return None
    if old.is_graph_output() and new.producer() is None:
        return None
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    return _cut(State(made, state.feeds), set(range(len(nodes))) - {position})


def _frozen(state: State, position: int) -> State | None:
    made, nodes = _copy(state)
    node = nodes[position]
    old = node.outputs[0]
    array = state.values.get(str(old.name))
    if len(node.outputs) > 1 or array is None or array.size > _FROZEN or old.is_graph_output():
        return None
    if not node.inputs:
        return None
    old.replace_all_uses_with(_constant(made, str(old.name), array))
    old.name = None
    return _cut(State(made, state.feeds), set(range(len(nodes))) - {position})


def _fixed_input(state: State, name: str) -> State | None:
    made, _ = _copy(state)
    array = state.feeds.get(name)
    value = next(v for v in made.graph.inputs if v.name == name)
    if array is None or array.size > _FEW or value.is_graph_output():
        return None
    made.graph.inputs.remove(value)
    value.name = None
    value.replace_all_uses_with(_constant(made, name, array))
    return State(made, {k: v for k, v in state.feeds.items() if k != name})


def _constant(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
    value = ir.Value(
        name=name,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(array.shape),
        const_value=tensor,
    )
    model.graph.register_initializer(value)
    return value


def _fewer_elements(state: State) -> Iterator[Making]:
    """One size, wherever it occurs, made smaller."""
    tensors = [v.const_value for v in state.model.graph.initializers.values()]
    shapes = [array.shape for array in state.feeds.values()]
    shapes += [tuple(t.shape.numpy()) for t in tensors if t is not None]
    sizes = sorted({size for dims in shapes for size in dims if size > 1}, reverse=True)
    for size in sizes:
        for less in dict.fromkeys((1, 2, 3, size // 2)):
            if 0 < less < size:
                yield partial(_resized, state, size, less)


def _resized(state: State, size: int, less: int) -> State:
    made, nodes = _copy(state)

    def cut(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind in "iu" and array.size <= _FEW:
            array = np.where(array == size, np.asarray(less, array.dtype), array)
        return array[tuple(slice(less if n == size else n) for n in array.shape)]

    for name, value in list(made.graph.initializers.items()):
        tensor = constant_tensor(value)
        if tensor is not None and tensor.dtype != ir.DataType.STRING:
            array = cut(tensor.numpy())
            value.const_value = ir.Tensor(np.ascontiguousarray(array), tensor.dtype, name=name)
            value.shape = ir.Shape(array.shape)
    feeds = {name: np.ascontiguousarray(cut(array)) for name, array in state.feeds.items()}
    for value in made.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape([less if d == size else d for d in value.shape])
    for node in nodes:
        for value in node.outputs:
            value.shape = None
    infer_shapes(made)
    evaluate(made, feeds)
    return State(made, feeds)


def _plain_constants(state: State) -> Iterator[Making]:
    """One floating constant made of ones, or rounded to eighths."""
    for name, value in state.model.graph.initializers.items():
        tensor = constant_tensor(value)
        if tensor is None or not tensor.dtype.is_floating_point():
            continue
        array = tensor.numpy()
        with np.errstate(all="ignore"):
            plain = [np.ones_like(array), (np.round(array * 8) / 8).astype(array.dtype)]
        if not np.array_equal(array, plain[0], equal_nan=True):
            yield partial(_with_constant, state, name, plain[0])
            if not np.array_equal(array, plain[1], equal_nan=True):
                yield partial(_with_constant, state, name, plain[1])


def _with_constant(state: State, name: str, array: np.ndarray) -> State:
    made, _ = _copy(state)
    value = made.graph.initializers[name]
    old = value.const_value
    value.const_value = ir.Tensor(array, None if old is None else old.dtype, name=name)
    return State(made, state.feeds)
