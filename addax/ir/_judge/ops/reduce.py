"""Reductions. Axes come from an attribute in older opsets and from an input in newer ones."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from addax.ir._judge.arrays import HALF, Array, wide
from addax.ir._judge.ops.layout import numbers
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)

Axes: TypeAlias = tuple[int, ...] | None

_ADD: Callable[..., Any] = np.add.reduce
_MULTIPLY: Callable[..., Any] = np.multiply.reduce
_MAXIMUM: Callable[..., Any] = np.maximum.reduce
_MINIMUM: Callable[..., Any] = np.minimum.reduce


def _add(name: str, call: Callable[[Array, Axes, bool], Any], noop: Callable[[Array], Any]) -> None:
    """Registers a reduction; `noop` is what it does to each element where it reduces nothing."""

    def reduction(
        x: Array,
        where: Array | None = None,
        /,
        *,
        axes: Sequence[int] | None = None,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Any:
        chosen = numbers(where) if where is not None else numbers(axes or ())
        if not chosen and noop_with_empty_axes:
            return np.asarray(noop(wide(x))).astype(x.dtype, copy=False)
        result = call(wide(x), chosen or None, bool(keepdims))
        return np.asarray(result).astype(x.dtype, copy=False)

    KERNELS.add(name, reduction)


def _same(x: Array) -> Any:
    return x


def total(x: Array, axes: Axes, keepdims: bool) -> Any:
    """The sum, in the type of `x`."""
    return _ADD(x, axis=axes, keepdims=keepdims, dtype=x.dtype)


def mean(x: Array, axes: Axes, keepdims: bool) -> Any:
    """The mean; of integers rounded towards zero, of nothing NaN."""
    count = x.size if axes is None else int(np.prod([x.shape[a] for a in axes]))
    if x.dtype.kind == "f":
        return np.true_divide(total(x, axes, keepdims), x.dtype.type(count))
    return np.trunc(_ADD(x, axis=axes, keepdims=keepdims, dtype=np.float64) / count)


def _product(x: Array, axes: Axes, keepdims: bool) -> Any:
    return _MULTIPLY(x, axis=axes, keepdims=keepdims, dtype=x.dtype)


def limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The smallest and largest value of a number format, infinities included."""
    if dtype.kind == "b":
        return False, True
    if dtype.kind == "f" or dtype in HALF:
        return -np.inf, np.inf
    info: Any = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    return info.min, info.max


def _largest(x: Array, axes: Axes, keepdims: bool) -> Any:
    if x.size == 0:
        return _MAXIMUM(x, axis=axes, keepdims=keepdims, initial=limits(x.dtype)[0])
    return _MAXIMUM(x, axis=axes, keepdims=keepdims)


def _smallest(x: Array, axes: Axes, keepdims: bool) -> Any:
    if x.size == 0:
        return _MINIMUM(x, axis=axes, keepdims=keepdims, initial=limits(x.dtype)[1])
    return _MINIMUM(x, axis=axes, keepdims=keepdims)


def _sum_of_squares(x: Array, axes: Axes, keepdims: bool) -> Any:
    return total(np.square(x), axes, keepdims)


def _log_sum_exp(x: Array, axes: Axes, keepdims: bool) -> Any:
    x = x if x.dtype.kind == "f" else x.astype(np.float64)
    high = _largest(x, axes, True)
    high = np.where(np.isfinite(high), high, 0)
    result = np.log(total(np.exp(x - high), axes, True)) + high
    return result if keepdims else np.squeeze(result, axes)


_add("ReduceSum", total, _same)
_add("ReduceMean", mean, _same)
_add("ReduceProd", _product, _same)
_add("ReduceMax", _largest, _same)
_add("ReduceMin", _smallest, _same)
_add("ReduceL1", lambda x, axes, keep: total(np.abs(x), axes, keep), np.abs)
_add("ReduceL2", lambda x, axes, keep: np.sqrt(_sum_of_squares(x, axes, keep)), np.abs)
_add("ReduceSumSquare", _sum_of_squares, np.square)
_add("ReduceLogSum", lambda x, axes, keep: np.log(total(x, axes, keep)), np.log)
_add("ReduceLogSumExp", _log_sum_exp, _same)
