"""Norms whose readers can all make up for another scale and shift of each channel."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.ir import attribute, constant, rank, shape
from addax.ir.query import constant_tensor

_NORMS = ("BatchNormalization", "LayerNormalization", "RMSNormalization")
_VIEWS = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")  # same order of elements
_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True, eq=False)
class Reader:
    """A linear layer behind a norm.

    Attributes:
        root: The node that computes it, bias included: MatMul, Gemm, Conv, or an Add after these.
        product: The node that multiplies by the weights.
        path: The nodes from the norm to the product, which only move elements.
        bias: The constant that `root` adds; None for none.
    """

    root: ir.Node
    product: ir.Node
    path: tuple[ir.Node, ...]
    bias: ir.Value | None


@dataclass(frozen=True, eq=False)
class Site:
    """A norm with C channels along `axis` of its output, and all that reads it, in order."""

    norm: ir.Node
    axis: int
    readers: tuple[Reader, ...]

    @property
    def shifts(self) -> bool:
        """Whether the norm adds a number to each channel, so that another one costs nothing."""
        return self.norm.op_type != "RMSNormalization"

    @property
    def gain(self) -> np.ndarray:
        """gamma[C] in float64."""
        return _array(self.norm.inputs[1])

    @property
    def offset(self) -> np.ndarray:
        """beta[C] in float64, 0 where there is none."""
        given = self.norm.inputs[2] if self.shifts and len(self.norm.inputs) > 2 else None
        return np.zeros_like(self.gain) if given is None else _array(given)


def _array(value: ir.Value | None) -> np.ndarray:
    stored = constant(value)
    return np.zeros(0) if stored is None else stored.astype(np.float64)


def read(norm: ir.Node) -> Site | str | None:
    """The site at `norm`; or why nothing can be folded there; or None if it is no norm."""
    if norm.domain or norm.op_type not in _NORMS:
        return None
    out = norm.outputs[0]
    dims = shape(out)
    if dims is None or out.dtype not in _TYPES:
        return "the rank or the type of its output is unknown"
    if any(v.uses() or v.is_graph_output() for v in norm.outputs[1:]):
        return "its statistics are read too"
    axis = len(dims) - 1
    if norm.op_type == "BatchNormalization":
        axis = 1
        if attribute(norm, "training_mode", 0):
            return "it is in training mode"
    elif attribute(norm, "axis", -1) % len(dims) != axis:
        return "it normalises over more than the last axis"
    for value in norm.inputs[1:3]:
        stored = constant(value)
        if value is not None and (stored is None or stored.ndim != 1):
            return "its scale or shift is no constant with a number for each channel"
    if constant(norm.inputs[1]) is None or dims[axis] != len(_array(norm.inputs[1])):
        return "its number of channels is unknown"
    readers: list[Reader] = []
    reason = _follow(out, axis, (), readers)
    return reason or Site(norm, axis, _in_order(readers, norm))


def _in_order(readers: list[Reader], norm: ir.Node) -> tuple[Reader, ...]:
    """As they stand in the graph, so that what is made for one stands before the next."""
    places = {node: place for place, node in enumerate(norm.graph or ())}
    return tuple(sorted(readers, key=lambda reader: places.get(reader.root, 0)))


def _follow(
    value: ir.Value, axis: int, path: tuple[ir.Node, ...], found: list[Reader]
) -> str | None:
    """Collect the linear layers that read `value`; the reason if anything else does."""
    if value.is_graph_output():
        return "it is an output of the model" if not path else "a view of it is an output"
    if not value.uses():
        return "nothing reads it"
    for use in value.uses():
        node = use.node
        where = f"{node.op_type} {node.name!r}" if node.name else node.op_type
        if use.idx or node.domain or node.graph is not (path[-1] if path else node).graph:
            return f"{where} reads it, which is no linear layer of constant weights"
        moved = _moved(node, axis)
        if moved is not None:
            reason = _follow(node.outputs[0], moved, (*path, node), found)
        else:
            reader = _reader(node, axis, path)
            reason = reader if isinstance(reader, str) else None
            if isinstance(reader, Reader):
                found.append(reader)
            elif reader is None:
                reason = f"{where} reads it, which is no linear layer of constant weights"
                if node.op_type == "Pad":
                    reason = f"{where} puts in zeros, which a shift of channels would move"
        if reason:
            return reason
    return None


def _moved(node: ir.Node, axis: int) -> int | None:
    """Where a node that only moves elements puts the axis of channels; None if it is no such."""
    before, after = shape(node.inputs[0]), shape(node.outputs[0])
    if before is None or after is None or len(node.outputs) != 1:
        return None
    if node.op_type == "Transpose":
        order = list(attribute(node, "perm", list(range(len(before)))[::-1]))
        return order.index(axis)
    if node.op_type not in _VIEWS:
        return None
    rest = len(before) - axis  # counted from the end
    if len(after) >= rest and before[axis:] == after[len(after) - rest :]:
        return len(after) - rest
    return axis if before[: axis + 1] == after[: axis + 1] else None


def _reader(node: ir.Node, axis: int, path: tuple[ir.Node, ...]) -> Reader | str | None:
    """The linear layer that `node` is; why it cannot make up for a shift; None if it is none."""
    weight = constant_tensor(node.inputs[1]) if len(node.inputs) > 1 else None
    dims = rank(node.inputs[0])
    if node.op_type not in ("Conv", "Gemm", "MatMul") or weight is None or dims is None:
        return None
    name = f"{node.op_type} {node.name!r}" if node.name else node.op_type
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and constant_tensor(bias) is None:
        return f"{name} adds what is no constant"
    if node.op_type == "Conv":
        if axis != 1 or attribute(node, "group", 1) != 1:
            return f"{name} has channels in groups, or on another axis"
        if any(attribute(node, "pads", [0])) or attribute(node, "auto_pad", "NOTSET") not in (
            "NOTSET",
            "VALID",
        ):
            return f"{name} puts in zeros, which a shift of channels would move"
        return Reader(node, node, path, bias)
    if axis != dims - 1 or attribute(node, "transA", 0) or len(weight.shape) != 2:
        return f"{name} does not add over the channels"
    if node.op_type == "Gemm":
        if attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1:
            return f"{name} scales its product or its bias"
        return Reader(node, node, path, bias)
    added = _added(node, weight.shape.numpy()[1])
    return (
        Reader(node, node, path, None) if added is None else Reader(added[0], node, path, added[1])
    )


def _added(product: ir.Node, width: int) -> tuple[ir.Node, ir.Value] | None:
    """The Add of a constant [width] that alone reads a product, and the constant."""
    made = product.outputs[0]
    uses = list(made.uses())
    if len(uses) != 1 or made.is_graph_output():
        return None
    node = uses[0].node
    other = node.inputs[1 - uses[0].idx] if node.op_type == "Add" and not node.domain else None
    tensor = constant_tensor(other)
    if other is None or tensor is None or list(tensor.shape) != [width]:
        return None
    return (node, other) if node.graph is product.graph else None


def sites(model: ir.Model) -> Iterator[tuple[ir.Node, Site | str]]:
    """Each norm of the main graph, in order, with what can be done there."""
    for node in list(model.graph):
        found = read(node)
        if found is not None:
            yield node, found
