"""Ops that make tensors out of shapes, or repeat and pad what they are given."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir._judge.arrays import HALF, Array, promoted_type, wide
from addax.ir._judge.ops.layout import numbers
from addax.ir._judge.table import Kernels, Site

KERNELS = Kernels()
TABLES = (KERNELS,)

_MODES = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


@KERNELS.op("Expand")
def expand(x: Array, shape: Array) -> Any:
    """X broadcast against `shape`, both ways."""
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, numbers(shape)))


@KERNELS.op("Tile", since=6)
def tile(x: Array, repeats: Array) -> Any:
    """X repeated along each of its dimensions."""
    return np.tile(x, numbers(repeats))


@KERNELS.op("Tile")
def tile_one_axis(x: Array, tiles: Array, axis: Array) -> Any:
    """X repeated along one dimension: opset 1."""
    repeats = [1] * x.ndim
    repeats[int(axis.item())] = int(tiles.item())
    return np.tile(x, repeats)


@KERNELS.op("ConstantOfShape")
def constant_of_shape(shape: Array, *, value: Array | None = None, site: Site) -> Any:
    """A tensor of `shape` full of the one element of `value`, of float zeros without one."""
    if value is None:
        return np.zeros(numbers(shape), promoted_type(np.float32, site.precision))
    return np.full(numbers(shape), value.reshape(()), dtype=value.dtype)


@KERNELS.op("EyeLike")
def eye_like(x: Array, *, dtype: Any = None, k: int = 0, site: Site) -> Any:
    """Ones on the k-th diagonal of a matrix of the shape of X."""
    wanted = x.dtype if dtype is None else ir.DataType(dtype).numpy()
    rows, columns = x.shape
    return np.eye(rows, columns, k=k, dtype=promoted_type(wanted, site.precision))


@KERNELS.op("Range")
def range_of(start: Array, limit: Array, delta: Array, *, stash_type: int = 1) -> Any:
    """Range: start + k delta for k from 0, up to `limit` exclusive."""
    del stash_type  # halves are computed in float64, which is no less exact than any stash type
    first, last, step = (
        wide(x).item() if x.dtype in HALF else x.item() for x in (start, limit, delta)
    )
    count = max(int(np.ceil((last - first) / step)), 0)
    return (first + np.arange(count) * step).astype(start.dtype)


@KERNELS.op("Trilu")
def trilu(x: Array, k: Array | None = None, *, upper: int = 1) -> Any:
    """The upper or lower triangle of the last two dimensions, from the k-th diagonal on."""
    offset = 0 if k is None else int(k.item())
    return np.triu(x, offset) if upper else np.tril(x, offset)


@KERNELS.op("Pad", since=11)
def pad_by_inputs(
    x: Array,
    pads: Array,
    value: Array | None = None,
    axes: Array | None = None,
    *,
    mode: str = "constant",
) -> Any:
    """X with elements put before and after it along `axes`; negative pads cut."""
    where = range(x.ndim) if axes is None else numbers(axes)
    fill = x.dtype.type() if value is None else value.reshape(())
    return padded(x, list(where), numbers(pads), fill, mode)


@KERNELS.op("Pad", since=2)
def pad_by_attributes(
    x: Array, *, pads: Sequence[int], value: float = 0.0, mode: str = "constant"
) -> Any:
    """Pad before opset 11."""
    return padded(x, list(range(x.ndim)), pads, np.asarray(value, dtype=x.dtype), mode)


@KERNELS.op("Pad")
def pad_of_opset_1(
    x: Array, *, paddings: Sequence[int], value: float = 0.0, mode: str = "constant"
) -> Any:
    """Pad of opset 1, which called its pads otherwise."""
    return pad_by_attributes(x, pads=paddings, value=value, mode=mode)


def padded(x: Array, axes: Sequence[int], pads: Sequence[int], fill: Any, mode: str) -> Any:
    """`x` padded along `axes` by `pads`: all the starts, then all the ends."""
    before, after = [0] * x.ndim, [0] * x.ndim
    for k, axis in enumerate(axes):
        before[axis], after[axis] = pads[k], pads[k + len(axes)]
    cuts = tuple(
        slice(max(-b, 0), d - max(-a, 0)) for b, a, d in zip(before, after, x.shape, strict=True)
    )
    widths = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
    x = x[cuts]
    if mode != "constant":
        return np.pad(x, widths, mode=_MODES[mode])  # type: ignore[call-overload]
    y = np.full([d + b + a for d, (b, a) in zip(x.shape, widths, strict=True)], fill, x.dtype)
    y[tuple(slice(b, b + d) for d, (b, _) in zip(x.shape, widths, strict=True))] = x
    return y
