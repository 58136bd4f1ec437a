"""Interpolation along one axis in every form that ONNX's Resize has."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def interpolated(
    x: Tensor,
    axis: int,
    count: int,
    scale: float,
    *,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    rounding: str = "round_prefer_floor",
    cubic: float = -0.75,
    antialias: bool = False,
    exclude_outside: bool = False,
    window: Sequence[float] = (0.0, 1.0),
    outside: float = 0.0,
) -> Tensor:
    """`x` with `count` elements along an axis; `scale` is how many there are for one of `x`.

    `window` is the part of the axis that tf_crop_and_resize looks at, `outside` what it finds
    beyond the ends.
    """
    size = x.size(axis)
    places = _places(count, size, scale, coordinates, window, x.device)
    if mode == "nearest":
        nearest = _nearest(places, rounding).clamp(0, size - 1)
        y = torch.index_select(x, axis, nearest.long())
    else:
        first, weights = _taps(places, scale, mode, cubic, antialias)
        taps = first[:, None] + torch.arange(weights.size(1), device=x.device)
        if exclude_outside:
            weights = torch.where((taps < 0) | (taps >= size), 0.0, weights)
            weights = weights / weights.sum(1, keepdim=True)
        y = _weighted(x, axis, taps.clamp(0, size - 1).long(), weights)
    if coordinates != "tf_crop_and_resize":
        return y
    beyond = (places < 0) | (places > size - 1)
    shape = [-1 if k == axis else 1 for k in range(x.dim())]
    return torch.where(beyond.reshape(shape), torch.full_like(y, outside), y)


def _places(
    count: int,
    size: int,
    scale: float,
    coordinates: str,
    window: Sequence[float],
    device: torch.device,
) -> Tensor:
    """Where each element of the output lies in the input: float64[count]."""
    y = torch.arange(count, dtype=torch.float64, device=device)
    length = scale * size
    if coordinates == "asymmetric":
        return y / scale
    if coordinates == "align_corners":
        return y * 0 if length == 1 else y * (size - 1) / (length - 1)
    if coordinates == "tf_crop_and_resize":
        low, high = window
        span = (high - low) * (size - 1)
        inner = y * 0 + span / 2 if length == 1 else y * span / (length - 1)
        return inner + low * (size - 1)
    if coordinates == "pytorch_half_pixel" and length == 1:
        return y * 0 - 0.5
    places = (y + 0.5) / scale - 0.5
    if coordinates == "half_pixel_symmetric":
        places = places + size / 2 * (1 - count / length)
    return places


def _nearest(places: Tensor, rounding: str) -> Tensor:
    if rounding == "floor":
        return places.floor()
    if rounding == "ceil":
        return places.ceil()
    return (places - 0.5).ceil() if rounding == "round_prefer_floor" else (places + 0.5).floor()


def _taps(
    places: Tensor, scale: float, mode: str, cubic: float, antialias: bool
) -> tuple[Tensor, Tensor]:
    """The first element that each place reads, and the weights of it and the following ones."""
    radius = 2 if mode == "cubic" else 1
    shrink = min(scale, 1.0) if antialias else 1.0
    before = -math.floor(-radius / shrink) - 1
    offsets = torch.arange(-before, before + 2, device=places.device)
    # Half-open intervals: a place on an element takes it as the right end of its window.
    left = places.ceil() - 1
    distance = (offsets - (places - left)[:, None]).abs() * shrink
    if mode == "linear":
        weights = (1 - distance).clamp(min=0)
    else:
        near = ((cubic + 2) * distance - (cubic + 3)) * distance * distance + 1
        far = ((cubic * distance - 5 * cubic) * distance + 8 * cubic) * distance - 4 * cubic
        weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    if antialias:
        weights = weights / weights.sum(1, keepdim=True)
    return left - before, weights


def _weighted(x: Tensor, axis: int, taps: Tensor, weights: Tensor) -> Tensor:
    """Sums over the taps, in the type of `x` (integers by way of doubles)."""
    dtype = x.dtype
    x = x if dtype.is_floating_point else x.double()
    picked = torch.unflatten(torch.index_select(x, axis, taps.reshape(-1)), axis, taps.shape)
    shape = [1] * picked.dim()
    shape[axis], shape[axis + 1] = taps.shape
    y = (picked * weights.to(x.dtype).reshape(shape)).sum(axis + 1)
    return y.to(dtype)
