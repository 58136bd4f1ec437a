"""Normalizations. Halves are computed in float32 and rounded once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from addax.ir._judge.arrays import Array, wide
from addax.ir._judge.ops.reduce import mean, total
from addax.ir._judge.table import Kernels, Site

KERNELS = Kernels()
TABLES = (KERNELS,)

EPSILON = 9.999999747378752e-06
"""1e-5 as ONNX stores it: the float32 nearest to it."""


def along_channels(v: Array, rank: int) -> Array:
    """A vector over channels, shaped to broadcast with x[N, C, *D]."""
    return v.reshape(1, -1, *(1,) * (rank - 2)) if rank > 1 else v


def standardized(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Any, Any, Any]:
    """(x - mean) / sqrt(variance + epsilon) over `axes`, the mean, and 1 / sqrt(...)."""
    average = mean(x, axes, True)
    y = x - average
    inverse = 1 / np.sqrt(mean(np.square(y), axes, True) + x.dtype.type(epsilon))
    y *= inverse
    return y, average, inverse


def last_axes(x: Array, axis: int) -> tuple[int, ...]:
    """The axes from `axis` on."""
    return tuple(range(axis % x.ndim, x.ndim))


@KERNELS.op("LayerNormalization")
def layer_normalization(
    x: Array,
    scale: Array,
    bias: Array | None = None,
    *,
    axis: int = -1,
    epsilon: float = EPSILON,
    stash_type: int = 1,
    site: Site,
) -> Any:
    """LayerNormalization: scale (x - mean) / sqrt(variance + epsilon) + bias from `axis` on."""
    del stash_type
    y, average, inverse = standardized(wide(x), last_axes(x, axis), epsilon)
    y = y * wide(scale)
    if bias is not None:
        y += wide(bias)
    y = y.astype(scale.dtype, copy=False)  # the type of X too in ONNX, not in ONNX Runtime's own
    return (y, average, inverse)[: max(site.outputs, 1)]


def rms_normalized(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Any, Any]:
    """Both x / sqrt(mean(x**2) + epsilon) over `axes`, and 1 / sqrt(...)."""
    inverse = 1 / np.sqrt(mean(np.square(x), axes, True) + x.dtype.type(epsilon))
    return x * inverse, inverse


@KERNELS.op("RMSNormalization", "SimplifiedLayerNormalization")
def rms_normalization(
    x: Array,
    scale: Array,
    *,
    axis: int = -1,
    epsilon: float = EPSILON,
    stash_type: int = 1,
    site: Site,
) -> Any:
    """RMSNormalization: scale x / sqrt(mean(x**2) + epsilon) over dimensions from `axis` on."""
    del stash_type
    y, inverse = rms_normalized(wide(x), last_axes(x, axis), epsilon)
    y = (y * wide(scale)).astype(scale.dtype, copy=False)
    return (y, inverse)[: max(site.outputs, 1)]


@KERNELS.op("BatchNormalization")
def batch_normalization(
    x: Array,
    scale: Array,
    bias: Array,
    mean_in: Array,
    variance_in: Array,
    *,
    epsilon: float = EPSILON,
    momentum: float = 0.8999999761581421,
    training_mode: int = 0,
    spatial: int = 1,
    is_test: int = 0,
    consumed_inputs: Sequence[int] = (),
    site: Site,
) -> Any:
    """BatchNormalization: scale (x - mean) / sqrt(variance + epsilon) + bias for each channel.

    Statistics are the given ones, or in training those of the batch, which then also move the
    running ones: momentum old + (1 - momentum) new. Before opset 14 more outputs than one mean
    training; before opset 9 `spatial=0` asked for statistics of each element.
    """
    del consumed_inputs
    training = bool(training_mode) or (site.opset < 14 and not is_test and site.outputs > 1)
    axes = (0, *range(2, x.ndim)) if spatial else (0,)

    def shaped(v: Array) -> Array:
        return along_channels(wide(v), x.ndim) if spatial else wide(v)[None]

    values = wide(x)
    average, variance = shaped(mean_in), shaped(variance_in)
    running: tuple[Any, ...] = ()
    if training:
        batch_average = mean(values, axes, True)
        batch_variance = mean(np.square(values - batch_average), axes, True)
        pairs = ((average, batch_average), (variance, batch_variance))
        moved = (old * momentum + new * (1 - momentum) for old, new in pairs)
        running = tuple(v.reshape(mean_in.shape).astype(mean_in.dtype) for v in moved)
        average, variance = batch_average, batch_variance
        if site.opset < 14:
            running += tuple(v.reshape(mean_in.shape) for v in (average, variance))
    y = values - average
    y *= shaped(scale) / np.sqrt(variance + values.dtype.type(epsilon))
    y += shaped(bias)
    return (y.astype(x.dtype, copy=False), *running)


@KERNELS.op("InstanceNormalization")
def instance_normalization(
    x: Array,
    scale: Array,
    bias: Array,
    *,
    epsilon: float = EPSILON,
    consumed_inputs: Sequence[int] = (),
) -> Any:
    """InstanceNormalization: BatchNormalization with the statistics of each instance alone."""
    del consumed_inputs
    y, _, _ = standardized(wide(x), tuple(range(2, x.ndim)), epsilon)
    y = y * along_channels(wide(scale), x.ndim) + along_channels(wide(bias), x.ndim)
    return y.astype(x.dtype, copy=False)


@KERNELS.op("GroupNormalization", since=18)
def group_normalization(
    x: Array,
    scale: Array,
    bias: Array,
    *,
    num_groups: int,
    epsilon: float = EPSILON,
    stash_type: int = 1,
    site: Site,
) -> Any:
    """As InstanceNormalization over groups of channels.

    Scale and bias are of each channel, before opset 21 of each group.
    """
    del stash_type
    grouped = wide(x).reshape(x.shape[0], num_groups, -1)
    y, _, _ = standardized(grouped, (2,), epsilon)
    if site.opset < 21:
        y = y * wide(scale)[:, None] + wide(bias)[:, None]
        return y.reshape(x.shape).astype(x.dtype, copy=False)
    y = y.reshape(x.shape) * along_channels(wide(scale), x.ndim)
    return (y + along_channels(wide(bias), x.ndim)).astype(x.dtype, copy=False)


@KERNELS.op("LpNormalization")
def lp_normalization(x: Array, *, axis: int = -1, p: int = 2) -> Any:
    """LpNormalization: x / (sum |x|**p)**(1/p) along `axis`; zero where that is zero."""
    norm = total(np.abs(wide(x)) ** p, (axis,), True) ** (1 / p)
    return np.where(norm == 0, 0, wide(x) / norm).astype(x.dtype)


@KERNELS.op("LRN")
def local_response_normalization(
    x: Array,
    *,
    size: int,
    alpha: float = 9.999999747378752e-05,
    beta: float = 0.75,
    bias: float = 1.0,
) -> Any:
    """LRN: x / (bias + alpha / size sum x**2)**beta, the sum over `size` channels around each."""
    squares = np.square(wide(x))
    sums = np.zeros_like(squares)
    channels = x.shape[1]
    for shift in range(-((size - 1) // 2), size // 2 + 1):
        low, high = max(0, -shift), min(channels, channels - shift)
        if low < high:
            sums[:, low:high] += squares[:, low + shift : high + shift]
    return (wide(x) / (bias + alpha / size * sums) ** beta).astype(x.dtype, copy=False)
