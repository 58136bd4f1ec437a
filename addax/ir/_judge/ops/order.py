"""Ops that sort, rank, or accumulate in order."""

from typing import Any

import numpy as np

from addax.ir._judge.arrays import Array, wide
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)


def _extreme(x: Array, axis: int, keepdims: int, select_last_index: int, *, largest: bool) -> Any:
    find = np.argmax if largest else np.argmin
    x = wide(x)
    if select_last_index:
        found = x.shape[axis] - 1 - find(np.flip(x, axis), axis=axis)
    else:
        found = find(x, axis=axis)
    found = np.asarray(found, dtype=np.int64)
    return np.expand_dims(found, axis) if keepdims else found


@KERNELS.op("ArgMax")
def arg_max(x: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Any:
    """Where the largest element along `axis` is: the first, or the last such place."""
    return _extreme(x, axis, keepdims, select_last_index, largest=True)


@KERNELS.op("ArgMin")
def arg_min(x: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Any:
    """Where the smallest element along `axis` is: the first, or the last such place."""
    return _extreme(x, axis, keepdims, select_last_index, largest=False)


def top(x: Array, k: int, axis: int, largest: int) -> tuple[Any, Any]:
    """The `k` largest or smallest elements in order, and their places; of equals the first wins."""
    size = x.shape[axis]
    if k > size:
        raise ValueError(f"k is {k}, more than the {size} elements of axis {axis}")
    if largest:
        ranked = size - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        ranked = np.argsort(x, axis=axis, kind="stable")
    places = np.take(ranked, np.arange(k), axis=axis)
    return np.take_along_axis(x, places, axis=axis), places.astype(np.int64)


@KERNELS.op("TopK")
def top_k_by_attribute(x: Array, *, k: int, axis: int = -1) -> Any:
    """TopK before opset 10."""
    return top(x, k, axis, 1)


@KERNELS.op("TopK", since=10)
def top_k(
    x: Array,
    k: Array,
    *,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,  # noqa: A002
) -> Any:
    """The `k` largest (or smallest) elements along `axis`, always sorted, and their places."""
    del sorted
    return top(x, int(k.item()), axis, largest)


@KERNELS.op("CumSum")
def cum_sum(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Any:
    """The running sum along `axis`: with or without the element itself, from either end."""
    return _running(np.add, x, int(axis.item()), 0, exclusive, reverse)


@KERNELS.op("CumProd")
def cum_prod(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Any:
    """The running product along `axis`: with or without the element itself, from either end."""
    return _running(np.multiply, x, int(axis.item()), 1, exclusive, reverse)


def _running(
    ufunc: np.ufunc, x: Array, axis: int, neutral: int, exclusive: int, reverse: int
) -> Any:
    values = np.flip(wide(x), axis) if reverse else wide(x)
    total = ufunc.accumulate(values, axis=axis, dtype=values.dtype)
    if exclusive:
        total = np.roll(total, 1, axis)
        first: list[Any] = [slice(None)] * x.ndim
        first[axis] = slice(0, 1)
        total[tuple(first)] = neutral
    return (np.flip(total, axis) if reverse else total).astype(x.dtype, copy=False)


@KERNELS.op("ReverseSequence")
def reverse_sequence(x: Array, lengths: Array, *, batch_axis: int = 1, time_axis: int = 0) -> Any:
    """Each batch entry with its first `lengths[b]` steps reversed."""
    y = np.moveaxis(x, (batch_axis, time_axis), (0, 1)).copy()
    for b, length in enumerate(lengths.tolist()):
        y[b, :length] = y[b, :length][::-1]
    return np.moveaxis(y, (0, 1), (batch_axis, time_axis))
