"""What the nodes of a graph are as affine maps: of which inputs, with which bias."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.ir import attribute, const_ints, rank, shape
from addax.ir.affine import (
    IDENTITY,
    Affine,
    Convolution,
    Dense,
    Diagonal,
    Tensor,
    expanded,
    given,
    negated,
    reshaped,
)
from addax.ir.query import constant, constant_tensor, is_float, same_shape
from addax.ir.rule import Decline
from addax.passes._borders import filled_border


@dataclass(frozen=True)
class Linear:
    """A node that computes sum_i map_i(x_i) + bias; bias has the full rank, broadcast where 1."""

    terms: tuple[tuple[ir.Value, Affine], ...]
    bias: Tensor | None = None


@dataclass(frozen=True)
class Joined:
    """A node that puts its inputs side by side along an axis: (input, channels) each."""

    parts: tuple[tuple[ir.Value, int], ...]
    axis: int


@dataclass(frozen=True)
class Picked:
    """An output that is some of the channels of an input."""

    source: ir.Value
    indices: tuple[int, ...]
    axis: int


Meaning = Linear | Joined | Picked | None
Reader = Callable[[ir.Node, ir.Value], Meaning]

_MOST_PICKED = 1 << 16


def meaning(value: ir.Value) -> Meaning:
    """What makes a value, if that is affine in its inputs; None if it is not, or not known to be.

    A node that is malformed or that has unusual options is no affine map here.
    """
    node = value.producer()
    if node is None or node.domain not in {"", "ai.onnx"} or not is_float(value):
        return None
    reader = _READERS.get(node.op_type)
    dims = shape(value)
    if reader is None or dims is None or constant_tensor(value) is not None:
        return None
    try:
        return reader(node, value)
    except Decline:
        return None


def _operands(node: ir.Node) -> tuple[ir.Value | None, ...]:
    return tuple(node.inputs)


def _read(value: ir.Value | None) -> Tensor | None:
    """A constant of floating numbers."""
    tensor = constant_tensor(value)
    if value is None or tensor is None or not tensor.dtype.is_floating_point() or not tensor.size:
        return None
    return given(value)


def _matmul(node: ir.Node, value: ir.Value) -> Meaning:
    x, w = node.inputs
    weight, dims = _read(w), rank(x)
    if x is None or weight is None or len(weight.shape) != 2 or dims is None or dims < 2:
        return None
    return Linear(((x, Dense(weight, dims - 1)),))


def _gemm(node: ir.Node, value: ir.Value) -> Meaning:
    x, w, *rest = node.inputs
    weight, bias = _read(w), _read(rest[0]) if rest else None
    plain = attribute(node, "alpha", 1.0) == 1 and attribute(node, "beta", 1.0) == 1
    if x is None or weight is None or not plain or attribute(node, "transA", 0):
        return None
    if rest and rest[0] is not None and bias is None:
        return None
    if attribute(node, "transB", 0):
        turned = weight
        weight = Tensor(
            (turned.shape[1], turned.shape[0]),
            lambda op: op.Transpose(turned.build(op), perm=[1, 0]),
        )
    full = None if bias is None else reshaped(bias, (1,) * (2 - len(bias.shape)) + bias.shape)
    return Linear(((x, Dense(weight, 1)),), full)


def _conv(node: ir.Node, value: ir.Value) -> Meaning:
    x, w, *rest = node.inputs
    weight, bias = _read(w), _read(rest[0]) if rest else None
    if x is None or weight is None or attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    if rest and rest[0] is not None and bias is None:
        return None
    count = len(weight.shape) - 2
    pads = tuple(attribute(node, "pads", [0] * 2 * count))
    made = Convolution(
        weight,
        tuple(attribute(node, "strides", [1] * count)),
        pads[:count],
        pads[count:],
        tuple(attribute(node, "dilations", [1] * count)),
        attribute(node, "group", 1),
    )
    if min(pads, default=0) < 0 or not weight.size:
        return None
    full = None if bias is None else reshaped(bias, (1, bias.size, *[1] * count))
    return Linear(((x, made),), full)


def _batch_norm(node: ir.Node, value: ir.Value) -> Meaning:
    """gamma (x - mu) / sqrt(var + eps) + beta, as it is in inference."""
    if attribute(node, "training_mode", 0) or len(node.outputs) > 1:
        return None
    x = node.inputs[0]
    parts = [_read(v) for v in node.inputs[1:5]]
    dims, variance = rank(x), constant(node.inputs[4])
    epsilon = attribute(node, "epsilon", 1e-5)
    if x is None or dims is None or dims < 2 or any(p is None for p in parts) or variance is None:
        return None
    if not np.all(variance.astype(np.float64) + epsilon > 0):
        return None
    gamma, beta, mean, var = (p for p in parts if p is not None)
    scale = Tensor(
        gamma.shape,
        lambda op: op.Div(gamma.build(op), op.Sqrt(op.Add(var.build(op), float(epsilon)))),
    )
    shift = Tensor(
        gamma.shape,
        lambda op: op.Sub(beta.build(op), op.Mul(mean.build(op), scale.build(op))),
    )
    full = reshaped(shift, (1, shift.size, *[1] * (dims - 2)))
    return Linear(((x, Diagonal(scale, 1)),), full)


def _with_constant(node: ir.Node, value: ir.Value) -> tuple[ir.Value, Tensor, bool] | None:
    """The variable, the constant and whether the variable comes first, of a binary operator.

    The constant must not make the result larger than the variable.
    """
    a, b = node.inputs
    for x, c, first in ((a, b, True), (b, a, False)):
        read, dims = _read(c), rank(value)
        if x is None or read is None or dims is None or _read(x) is not None:
            continue
        if not same_shape(x, value) or len(read.shape) > dims:
            return None
        return x, reshaped(read, (1,) * (dims - len(read.shape)) + read.shape), first
    return None


def _diagonal(c: Tensor) -> Diagonal | None:
    """A constant of full rank as a scale: of everything, or of one axis."""
    long = [axis for axis, d in enumerate(c.shape) if d > 1]
    if not long:
        return Diagonal(reshaped(c, ()))
    if len(long) > 1:
        return None
    return Diagonal(reshaped(c, (c.size,)), long[0])


def _mul(node: ir.Node, value: ir.Value) -> Meaning:
    found = _with_constant(node, value)
    diagonal = None if found is None else _diagonal(found[1])
    return None if found is None or diagonal is None else Linear(((found[0], diagonal),))


def _div(node: ir.Node, value: ir.Value) -> Meaning:
    found = _with_constant(node, value)
    if found is None or not found[2] or not np.all(constant(node.inputs[1])):
        return None
    c = found[1]
    diagonal = _diagonal(Tensor(c.shape, lambda op: op.Reciprocal(c.build(op))))
    return None if diagonal is None else Linear(((found[0], diagonal),))


def _minus(like: ir.Value) -> Diagonal:
    numpy = np.float32 if like.dtype is None else like.dtype.numpy()
    return Diagonal(Tensor((), lambda op: op.initializer(np.asarray(-1, numpy), "minus_one")))


def _add(node: ir.Node, value: ir.Value) -> Meaning:
    found = _with_constant(node, value)
    if found is not None:
        return Linear(((found[0], IDENTITY),), found[1])
    return _sum_of([(v, IDENTITY) for v in node.inputs if v is not None], value)


def _sub(node: ir.Node, value: ir.Value) -> Meaning:
    found = _with_constant(node, value)
    if found is not None:
        x, c, first = found
        if first:
            return Linear(((x, IDENTITY),), negated(c))
        return Linear(((x, _minus(value)),), c)
    a, b = node.inputs
    return None if a is None or b is None else _sum_of([(a, IDENTITY), (b, _minus(value))], value)


def _sum_of(terms: list[tuple[ir.Value, Affine]], value: ir.Value) -> Meaning:
    """Addends of one shape: a sum that broadcasts is none of the algebra."""
    if any(_read(x) is not None or not same_shape(x, value) for x, _ in terms):
        return None
    return Linear(tuple(terms))


def _neg(node: ir.Node, value: ir.Value) -> Meaning:
    x = node.inputs[0]
    return None if x is None else Linear(((x, _minus(value)),))


def _average_pool(node: ir.Node, value: ir.Value) -> Meaning:
    """A depthwise convolution, unless the border divides by fewer."""
    x = node.inputs[0]
    dims = shape(x)
    taps = tuple(attribute(node, "kernel_shape", ()))
    count = len(taps)
    pads = tuple(attribute(node, "pads", [0] * 2 * count))
    plain = attribute(node, "auto_pad", "NOTSET") == "NOTSET" and not attribute(
        node, "ceil_mode", 0
    )
    exact = attribute(node, "count_include_pad", 0) or not any(pads)
    if x is None or dims is None or not plain or not exact or not isinstance(dims[1], int):
        return None
    channels, size = dims[1], int(np.prod(taps))
    numpy = np.float32 if value.dtype is None else value.dtype.numpy()
    kernel = Tensor(
        (channels, 1, *taps),
        lambda op: op.Expand(
            op.Reciprocal(op.initializer(np.asarray(size, numpy), "window")),
            [channels, 1, *taps],
        ),
    )
    dilations = tuple(attribute(node, "dilations", [1] * count))
    strides = tuple(attribute(node, "strides", [1] * count))
    return Linear(
        ((x, Convolution(kernel, strides, pads[:count], pads[count:], dilations, channels)),)
    )


def _pad(node: ir.Node, value: ir.Value) -> Meaning:
    """Zeros around the spatial axes: a depthwise 1 x 1 convolution that pads."""
    x, dims = node.inputs[0], shape(node.inputs[0])
    filler = node.inputs[2] if len(node.inputs) > 2 else None
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    if x is None or dims is None or len(dims) < 3 or axes is not None:
        return None
    if attribute(node, "mode", "constant") != "constant" or not isinstance(dims[1], int):
        return None
    if filler is not None and (constant(filler) is None or np.any(constant(filler))):
        return None
    pads, count = const_ints(node.inputs[1]), len(dims)
    if min(pads) < 0 or any(pads[i] for i in (0, 1, count, count + 1)):
        return None
    channels, ones = dims[1], (1,) * (count - 2)
    numpy = np.float32 if value.dtype is None else value.dtype.numpy()
    kernel = expanded(
        Tensor((1,) * count, lambda op: op.initializer(np.ones((1,) * count, numpy), "one")),
        (channels, 1, *ones),
    )
    made = Convolution(
        kernel, ones, pads[2:count], pads[count + 2 :], ones, channels, is_movement=True
    )
    return Linear(((x, made),))


def _bordered(node: ir.Node, value: ir.Value) -> Meaning:
    """A zero pad whose border was filled with constants."""
    found = filled_border(value)
    if found is None:
        return None
    pad, border = found
    inner = _pad(pad, pad.outputs[0])
    return Linear(inner.terms, border) if isinstance(inner, Linear) else None


def _concat(node: ir.Node, value: ir.Value) -> Meaning:
    full = rank(value)
    axis = attribute(node, "axis", 0)
    if full is None:
        return None
    parts = []
    for x in node.inputs:
        dims = shape(x)
        size = None if dims is None else dims[axis % full]
        if x is None or _read(x) is not None or not isinstance(size, int) or size < 1:
            return None
        parts.append((x, size))
    return Joined(tuple(parts), axis % full) if len(parts) > 1 else None


def _split(node: ir.Node, value: ir.Value) -> Meaning:
    x, full = node.inputs[0], rank(value)
    axis = attribute(node, "axis", 0)
    if x is None or full is None:
        return None
    start = 0
    for output in node.outputs:
        size = (shape(output) or (None,) * full)[axis % full]
        if not isinstance(size, int):
            return None
        if output is value:
            return Picked(x, tuple(range(start, start + size)), axis % full) if size else None
        start += size
    return None


def _slice(node: ir.Node, value: ir.Value) -> Meaning:
    x, full = node.inputs[0], rank(value)
    dims = shape(x)
    if x is None or full is None or dims is None or len(node.inputs) < 4:
        return None
    (start, *more), (end, *_), (axis, *_) = (const_ints(v) for v in node.inputs[1:4])
    step = const_ints(node.inputs[4])[0] if len(node.inputs) > 4 and node.inputs[4] else 1
    size = dims[axis % full]
    if more or not isinstance(size, int):
        return None
    indices = tuple(range(size))[slice(start, end, step)]
    return Picked(x, indices, axis % full) if indices else None


def _gather(node: ir.Node, value: ir.Value) -> Meaning:
    x, full = node.inputs[0], rank(node.inputs[0])
    indices, dims = constant(node.inputs[1]), shape(x)
    if x is None or full is None or dims is None or indices is None or indices.ndim != 1:
        return None
    axis = attribute(node, "axis", 0) % full
    size = dims[axis]
    if not isinstance(size, int) or not 0 < indices.size <= _MOST_PICKED:
        return None
    return Picked(x, tuple(int(i) % size for i in indices), axis)


def _identity(node: ir.Node, value: ir.Value) -> Meaning:
    x = node.inputs[0]
    return None if x is None else Linear(((x, IDENTITY),))


_READERS: dict[str, Reader] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _div,
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": _identity,
    "MatMul": _matmul,
    "Mul": _mul,
    "Neg": _neg,
    "Pad": _pad,
    "ScatterND": _bordered,
    "Slice": _slice,
    "Split": _split,
    "Sub": _sub,
    "Sum": _add,
    "Transpose": _bordered,
}
