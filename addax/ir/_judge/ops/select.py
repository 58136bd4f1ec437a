"""Ops that pick elements out of a tensor, or put them in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from addax.ir._judge.arrays import Array
from addax.ir._judge.ops.layout import numbers
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)

_UPDATES: Mapping[str, Callable[[Array, Any, Array], None]] = {
    "none": lambda y, index, updates: y.__setitem__(index, updates),
    "add": np.add.at,
    "mul": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


@KERNELS.op("Slice", since=10)
def slice_by_inputs(
    x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None
) -> Any:
    """X from `starts` to `ends` in `steps` along `axes`; counts from the end are negative."""
    index = [slice(None)] * x.ndim
    where = range(starts.size) if axes is None else numbers(axes)
    strides = [1] * starts.size if steps is None else numbers(steps)
    bounds = zip(where, numbers(starts), numbers(ends), strides, strict=True)
    for axis, start, end, step in bounds:
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


@KERNELS.op("Slice")
def slice_by_attributes(
    x: Array, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None
) -> Any:
    """Slice before opset 10."""
    index = [slice(None)] * x.ndim
    where = range(len(starts)) if axes is None else axes
    for axis, start, end in zip(where, starts, ends, strict=True):
        index[axis] = slice(start, end)
    return x[tuple(index)]


@KERNELS.op("Gather")
def gather(x: Array, indices: Array, *, axis: int = 0) -> Any:
    """The slices of X along `axis` that `indices` name."""
    return np.take(x, indices, axis=axis)


def grid_index(x: Array, indices: Array, axis: int) -> tuple[Any, ...]:
    """The index of x[..., indices[i, j, k], ...]: `indices` at `axis`, its own place elsewhere."""
    index: list[Any] = list(np.ogrid[tuple(slice(d) for d in indices.shape)])
    index[axis] = indices
    return tuple(index)


@KERNELS.op("GatherElements")
def gather_elements(x: Array, indices: Array, *, axis: int = 0) -> Any:
    """y[i, j] = x[indices[i, j], j] for axis 0, and so on."""
    return x[grid_index(x, indices, axis)]


def nd_index(indices: Array, batch_dims: int) -> tuple[Any, ...]:
    """The index whose last dimension lists coordinates after `batch_dims` common dimensions."""
    outer = indices.shape[:batch_dims]
    rank = indices.ndim - 1
    batch = [
        np.arange(d).reshape([-1 if i == k else 1 for i in range(rank)])
        for k, d in enumerate(outer)
    ]
    return (*batch, *np.moveaxis(indices, -1, 0))


@KERNELS.op("GatherND")
def gather_nd(x: Array, indices: Array, *, batch_dims: int = 0) -> Any:
    """The slices of X at the coordinates in the last dimension of `indices`."""
    return x[nd_index(indices, batch_dims)]


@KERNELS.op("ScatterElements", "Scatter")
def scatter_elements(
    x: Array, indices: Array, updates: Array, *, axis: int = 0, reduction: str = "none"
) -> Any:
    """X with y[indices[i, j], j] set to, or combined with, updates[i, j] for axis 0."""
    y = x.copy()
    _UPDATES[reduction](y, grid_index(x, indices, axis), updates)
    return y


@KERNELS.op("ScatterND")
def scatter_nd(x: Array, indices: Array, updates: Array, *, reduction: str = "none") -> Any:
    """X with the slices at the coordinates set to, or combined with, `updates`."""
    y = x.copy()
    _UPDATES[reduction](y, nd_index(indices, 0), updates)
    return y


@KERNELS.op("Compress")
def compress(x: Array, condition: Array, *, axis: int | None = None) -> Any:
    """The slices of X (or elements of X flattened) where `condition` is true."""
    return np.compress(condition, x, axis=axis)


@KERNELS.op("NonZero")
def non_zero(x: Array) -> Any:
    """The coordinates of the elements that are not zero: one row a dimension."""
    if x.ndim == 0:  # NumPy refuses scalars; ONNX counts one as a tensor without coordinates
        return np.zeros((0, int(x != 0)), dtype=np.int64)
    return np.asarray(np.nonzero(x), dtype=np.int64).reshape(x.ndim, -1)


@KERNELS.op("OneHot")
def one_hot(indices: Array, depth: Array, values: Array, *, axis: int = -1) -> Any:
    """values[1] where the new axis of size `depth` has the index, values[0] elsewhere."""
    count = int(depth.item())
    places = indices.astype(np.int64)
    places = np.where(places < 0, places + count, places)
    axis = axis + indices.ndim + 1 if axis < 0 else axis
    found = np.expand_dims(places, axis) == np.arange(count).reshape(
        [-1 if i == axis else 1 for i in range(indices.ndim + 1)]
    )
    return np.where(found, values[1], values[0])
