"""Means and normalizations: rational but for the square root, an oracle."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from addax.errors import UnsupportedOpError
from addax.ir._field.ops.activation import number
from addax.ir._field.ops.arithmetic import exponential, quotient, square_root
from addax.ir._field.reductions import add_reduction
from addax.ir._field.residues import PRIME, Residues, inverse
from addax.ir._field.table import FieldSite
from addax.ir._judge.ops.norm import EPSILON, along_channels, last_axes
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)


def mean(x: Residues, axes: tuple[int, ...]) -> Residues:
    """The mean over `axes`, which stay with size 1."""
    count = prod(x.shape[a] for a in axes)
    return np.asarray(x.sum(axis=axes, keepdims=True) % PRIME * quotient(count) % PRIME)


def inverse_root(x: Residues, epsilon: float, site: FieldSite) -> Residues:
    """1 / sqrt(x + epsilon)."""
    return inverse(square_root((x + number(epsilon)) % PRIME, site=site))


def standardized(
    x: Any, axes: tuple[int, ...], epsilon: float, site: FieldSite
) -> tuple[Residues, Residues, Residues]:
    """(x - mean) / sqrt(variance + epsilon) over `axes`, the mean, and 1 / sqrt(...)."""
    x = np.asarray(x)
    average = mean(x, axes)
    y = (x - average) % PRIME
    scale = inverse_root(mean(y * y % PRIME, axes), epsilon, site)
    return y * scale % PRIME, average, scale


def _sum_of_squares(x: Residues, axes: tuple[int, ...], site: FieldSite) -> Residues:
    return np.asarray((x * x % PRIME).sum(axis=axes, keepdims=True) % PRIME)


add_reduction(KERNELS, "ReduceMean", lambda x, axes, site: mean(x, axes))
add_reduction(KERNELS, "ReduceSumSquare", _sum_of_squares)
add_reduction(
    KERNELS,
    "ReduceL2",
    lambda x, axes, site: square_root(_sum_of_squares(x, axes, site), site=site),
)


@KERNELS.op("GlobalAveragePool")
def global_average_pool(x: Any) -> Any:
    """The mean over all spatial dimensions."""
    return mean(np.asarray(x), tuple(range(2, x.ndim)))


@KERNELS.op("LayerNormalization")
def layer_normalization(
    x: Any,
    scale: Any,
    bias: Any = None,
    *,
    axis: int = -1,
    epsilon: float = EPSILON,
    stash_type: int = 1,
    site: FieldSite,
) -> Any:
    """LayerNormalization: scale (x - mean) / sqrt(variance + epsilon) + bias from `axis` on."""
    y, average, deviation = standardized(x, last_axes(x, axis), epsilon, site)
    return (affine(y, scale, bias), average, deviation)[: max(site.outputs, 1)]


def affine(y: Residues, scale: Any, bias: Any) -> Residues:
    """scale y + bias, if there is one."""
    y = y * np.asarray(scale) % PRIME
    return y if bias is None else (y + np.asarray(bias)) % PRIME


@KERNELS.op("RMSNormalization", "SimplifiedLayerNormalization")
def rms_normalization(
    x: Any,
    scale: Any,
    *,
    axis: int = -1,
    epsilon: float = EPSILON,
    stash_type: int = 1,
    site: FieldSite,
) -> Any:
    """RMSNormalization: scale x / sqrt(mean(x**2) + epsilon) over dimensions from `axis` on."""
    x = np.asarray(x)
    deviation = inverse_root(mean(x * x % PRIME, last_axes(x, axis)), epsilon, site)
    return (affine(x * deviation % PRIME, scale, None), deviation)[: max(site.outputs, 1)]


@KERNELS.op("BatchNormalization")
def batch_normalization(
    x: Any,
    scale: Any,
    bias: Any,
    average: Any,
    variance: Any,
    *,
    epsilon: float = EPSILON,
    momentum: float = 0.9,
    training_mode: int = 0,
    spatial: int = 1,
    site: FieldSite,
) -> Any:
    """BatchNormalization: scale (x - mean) / sqrt(variance + epsilon) + bias for each channel."""
    if training_mode or not spatial or (site.opset < 14 and site.outputs > 1):
        raise UnsupportedOpError("BatchNormalization in training is not known here")
    factor = np.asarray(scale) * inverse_root(np.asarray(variance), epsilon, site) % PRIME
    centred = (np.asarray(x) - along_channels(np.asarray(average), x.ndim)) % PRIME
    return affine(centred, along_channels(factor, x.ndim), along_channels(np.asarray(bias), x.ndim))


@KERNELS.op("InstanceNormalization")
def instance_normalization(
    x: Any, scale: Any, bias: Any, *, epsilon: float = EPSILON, site: FieldSite
) -> Any:
    """InstanceNormalization: BatchNormalization with the statistics of each instance alone."""
    y, _, _ = standardized(x, tuple(range(2, x.ndim)), epsilon, site)
    vectors = (along_channels(np.asarray(v), x.ndim) for v in (scale, bias))
    return affine(y, *vectors)


@KERNELS.op("Softmax", since=13)
def softmax(x: Any, *, axis: int = -1, site: FieldSite) -> Any:
    """exp(x) / sum exp(x) along `axis`."""
    y = exponential(x, site=site)
    return y * inverse(y.sum(axis=axis, keepdims=True) % PRIME) % PRIME


@KERNELS.op("LogSoftmax", since=13)
def log_softmax(x: Any, *, axis: int = -1, site: FieldSite) -> Any:
    """X - log sum exp(x) along `axis`."""
    sums = exponential(x, site=site).sum(axis=axis, keepdims=True) % PRIME
    return (np.asarray(x) - site.oracle("Log", sums)) % PRIME


def _flattening(call: Callable[..., Any]) -> Callable[..., Any]:
    """Before opset 13 the dimensions from `axis` on count as one."""

    def flattened(x: Any, *, axis: int = 1, site: FieldSite) -> Any:
        rows = prod(x.shape[: axis % x.ndim])
        return call(np.asarray(x).reshape(rows, -1), site=site).reshape(x.shape)

    return flattened


KERNELS.add("Softmax", _flattening(softmax))
KERNELS.add("LogSoftmax", _flattening(log_softmax))
