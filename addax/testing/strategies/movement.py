"""Pieces of random graphs that move elements: transposes, reshapes, splits, shapes computed."""

from collections.abc import Callable
from math import prod

import numpy as np
import onnx_ir as ir

from addax.testing.strategies.sketch import Dims, Sketch, at_least, dims_of, static

Piece = Callable[[Sketch], object]


def transpose(s: Sketch, x: ir.Value | None = None) -> ir.Value:
    """Some permutation; the reversal may be left to the default."""
    x = s.operand(at_least(2)) if x is None else x
    dims = dims_of(x)
    order = list(range(len(dims)))
    match s.genes.below(3):
        case 0:
            order[-1], order[-2] = order[-2], order[-1]
        case 1:
            order = order[1:] + order[:1]
        case _:
            return s.emit("Transpose", [x], dims[::-1])
    return s.emit("Transpose", [x], tuple(dims[i] for i in order), perm=order)


def transposes(s: Sketch) -> ir.Value:
    """Two in a row, perhaps with something elementwise between them."""
    x = transpose(s)
    if s.genes.flip():
        x = s.unary(s.genes.pick(["Relu", "Neg", "Sigmoid"]), x)
    return transpose(s, x)


def reshape(s: Sketch, x: ir.Value | None = None) -> ir.Value:
    """To a constant target, with -1 and 0 in it where they are clear."""
    x = s.operand(at_least(1)) if x is None else x
    target, dims = _target(s, dims_of(x))
    return s.emit("Reshape", [x, s.constant(np.array(target, np.int64))], dims)


def _target(s: Sketch, dims: Dims) -> tuple[list[int], Dims]:
    """A reshape that keeps the first dimension, or flattens all of a static shape."""
    rest = dims[1:]
    if static(dims) and s.genes.flip():
        size = prod(int(d) for d in dims)
        return s.genes.pick([([-1], (size,)), ([1, -1], (1, size)), ([size, 1], (size, 1))])
    if rest and static(rest):
        size = prod(int(d) for d in rest)
        if 0 in dims:
            return [0, size], (dims[0], size)
        if isinstance(dims[0], int):
            return s.genes.pick([([dims[0], size], (dims[0], size)), ([0, -1], (dims[0], size))])
        return s.genes.pick([([0, size], (dims[0], size)), ([-1, size], (dims[0], size))])
    return [0] * len(dims), dims


def reshapes(s: Sketch) -> ir.Value:
    """Two in a row."""
    return reshape(s, reshape(s))


def reshape_by_shape(s: Sketch) -> ir.Value:
    """As exporters flatten: Concat(Gather(Shape(x), 0), -1)."""
    x = s.operand(at_least(2, known=1))
    dims = dims_of(x)
    if not static(dims[1:]) or dims[0] == 0:
        return s.unary("Identity", x)
    int64 = ir.DataType.INT64
    shape = s.emit("Shape", [x], (len(dims),), int64)
    first = s.emit("Gather", [shape, s.constant(np.array(0))], (), int64, axis=0)
    one = s.constant(np.array([0], np.int64))
    row = s.emit("Unsqueeze", [first, one], (1,), int64)
    rest = s.constant(np.array([-1], np.int64))
    target = s.emit("Concat", [row, rest], (2,), int64, axis=0)
    return s.emit("Reshape", [x, target], (dims[0], prod(int(d) for d in dims[1:])))


def squeeze(s: Sketch) -> ir.Value:
    """Unsqueeze, perhaps something elementwise, and Squeeze or another Unsqueeze."""
    x = s.operand()
    dims = dims_of(x)
    axis = s.genes.pick([0, len(dims), -1])
    axes = s.constant(np.array([axis], np.int64))
    at = axis % (len(dims) + 1)
    y = s.emit("Unsqueeze", [x, axes], (*dims[:at], 1, *dims[at:]))
    if s.genes.flip(0.3):
        y = s.unary("Relu", y)
    if s.genes.flip(0.2):
        return y
    same = axes if s.genes.flip() else s.constant(np.array([at], np.int64))
    return s.emit("Squeeze", [y, same], dims)


