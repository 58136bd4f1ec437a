"""Convolutions over any number of spatial dimensions, as matrix products over gathered windows.

x[N, C, *D], w[M, C / groups, *K] -> y[N, M, *O]
"""

from collections.abc import Iterator, Sequence
from itertools import product as cartesian
from math import prod
from typing import Any

import numpy as np

from addax.ir._judge.arrays import Array, wide
from addax.ir._judge.ops.matmul import shifted
from addax.ir._judge.ops.window import Window, surrounded
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)

_BUFFER = 1 << 21
"""Elements of gathered windows held at a time: they should stay in the cache."""


@KERNELS.op("Conv")
def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Any:
    """y[n, m, o] = b[m] + sum over c, k of w[m, c, k] x[n, c, o stride + k dilation - pad]."""
    if kernel_shape and tuple(kernel_shape) != w.shape[2:]:
        raise ValueError(f"kernel_shape {tuple(kernel_shape)} is not that of W, {w.shape[2:]}")
    window = Window.of(x.shape[2:], w.shape[2:], strides, dilations, pads, auto_pad)
    y = convolved(wide(x), wide(w), window, group)
    if b is not None:
        y += wide(b).reshape(-1, *(1,) * (x.ndim - 2))
    return y.astype(x.dtype, copy=False)


def convolved(x: Array, w: Array, window: Window, groups: int) -> Any:
    """The convolution without bias.

    Raises:
        ValueError: the channels do not fit the groups.
    """
    n, c = x.shape[:2]
    m, depth = w.shape[:2]
    if c != depth * groups or m % groups:
        raise ValueError(
            f"X has {c} channels and W {m} filters of {depth} channels: no fit for {groups} groups"
        )
    out = window.outputs()
    x = surrounded(x, window.before, window.after(out), 0)
    if depth == 1 and groups > 1:
        return _depthwise(x, w, window, out, groups)
    y = np.empty((n, groups, m // groups, *out), dtype=x.dtype)
    weights = w.reshape(groups, m // groups, -1)
    columns = window.view(x, out)  # [N, C, *K, *O]
    line = len(window.kernel) + 2
    for images, lines in _blocks(n, out, weights[0, 0].size * groups):
        part = columns[(images, *[slice(None)] * (line - 1), lines)]
        gathered = part.reshape(len(part), groups, weights.shape[-1], -1)
        into = y[images, :, :, lines]
        into[...] = np.matmul(weights, gathered).reshape(into.shape)
    return y.reshape(n, m, *out)


def _blocks(n: int, out: Sequence[int], column: int) -> Iterator[tuple[slice, slice]]:
    """Images, and lines along the first spatial dimension, whose windows fit the buffer."""
    image = column * prod(out)
    if image <= _BUFFER:
        step = max(1, _BUFFER // max(1, image))
        yield from ((slice(k, k + step), slice(None)) for k in range(0, n, step))
        return
    step = max(1, _BUFFER * out[0] // image)
    for k in range(n):
        yield from ((slice(k, k + 1), slice(j, j + step)) for j in range(0, out[0], step))


def _depthwise(x: Array, w: Array, window: Window, out: Sequence[int], groups: int) -> Any:
    """One channel a group: as many multiply-adds as the kernel has taps, no matrix product."""
    n = x.shape[0]
    m = w.shape[0]
    y = np.zeros((n, groups, m // groups, *out), dtype=x.dtype)
    term = np.empty_like(y)
    for tap in cartesian(*map(range, window.kernel)):
        index: Any = (slice(None), 0, *tap)
        weight = w[index].reshape(groups, -1, *(1,) * len(out))
        part = x[(slice(None), slice(None), *window.at(tap, out))]
        np.multiply(part[:, :, None], weight, out=term)
        y += term
    return y.reshape(n, m, *out)


@KERNELS.op("ConvTranspose")
def conv_transpose(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    output_padding: Sequence[int] = (),
    output_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Any:
    """The transpose of the linear map Conv, w[C, M / groups, *K]: each x scatters a kernel."""
    del kernel_shape
    rank = x.ndim - 2
    kernel = w.shape[2:]
    strides = tuple(strides) or (1,) * rank
    dilations = tuple(dilations) or (1,) * rank
    extra = tuple(output_padding) or (0,) * rank
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    full = [
        s * (i - 1) + r + e for s, i, r, e in zip(strides, x.shape[2:], reach, extra, strict=True)
    ]
    start, out = _transposed_extent(x.shape[2:], full, strides, pads, output_shape, auto_pad)
    window = Window(tuple(full), kernel, strides, dilations, (0,) * rank, (0,) * rank, False)

    n, c = x.shape[:2]
    columns = np.matmul(
        wide(w).reshape(group, c // group, -1).swapaxes(1, 2),
        wide(x).reshape(n, group, c // group, prod(x.shape[2:])),
    ).reshape(n, group * w.shape[1], *kernel, *x.shape[2:])
    y = np.zeros((n, group * w.shape[1], *full), dtype=columns.dtype)
    for tap in cartesian(*map(range, kernel)):
        everywhere = (slice(None), slice(None))
        y[(*everywhere, *window.at(tap, x.shape[2:]))] += columns[(*everywhere, *tap)]
    end = [o + s - f for o, s, f in zip(out, start, full, strict=True)]
    y = surrounded(y, [-s for s in start], end, 0)
    if b is not None:
        y = y + wide(b).reshape(-1, *(1,) * rank)
    return y.astype(x.dtype, copy=False)


def _transposed_extent(
    sizes: Sequence[int],
    full: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    wanted: Sequence[int],
    auto_pad: str,
) -> tuple[list[int], list[int]]:
    """Where the output starts in the full one, and its sizes."""
    rank = len(sizes)
    if not wanted and auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
        wanted = [i * s for i, s in zip(sizes, strides, strict=True)]
    if wanted:
        totals = [f - o for f, o in zip(full, wanted[-rank:], strict=True)]
        upper = auto_pad == "SAME_UPPER"
        return [t // 2 if upper else t - t // 2 for t in totals], list(wanted[-rank:])
    pads = tuple(pads) or (0,) * (2 * rank)
    out = [f - p - q for f, p, q in zip(full, pads[:rank], pads[rank:], strict=True)]
    return list(pads[:rank]), out


@KERNELS.op("ConvInteger")
def conv_integer(
    x: Array,
    w: Array,
    x_zero: Array | None = None,
    w_zero: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Any:
    """Conv(X - x_zero, W - w_zero) in int32; float64 holds its sums exactly."""
    del kernel_shape
    window = Window.of(x.shape[2:], w.shape[2:], strides, dilations, pads, auto_pad)
    centred = shifted(x, x_zero, 1).astype(np.float64), shifted(w, w_zero, 0).astype(np.float64)
    return convolved(*centred, window, group).astype(np.int64).astype(np.int32)
