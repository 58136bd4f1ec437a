"""The sum of two affine maps of one value."""

from dataclasses import replace
from math import gcd

from addax.ir._affine import kernels
from addax.ir._affine.maps import Affine, Convolution, Dense, Diagonal
from addax.ir._affine.tensors import Tensor, added, expanded, eye, multiplied, reshaped


def add(a: Affine, b: Affine) -> Affine | None:
    """The sum of two maps of one value."""
    if isinstance(a, Diagonal) and isinstance(b, Diagonal):
        return _diagonal_sum(a, b)
    if isinstance(b, Diagonal):
        a, b = b, a
    if isinstance(a, Diagonal) and isinstance(b, Dense):
        return _dense_with_diagonal(b, a)
    if isinstance(a, Diagonal) and isinstance(b, Convolution):
        return _convolution_with_diagonal(b, a)
    if isinstance(a, Dense) and isinstance(b, Dense):
        same = a.weight.shape == b.weight.shape and a.axis == b.axis
        return Dense(added(a.weight, b.weight), a.axis) if same else None
    if isinstance(a, Convolution) and isinstance(b, Convolution):
        return _convolution_sum(a, b)
    return None


def _one(like: Tensor) -> Tensor:
    return Tensor((), lambda op: op.CastLike(1.0, like.build(op)))


def _vector(a: Diagonal, size: int, like: Tensor) -> Tensor:
    """The scales of a diagonal as a vector."""
    s = _one(like) if a.scale is None else a.scale
    return s if s.shape == (size,) else expanded(reshaped(s, (1,)), (size,))


def _diagonal_sum(a: Diagonal, b: Diagonal) -> Diagonal | None:
    axes = {a.axis, b.axis} - {None}
    like = a.scale or b.scale
    if len(axes) > 1:
        return None
    if like is None:
        return None  # x + x: the canonical spelling is a scale, which another rule writes
    left, right = (_one(like) if m.scale is None else m.scale for m in (a, b))
    return Diagonal(added(left, right), next(iter(axes), None))


def _dense_with_diagonal(dense: Dense, diagonal: Diagonal) -> Dense | None:
    rows, columns = dense.weight.shape
    if rows != columns or diagonal.axis not in {None, dense.axis}:
        return None
    square = eye(rows, dense.weight)
    if diagonal.scale is not None:
        square = multiplied(square, diagonal.scale)
    return Dense(added(dense.weight, square), dense.axis)


def _convolution_with_diagonal(conv: Convolution, diagonal: Diagonal) -> Convolution | None:
    """The identity is a kernel with one tap, where the padded kernel's own position is."""
    kernel = kernels.undilated(conv.weight, conv.dilations)
    taps = kernel.shape[2:]
    fits = all(b + e == k - 1 for b, e, k in zip(conv.begins, conv.ends, taps, strict=True))
    if not fits or set(conv.strides) != {1} or diagonal.axis not in {None, 1}:
        return None
    channels = kernel.shape[0]
    if channels != conv.inputs:
        return None
    scales = _vector(diagonal, channels, kernel)
    spot = kernels.point(scales, conv.groups, conv.begins, taps)
    return replace(conv, weight=added(kernel, spot), dilations=(1,) * len(taps), is_movement=False)


def _convolution_sum(a: Convolution, b: Convolution) -> Convolution | None:
    outputs = a.weight.shape[0] == b.weight.shape[0]
    if a.strides != b.strides or a.inputs != b.inputs or not outputs:
        return None
    groups = gcd(a.groups, b.groups)
    same = (a.taps, a.begins, a.ends, a.dilations) == (b.taps, b.begins, b.ends, b.dilations)
    left, right = (
        kernels.with_groups(
            m.weight if same else kernels.undilated(m.weight, m.dilations), m.groups, groups
        )
        for m in (a, b)
    )
    if same:
        return replace(a, weight=added(left, right), groups=groups, is_movement=False)
    begins = tuple(max(p) for p in zip(a.begins, b.begins, strict=True))
    shifts = [[p - q for p, q in zip(begins, m.begins, strict=True)] for m in (a, b)]
    taps = tuple(
        max(i + k, j + n)
        for i, k, j, n in zip(shifts[0], left.shape[2:], shifts[1], right.shape[2:], strict=True)
    )
    ends = [
        tuple(
            e + n - s - k for e, n, s, k in zip(m.ends, taps, shift, kernel.shape[2:], strict=True)
        )
        for m, shift, kernel in ((a, shifts[0], left), (b, shifts[1], right))
    ]
    if ends[0] != ends[1] or min(ends[0], default=0) < 0:
        return None
    weight = added(
        kernels.embedded(left, shifts[0], taps), kernels.embedded(right, shifts[1], taps)
    )
    return Convolution(weight, a.strides, begins, ends[0], (1,) * len(taps), groups)
