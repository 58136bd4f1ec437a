"""Pools over any number of spatial dimensions, one pass for each element of the kernel."""

from collections.abc import Sequence
from itertools import product as cartesian
from typing import Any

import numpy as np

from addax.ir._judge.arrays import Array, wide
from addax.ir._judge.ops.reduce import limits, mean, total
from addax.ir._judge.ops.window import Window, surrounded
from addax.ir._judge.table import Kernels, Site

KERNELS = Kernels()
TABLES = (KERNELS,)


def _taps(x: Array, window: Window, fill: Any) -> Any:
    """For each element of the kernel, its place and the part of x that it meets."""
    out = window.outputs()
    x = surrounded(x, window.before, window.after(out), fill)
    for tap in cartesian(*map(range, window.kernel)):
        yield tap, x[(slice(None), slice(None), *window.at(tap, out))]


@KERNELS.op("MaxPool")
def max_pool(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] = (),
    pads: Sequence[int] = (),
    storage_order: int = 0,
    strides: Sequence[int] = (),
    site: Site,
) -> Any:
    """The largest element of each window, and where in X it is."""
    window = Window.of(
        x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, bool(ceil_mode)
    )
    lowest = limits(x.dtype)[0]
    if site.outputs > 1:
        return _max_and_places(x, window, lowest, storage_order)
    y = np.full((*x.shape[:2], *window.outputs()), lowest, dtype=x.dtype)
    for _, part in _taps(x, window, lowest):
        np.maximum(y, part, out=y)
    return y


def _max_and_places(x: Array, window: Window, lowest: Any, storage_order: int) -> tuple[Any, Any]:
    out = window.outputs()
    y = np.full((*x.shape[:2], *out), lowest, dtype=x.dtype)
    places = np.zeros(y.shape, dtype=np.int64)
    sizes = x.shape[2:]
    steps = np.cumprod([1, *(sizes[:-1] if storage_order else sizes[:0:-1])])
    steps = steps if storage_order else steps[::-1]
    for tap, part in _taps(x, window, lowest):
        better = part > y
        place: Any = 0
        for axis, step in enumerate(steps.tolist()):
            start = tap[axis] * window.dilations[axis] - window.before[axis]
            line = (np.arange(out[axis]) * window.strides[axis] + start) * step
            place = place + line.reshape([-1 if i == axis else 1 for i in range(len(out))])
        y = np.where(better, part, y)
        places = np.where(better, place, places)
    images = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1,) * len(out))
    return y, places + images * int(np.prod(sizes))


@KERNELS.op("AveragePool")
def average_pool(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Any:
    """The mean of each window, over its elements in X or in X and its padding."""
    window = Window.of(
        x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, bool(ceil_mode)
    )
    y = sum(part for _, part in _taps(wide(x), window, 0))
    return (y / _counts(window, count_include_pad).astype(y.dtype)).astype(x.dtype, copy=False)


def _counts(window: Window, count_include_pad: int) -> Any:
    """How many elements each window holds: a product of counts along each dimension."""
    counts: Any = np.ones(())
    for axis, count in enumerate(window.outputs()):
        starts = np.arange(count) * window.strides[axis] - window.before[axis]
        taps = starts[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        low = -window.before[axis] if count_include_pad else 0
        high = window.sizes[axis] + (window.behind[axis] if count_include_pad else 0)
        inside = ((taps >= low) & (taps < high)).sum(axis=1)
        counts = np.multiply.outer(counts, inside)
    return counts


@KERNELS.op("LpPool")
def lp_pool(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    p: float = 2,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Any:
    """(sum |x|**p)**(1/p) over each window."""
    window = Window.of(
        x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, bool(ceil_mode)
    )
    powers = (np.abs(part) ** p for _, part in _taps(wide(x), window, 0))
    return (sum(powers) ** (1 / p)).astype(x.dtype, copy=False)


def _spatial(x: Array) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@KERNELS.op("GlobalAveragePool")
def global_average_pool(x: Array) -> Any:
    """The mean over all spatial dimensions."""
    return mean(wide(x), _spatial(x), True).astype(x.dtype, copy=False)


@KERNELS.op("GlobalMaxPool")
def global_max_pool(x: Array) -> Any:
    """The largest element over all spatial dimensions."""
    return np.maximum.reduce(x, axis=_spatial(x), keepdims=True)


@KERNELS.op("GlobalLpPool")
def global_lp_pool(x: Array, *, p: float = 2) -> Any:
    """(sum |x|**p)**(1/p) over all spatial dimensions."""
    powers = np.abs(wide(x)) ** p
    return (total(powers, _spatial(x), True) ** (1 / p)).astype(x.dtype, copy=False)
