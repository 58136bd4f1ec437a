"""Pieces of random graphs around linear operators: products, convolutions, batch norm, sums."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.testing.strategies.elementwise import reduce_last
from addax.testing.strategies.sketch import Dims, Sketch, at_least, dims_of, static

Piece = Callable[[Sketch], object]


def matmul(s: Sketch, x: ir.Value | None = None) -> ir.Value:
    """By a constant matrix on the right."""
    x = s.operand(at_least(2, known=1)) if x is None else x
    dims = dims_of(x)
    size = s.genes.pick([2, 3, 1, 4])
    w = s.constant(s.numbers((int(dims[-1]), size)), x.dtype)
    return s.emit("MatMul", [x, w], (*dims[:-1], size))


def matmuls(s: Sketch) -> ir.Value:
    """Two or three in a row, perhaps with a bias or a scale between them."""
    x = matmul(s)
    for _ in range(1 + s.genes.below(2)):
        if s.genes.flip():
            x = _channelwise(s, x, len(dims_of(x)) - 1)
        x = matmul(s, x)
    return x


def _channelwise(s: Sketch, x: ir.Value, axis: int) -> ir.Value:
    """Add or Mul with a vector along one axis, or a scalar."""
    dims = dims_of(x)
    shape = [int(d) if i == axis else 1 for i, d in enumerate(dims)][axis:]
    c = s.constant(s.numbers(s.genes.pick([tuple(shape), (), (1, *shape)])), x.dtype)
    return s.binary(s.genes.pick(["Mul", "Add", "Sub"]), x, c)


def gemm(s: Sketch) -> ir.Value:
    """Gemm in its variants, after something of rank 2."""
    x = s.operand(lambda v: len(dims_of(v)) == 2 and static(dims_of(v)[1:]), rank=2)
    dims = dims_of(x)
    if len(dims) != 2 or not static(dims[1:]):
        return s.unary("Identity", x)
    size, turned = s.genes.pick([2, 3, 1]), s.genes.flip()
    shape = (size, int(dims[1])) if turned else (int(dims[1]), size)
    inputs = [x, s.constant(s.numbers(shape), x.dtype)]
    if s.genes.flip(0.7):
        inputs.append(s.constant(s.numbers(s.genes.pick([(size,), (), (1, size)])), x.dtype))
    attributes: dict[str, Any] = {"transB": int(turned)} if turned else {}
    if s.genes.flip(0.3):
        attributes |= {"alpha": 0.5, "beta": 2.0}
    return s.emit("Gemm", inputs, (dims[0], size), **attributes)


def _image(s: Sketch) -> ir.Value:
    """A value x[N, C, H, W], H and W at least 2."""
    found = s.find(
        lambda v: (
            len(dims_of(v)) == 4
            and static(dims_of(v)[1:])
            and min(int(d) for d in dims_of(v)[2:]) >= 2
        )
    )
    if found is not None:
        return found
    batches: list[int | str] = [2, "N", 1, 3]
    dims: Dims = (s.genes.pick(batches), s.genes.pick([2, 3, 1]), 3, 3)
    if s.outer is not None or s.is_function:
        made = s.constant(s.numbers((2, *(int(d) for d in dims[1:]))))
        s.live.append(made)
        return made
    return s.input(dims)


def conv(s: Sketch) -> ir.Value:
    """Conv or ConvTranspose, then batch norm, channel scale, bias or activation."""
    x = _image(s)
    dims = dims_of(x)
    channels, made = int(dims[1]), s.genes.pick([2, 3, 1])
    group = channels if s.genes.flip(0.25) else 1
    made = channels if group > 1 else made
    size = s.genes.pick([1, 2, 3]) if min(int(d) for d in dims[2:]) >= 3 else s.genes.pick([1, 2])
    pad = s.genes.pick([0, 1]) if size > 1 else 0
    bias = [s.constant(s.numbers((made,)), x.dtype)] if s.genes.flip() else []
    turned = group == 1 and s.genes.flip(0.2)
    shape = (channels, made, size, size) if turned else (made, channels // group, size, size)
    w = s.constant(s.numbers(shape), x.dtype)
    grow = size - 1 if turned else 1 - size
    out = tuple(int(d) + grow + (-2 if turned else 2) * pad for d in dims[2:])
    if min(out) < 1:
        pad, out = 0, tuple(int(d) + grow for d in dims[2:])
    y = s.emit(
        "ConvTranspose" if turned else "Conv",
        [x, w, *bias],
        (dims[0], made, *out),
        group=group,
        pads=[pad] * 4,
        kernel_shape=[size, size],
    )
    for _ in range(s.genes.below(3)):
        match s.genes.below(4):
            case 0:
                y = batch_norm(s, y)
            case 1 | 2:
                y = _channelwise(s, y, 1) if len(dims_of(y)) == 4 else y
            case _:
                y = s.unary("Relu", y)
    return y


def batch_norm(s: Sketch, x: ir.Value | None = None) -> ir.Value:
    """BatchNormalization with its statistics as constants."""
    x = s.operand(at_least(2)) if x is None else x
    dims = dims_of(x)
    if len(dims) < 2 or not static(dims[1:2]):
        return s.unary("Identity", x)
    shape = (int(dims[1]),)
    scale, bias, mean = (s.constant(s.numbers(shape), x.dtype) for _ in range(3))
    variance = s.constant(s.names.rng.random(shape) + 0.5, x.dtype)
    return s.emit("BatchNormalization", [x, scale, bias, mean, variance], dims)


def parallel(s: Sketch) -> ir.Value:
    """The sum of two products of one value, or of a product and the value."""
    x = s.operand(at_least(2, known=1))
    dims = dims_of(x)
    size = int(dims[-1])
    a, b = (
        s.emit("MatMul", [x, s.constant(s.numbers((size, size)), x.dtype)], dims) for _ in range(2)
    )
    return s.binary("Add", a, x if s.genes.flip(0.3) else b)


def attention(s: Sketch) -> ir.Value:
    """softmax(q k^T) v of products of one value."""
    x = s.operand(at_least(2, known=2))
    dims = dims_of(x)
    q, k, v = (
        s.emit("MatMul", [x, s.constant(s.numbers((int(dims[-1]), 2)), x.dtype)], (*dims[:-1], 2))
        for _ in range(3)
    )
    order = [*range(len(dims) - 2), len(dims) - 1, len(dims) - 2]
    turned = s.emit("Transpose", [k], (*dims[:-2], 2, dims[-2]), perm=order)
    scores = s.emit("MatMul", [q, turned], (*dims[:-1], dims[-2]))
    scaled = s.binary("Div", scores, s.constant(1.4142135, x.dtype))
    weights = s.unary("Softmax", scaled, axis=-1)
    return s.emit("MatMul", [weights, v], (*dims[:-1], 2))


def reductions(s: Sketch) -> ir.Value:
    """A reduction, perhaps of a reduction, with and without its axis kept."""
    x = s.operand(at_least(3, known=2))
    op = s.genes.pick(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"])
    y = reduce_last(s, op, x, keep=s.genes.flip())
    if len(dims_of(y)) < 2 or not static(dims_of(y)[-1:]) or s.genes.flip(0.3):
        return y
    return reduce_last(s, op, y, keep=s.genes.flip())


def pool(s: Sketch) -> ir.Value:
    """A pool of windows of one or two, or of everything."""
    x = _image(s)
    dims = dims_of(x)
    op = s.genes.pick(["GlobalAveragePool", "AveragePool", "MaxPool"])
    if op == "GlobalAveragePool":
        return s.emit(op, [x], (*dims[:2], 1, 1))
    size = s.genes.pick([1, 2])
    out = tuple(int(d) - size + 1 for d in dims[2:])
    return s.emit(op, [x], (*dims[:2], *out), kernel_shape=[size, size])


def normalization(s: Sketch) -> ir.Value:
    """LayerNormalization as one node (opset 17), with a scale or bias after it."""
    x = s.operand(at_least(2, known=1))
    if s.opset < 17:
        return s.unary("Relu", x)
    dims = dims_of(x)
    shape = (int(dims[-1]),)
    inputs = [x, *(s.constant(s.numbers(shape), x.dtype) for _ in range(1 + s.genes.below(2)))]
    y = s.emit("LayerNormalization", inputs, dims, axis=-1, epsilon=1e-3)
    return _channelwise(s, y, len(dims) - 1) if s.genes.flip() else y


def constants_only(s: Sketch) -> ir.Value:
    """Arithmetic on constants alone, then on a value."""
    x = s.operand(at_least(1, known=1))
    size = int(dims_of(x)[-1])
    a, b = (s.constant(np.round(s.names.rng.standard_normal(size), 2), x.dtype) for _ in range(2))
    c = s.binary(s.genes.pick(["Add", "Mul", "Sub", "Max"]), a, b)
    return s.emit(s.genes.pick(["Mul", "Add"]), [x, s.unary("Neg", c)], dims_of(x))


PIECES: tuple[Piece, ...] = (
    matmul, conv, matmuls, gemm, batch_norm, parallel, attention, reductions, pool, normalization,
    constants_only, conv,
)  # fmt: skip
