"""One affine map after another."""

from math import gcd

from addax.ir._affine import kernels
from addax.ir._affine.maps import Affine, Convolution, Dense, Diagonal
from addax.ir._affine.tensors import multiplied, product, reshaped


def compose(second: Affine, first: Affine) -> Affine | None:
    """The map that does `first`, then `second`."""
    if isinstance(first, Diagonal) and first.is_identity:
        return second
    if isinstance(second, Diagonal):
        return _scaled(second, first)
    if isinstance(first, Diagonal):
        return _of_scaled(second, first)
    if isinstance(second, Dense) and isinstance(first, Dense):
        return Dense(product(first.weight, second.weight), second.axis)
    if isinstance(second, Convolution) and isinstance(first, Convolution):
        return _convolved(second, first)
    return None


def _scaled(second: Diagonal, first: Affine) -> Affine | None:
    """A scale after a map."""
    s = second.scale
    if s is None:
        return first
    if isinstance(first, Diagonal):
        if first.scale is None:
            return second
        axes = {second.axis, first.axis} - {None}
        if len(axes) > 1:
            return None
        return Diagonal(multiplied(first.scale, s), next(iter(axes), None))
    if second.axis is None:
        return first.with_weight(multiplied(first.weight, s))
    if isinstance(first, Dense):
        return Dense(multiplied(first.weight, s), first.axis) if second.axis == first.axis else None
    if second.axis != 1:
        return None
    return first.with_weight(kernels.scaled_outputs(first.weight, s))


def _of_scaled(second: Dense | Convolution, first: Diagonal) -> Affine | None:
    """A map after a scale that is no identity."""
    s = first.scale
    if s is None:
        return second
    if first.axis is None:
        return second.with_weight(multiplied(second.weight, s))
    if isinstance(second, Dense):
        if first.axis != second.axis:
            return None
        return Dense(multiplied(second.weight, reshaped(s, (s.size, 1))), second.axis)
    if first.axis != 1:
        return None
    return second.with_weight(kernels.scaled_inputs(second.weight, s, second.groups))


def _convolved(second: Convolution, first: Convolution) -> Convolution | None:
    """A convolution after another; the zeros around the second's input must stay exact."""
    if second.is_padded and not first.is_pointwise:
        return None
    groups = gcd(second.groups, first.groups)
    if first.weight.shape[0] != second.inputs:
        return None
    inner = kernels.undilated(first.weight, first.dilations)
    weight = kernels.composed(
        kernels.with_groups(second.weight, second.groups, groups),
        kernels.with_groups(inner, first.groups, groups),
        groups,
        first.strides,
        second.dilations,
    )
    pads = second if first.is_pointwise else first
    return Convolution(
        weight,
        tuple(a * b for a, b in zip(first.strides, second.strides, strict=True)),
        pads.begins,
        pads.ends,
        (1,) * len(weight.shape[2:]),
        groups,
    )
