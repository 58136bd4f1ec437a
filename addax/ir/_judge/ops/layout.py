"""Ops that move elements or ask for shapes, and change no number."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from addax.ir._judge.arrays import Array
from addax.ir._judge.table import Kernels, Site

KERNELS = Kernels()
TABLES = (KERNELS,)


def numbers(values: Any) -> tuple[int, ...]:
    """The integers of an index tensor or an attribute; a scalar counts as one."""
    if isinstance(values, np.ndarray):
        return tuple(values.ravel().tolist())
    return tuple(values)


@KERNELS.op("Identity")
def identity(x: Any) -> Any:
    """X itself."""
    return x


@KERNELS.op("Shape")
def shape(x: Array, *, start: int = 0, end: int | None = None) -> Any:
    """The dimensions of X from `start` to `end`."""
    return np.array(x.shape[start:end], dtype=np.int64)


@KERNELS.op("Size")
def size(x: Array) -> Any:
    """How many elements X has."""
    return np.array(x.size, dtype=np.int64)


@KERNELS.op("Reshape")
def reshape(
    x: Array,
    target: Array | None = None,
    /,
    *,
    shape: Sequence[int] = (),
    allowzero: int = 0,
    consumed_inputs: Sequence[int] = (),
) -> Any:
    """X with other dimensions: -1 is inferred, 0 keeps the old one unless `allowzero`."""
    del consumed_inputs
    dims = numbers(shape) if target is None else target.tolist()
    if not allowzero and 0 in dims:
        dims = [x.shape[i] if d == 0 else d for i, d in enumerate(dims)]
    if -1 in dims and x.size == 0:  # NumPy infers nothing where other dimensions are 0
        rest = int(np.prod([d for d in dims if d != -1]))
        dims = [(0 if rest == 0 else x.size // rest) if d == -1 else d for d in dims]
    return x.reshape(dims)


@KERNELS.op("Flatten")
def flatten(x: Array, *, axis: int = 1) -> Any:
    """X as a matrix: dimensions before `axis` are rows, the others columns."""
    axis = axis + x.ndim if axis < 0 else axis
    rows = int(np.prod(x.shape[:axis]))
    return x.reshape(rows, int(np.prod(x.shape[axis:])))


@KERNELS.op("Squeeze")
def squeeze(x: Array, where: Array | None = None, /, *, axes: Sequence[int] | None = None) -> Any:
    """X without dimensions of size 1: those in `axes`, or all."""
    chosen: Any = axes if where is None else where
    return np.squeeze(x, None if chosen is None else numbers(chosen))


@KERNELS.op("Unsqueeze")
def unsqueeze(x: Array, where: Array | None = None, /, *, axes: Sequence[int] = ()) -> Any:
    """X with dimensions of size 1 inserted at `axes` of the result."""
    return np.expand_dims(x, numbers(axes if where is None else where))


@KERNELS.op("Transpose")
def transpose(x: Array, *, perm: Sequence[int] | None = None) -> Any:
    """X with its dimensions permuted, or reversed."""
    return x.transpose(perm)


@KERNELS.op("Concat", since=4)
def concat(*inputs: Array, axis: int) -> Any:
    """The inputs one after another along `axis`."""
    return np.concatenate(inputs, axis=axis)


@KERNELS.op("Concat")
def concat_of_opset_1(*inputs: Array, axis: int = 1) -> Any:
    """Concat before opset 4, where the axis may be left out."""
    return np.concatenate(inputs, axis=axis)


def split_points(dim: int, sizes: Sequence[int] | None, parts: int) -> list[int]:
    """Where to cut `dim` elements: into `sizes`, or `parts` equal pieces, the last one shorter."""
    if sizes is None:
        piece = -(-dim // parts)
        return [min(piece * k, dim) for k in range(1, parts)]
    if sum(sizes) != dim:
        raise ValueError(f"split sizes {tuple(sizes)} do not add up to the dimension {dim}")
    return list(accumulate(sizes))[:-1]


@KERNELS.op("Split")
def split(
    x: Array,
    sizes: Array | None = None,
    /,
    *,
    axis: int = 0,
    split: Sequence[int] | None = None,
    num_outputs: int | None = None,
    site: Site,
) -> Any:
    """X cut along `axis` into pieces of the given sizes, or into equal ones."""
    wanted = numbers(sizes) if sizes is not None else split
    points = split_points(x.shape[axis], wanted, num_outputs or site.outputs)
    return tuple(np.split(x, points, axis=axis))


@KERNELS.op("DepthToSpace")
def depth_to_space(x: Array, *, blocksize: int, mode: str = "DCR") -> Any:
    """x[N, C, *D] -> y[N, C / b**k, *(b D)]: blocks of channels become pixels."""
    n, c, *dims = x.shape
    k, b = len(dims), blocksize
    depth = c // b**k
    if mode == "CRD":
        y = x.reshape(n, depth, *[b] * k, *dims)
        blocks = range(2, 2 + k)
        channel = 1
    else:
        y = x.reshape(n, *[b] * k, depth, *dims)
        blocks = range(1, 1 + k)
        channel = 1 + k
    pixels = [axis for i, block in enumerate(blocks) for axis in (2 + k + i, block)]
    return y.transpose(0, channel, *pixels).reshape(n, depth, *[d * b for d in dims])


@KERNELS.op("SpaceToDepth")
def space_to_depth(x: Array, *, blocksize: int, mode: str = "DCR") -> Any:
    """x[N, C, *D] -> y[N, C b**k, *(D / b)]: blocks of pixels become channels."""
    n, c, *dims = x.shape
    k, b = len(dims), blocksize
    y = x.reshape(n, c, *[part for d in dims for part in (d // b, b)])
    outer = [2 + 2 * i for i in range(k)]
    inner = [3 + 2 * i for i in range(k)]
    channels = [1, *inner] if mode == "CRD" else [*inner, 1]
    return y.transpose(0, *channels, *outer).reshape(n, c * b**k, *[d // b for d in dims])