def split_and_join(s: Sketch) -> ir.Value:
    """Split along an even axis; join again, or use the halves apart."""
    x = s.operand(at_least(1))
    dims = dims_of(x)
    axis = next((i for i, d in enumerate(dims) if isinstance(d, int) and d and d % 2 == 0), None)
    if axis is None:
        return s.unary("Identity", x)
    half = int(dims[axis]) // 2
    part = (*dims[:axis], half, *dims[axis + 1 :])
    sizes = s.constant(np.array([half, half], np.int64))
    a, b = s.emit("Split", [x, sizes], [part, part], axis=axis, outputs=2)
    match s.genes.below(4):
        case 0:
            return s.emit("Concat", [a, b], dims, axis=axis)
        case 1:
            return s.emit("Concat", [b, a], dims, axis=axis)
        case 2:
            return transpose(s, a) if len(part) > 1 else a
        case _:
            return s.binary("Mul", a, s.unary("Sigmoid", b))


def concat(s: Sketch) -> ir.Value:
    """A value beside itself, or beside its negation."""
    x = s.operand(at_least(1, known=1))
    dims = dims_of(x)
    other = x if s.genes.flip() else s.unary("Neg", x)
    wide = (*dims[:-1], 2 * int(dims[-1]))
    return s.emit("Concat", [x, other], wide, axis=s.genes.pick([-1, len(dims) - 1]))


def slice_(s: Sketch) -> ir.Value:
    """A part along the last axis, or all of it."""
    x = s.operand(at_least(1, known=1))
    dims = dims_of(x)
    size = int(dims[-1])
    start, end, step = s.genes.pick(
        [(0, 2**31, 1), (0, size, 1), (0, 1, 1), (-1, -size - 1, -1), (0, size, 2)]
    )
    made = len(range(size)[slice(start, None if end == -size - 1 else end, step)])
    parts = [s.constant(np.array([n], np.int64)) for n in (start, end, len(dims) - 1, step)]
    return s.emit("Slice", [x, *parts], (*dims[:-1], made))


def gather(s: Sketch) -> ir.Value:
    """Rows by constant indices: one, a list, all of them in order."""
    x = s.operand(at_least(1, known=1))
    dims = dims_of(x)
    size = int(dims[-1])
    indices = s.genes.pick([np.arange(size), np.array([0, -1]), np.array(0), np.array([[0]])])
    return s.emit("Gather", [x, s.constant(indices)], (*dims[:-1], *indices.shape), axis=-1)


def grow(s: Sketch) -> ir.Value:
    """Expand, Tile or Pad, often by nothing."""
    x = s.operand(at_least(1))
    dims = dims_of(x)
    rank = len(dims)
    match s.genes.below(4):
        case 0:
            return s.emit("Expand", [x, s.constant(np.ones(rank, np.int64))], dims)
        case 1:
            return s.emit("Tile", [x, s.constant(np.ones(rank, np.int64))], dims)
        case 2:
            pads = s.constant(np.zeros(2 * rank, np.int64))
            return s.emit("Pad", [x, pads], dims)
        case _:
            target = s.constant(np.array([2, *[1] * rank], np.int64))
            return s.emit("Expand", [x, target], (2, *dims))


def flatten(s: Sketch) -> ir.Value:
    """Flatten from some axis."""
    x = s.operand(at_least(2))
    dims = dims_of(x)
    if not static(dims[1:]):
        return transpose(s, x)
    return s.emit("Flatten", [x], (dims[0], prod(int(d) for d in dims[1:])), axis=1)


def repeats(s: Sketch) -> ir.Value:
    """The same movement computed twice by equal nodes."""
    x = s.operand(at_least(2))
    dims = dims_of(x)
    swapped: Dims = (*dims[:-2], dims[-1], dims[-2])
    order = [*range(len(dims) - 2), len(dims) - 1, len(dims) - 2]
    first, second = (s.emit("Transpose", [x], swapped, perm=order) for _ in range(2))
    return s.binary("Add", first, second)


PIECES: tuple[Piece, ...] = (
    transpose, transposes, reshape, reshapes, reshape_by_shape, squeeze, split_and_join, concat,
    slice_, gather, grow, flatten, repeats,
)  # fmt: skip
