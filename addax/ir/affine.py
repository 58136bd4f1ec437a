"""Constant affine maps as one algebra: compose, add, scale, take, and what they cost.

Algebra     (A2 x + b2) o (A1 x + b1) = A2 A1 x + (A2 b1 + b2);  (A1 + A2) x;  scalars s A
Source      RepVGG (2101.03697), DBB (2103.13425), ACNet (1908.03930), MobileOne (2206.04040)
Exactness   reassociated; every constant is computed in float64 and rounded once

A map is a `Diagonal`, a `Dense` matrix on the last axis, or a `Convolution` on axes 2 and up with
channels on axis 1. Average pools and zero pads are depthwise convolutions. Operations return None
where the result is no map of these kinds, or would not be exact at a border. Weights are
`Tensor`s: expressions that are computed when a map is built, not before.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

from addax.ir._affine.adding import add
from addax.ir._affine.composing import compose
from addax.ir._affine.maps import IDENTITY, Affine, Convolution, Dense, Diagonal
from addax.ir._affine.tensors import (
    Tensor,
    added,
    expanded,
    given,
    multiplied,
    negated,
    product,
    reshaped,
    taken,
)

__all__ = [
    "IDENTITY",
    "Affine",
    "Convolution",
    "Dense",
    "Diagonal",
    "Tensor",
    "add",
    "added",
    "apply_to_constant",
    "build",
    "compose",
    "expanded",
    "feed",
    "given",
    "multiplies",
    "negated",
    "reshaped",
    "scale",
    "take",
    "weights",
]


def take(a: Affine, indices: Sequence[int], axis: int) -> Affine | None:
    """The map to some of the channels that a map makes: places `indices` of `axis`."""
    if isinstance(a, Dense) and axis == a.axis:
        return Dense(taken(a.weight, indices, 1), a.axis)
    if isinstance(a, Convolution) and axis == 1 and a.groups == 1:
        return a.with_weight(taken(a.weight, indices, 0))
    return None


def feed(a: Affine, indices: Sequence[int], axis: int) -> Affine | None:
    """The map that gets only some of its input channels, the others being zero."""
    if isinstance(a, Dense) and axis == a.axis:
        return Dense(taken(a.weight, indices, 0), a.axis)
    if isinstance(a, Convolution) and axis == 1 and a.groups == 1:
        return a.with_weight(taken(a.weight, indices, 1))
    if isinstance(a, Diagonal) and (a.axis is None or a.axis != axis):
        return a
    if isinstance(a, Diagonal) and a.scale is not None:
        return Diagonal(taken(a.scale, indices, 0), a.axis)
    return None


def scale(a: Affine, number: float) -> Affine | None:
    """The map times a number."""
    if number == 1:
        return a
    if isinstance(a, Diagonal) and a.scale is None:
        return None
    like = a.scale if isinstance(a, Diagonal) else a.weight
    if like is None:
        return None
    factor = Tensor((), lambda op: op.CastLike(float(number), like.build(op)))
    return compose(Diagonal(factor), a)


def apply_to_constant(
    a: Affine, b: Tensor, source: Sequence[int | None], rank: int
) -> Tensor | None:
    """What a map makes of a constant b, of full rank and broadcast where it is 1.

    Args:
        a: The map.
        b: The constant.
        source: The shape of the map's input; None where it is not known.
        rank: Of the values.
    """
    if isinstance(a, Diagonal):
        if a.scale is None:
            return b
        if a.axis is None:
            return multiplied(b, a.scale)
        shape = [1] * rank
        shape[a.axis] = a.scale.size
        return multiplied(b, reshaped(a.scale, shape))
    if isinstance(a, Dense):
        rows = a.weight.shape[0]
        return product(expanded(b, (*b.shape[:-1], rows)), a.weight)
    return _convolved_constant(a, b, source)


def _convolved_constant(a: Convolution, b: Tensor, source: Sequence[int | None]) -> Tensor | None:
    flat = set(b.shape[2:]) <= {1}
    if flat and not a.is_padded:
        wide = tuple((k - 1) * d + 1 for k, d in zip(a.taps, a.dilations, strict=True))
        spatial: Sequence[int | None] = wide
        strides = [1] * len(wide)
    else:
        spatial, strides = list(source[2:]), list(a.strides)
    if b.shape[0] != 1 or any(d is None for d in spatial):
        return None
    sizes = [d for d in spatial if d is not None]
    image = expanded(b, (1, a.inputs, *sizes))
    pads = [*a.begins, *a.ends]
    outputs = [
        (n + p + q - (k - 1) * d - 1) // s + 1
        for n, p, q, k, d, s in zip(
            sizes, a.begins, a.ends, a.taps, a.dilations, strides, strict=True
        )
    ]
    return Tensor(
        (1, a.weight.shape[0], *outputs),
        lambda op: op.Conv(
            image.build(op),
            a.weight.build(op),
            strides=strides,
            pads=pads,
            dilations=list(a.dilations),
            group=a.groups,
        ),
    )


def multiplies(a: Affine, outputs: int) -> int:
    """Multiplications to make `outputs` elements."""
    if isinstance(a, Diagonal):
        return 0 if a.is_identity else outputs
    if isinstance(a, Dense):
        return outputs * a.weight.shape[0]
    return 0 if a.is_movement else outputs * prod(a.weight.shape[1:])


def weights(a: Affine) -> int:
    """Elements of constants that the map reads."""
    if isinstance(a, Diagonal):
        return 0 if a.scale is None else a.scale.size
    return a.weight.size


def build(op: Any, a: Affine, x: Any, rank: int, bias: Tensor | None = None) -> Any:
    """The nodes that compute the map, with a bias [1, O, 1, ...] of a convolution."""
    if isinstance(a, Diagonal):
        if a.scale is None:
            return x
        if a.axis is None:
            return op.Mul(x, reshaped(a.scale, ()).build(op))
        shape = (a.scale.size, *[1] * (rank - 1 - a.axis))
        return op.Mul(x, reshaped(a.scale, shape).build(op))
    if isinstance(a, Dense):
        return op.MatMul(x, a.weight.build(op))
    operands = [x, a.weight.build(op)]
    if bias is not None:
        operands.append(expanded(reshaped(bias, (bias.size,)), (a.weight.shape[0],)).build(op))
    return op.Conv(
        *operands,
        kernel_shape=list(a.taps),
        strides=list(a.strides),
        pads=[*a.begins, *a.ends],
        dilations=list(a.dilations),
        group=a.groups,
    )
