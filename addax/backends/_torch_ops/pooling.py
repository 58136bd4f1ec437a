"""Pooling over windows and over whole images."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor
from addax.backends._torch_ops.windows import Windows, padded, windows

OPS = Converters()

_MAX: dict[int, Callable[..., Any]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_CONV: dict[int, Callable[..., Any]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_MEAN: dict[int, Callable[..., Any]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}
_AVERAGE: dict[int, Callable[..., Any]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@OPS.op("GlobalAveragePool")
def global_average_pool(x: Tensor, *, site: Site) -> Tensor:
    """The mean over all spatial axes."""
    count = site.rank(0) - 2
    if count in _MEAN:
        result: Tensor = _MEAN[count](x, 1)
        return result
    return x.mean(tuple(range(2, count + 2)), keepdim=True) if count else x


@OPS.op("GlobalMaxPool")
def global_max_pool(x: Tensor, *, site: Site) -> Tensor:
    """The greatest element over all spatial axes."""
    return torch.amax(x, tuple(range(2, site.rank(0))), keepdim=True)


@OPS.op("GlobalLpPool", since=2)
def global_lp_pool(x: Tensor, *, p: int = 2, site: Site) -> Tensor:
    """The p-norm over all spatial axes."""
    norm: Tensor = torch.linalg.vector_norm(x, p, tuple(range(2, site.rank(0))), keepdim=True)
    return norm


@OPS.op("MaxPool")
def max_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
    site: Site,
) -> Tensor | tuple[Tensor, ...]:
    """The greatest element of each window, and on request where it is in the whole tensor."""
    frame = windows(
        site, x, kernel_shape, auto_pad=auto_pad, pads=pads, strides=strides, dilations=dilations
    )
    function = _pool_function(_MAX, frame, site)
    small = all(
        isinstance(p, int) and 2 * p <= r
        for p, r in zip((*frame.begin, *frame.end), frame.reach * 2, strict=True)
    )
    indexed = site.outputs > 1
    sizes = site.sizes(0, x)[2:]
    shift = (0,) * len(sizes)
    padding: Sequence[int] = frame.begin
    wide = sizes
    if not (frame.is_symmetric and small):
        site.require(not ceil_mode, "torch rounds sizes up only where padding is small and even")
        x = padded(x, frame.begin, frame.end, _least(site))
        padding, shift = shift, frame.begin
        wide = tuple(n + b + e for n, b, e in zip(sizes, frame.begin, frame.end, strict=True))
    narrow = site.dtype(0) in _BYTES
    y = function(
        x.float() if narrow else x,
        frame.kernel,
        frame.strides,
        padding,
        frame.dilations,
        ceil_mode=bool(ceil_mode),
        return_indices=indexed,
    )
    dtype = site.torch_dtype(site.dtype(0))
    values: Tensor = y[0] if indexed else y
    values = values.to(dtype) if narrow else values
    if not indexed:
        return values
    return values, site.call(_global_indices, y[1], wide, shift, sizes, bool(storage_order))


_BYTES = (ir.DataType.INT8, ir.DataType.UINT8)


def _least(site: Site) -> float:
    """What never is the greatest element of a window."""
    if site.dtype(0).is_floating_point():
        return -math.inf
    return float(torch.iinfo(site.torch_dtype(site.dtype(0))).min)


def _global_indices(
    indices: Tensor,
    wide: Sequence[int],
    shift: Sequence[int],
    sizes: Sequence[int],
    column_major: bool,
) -> Tensor:
    """Places in the whole tensor, from places in padded images [..., wide]."""
    places, rest = [], indices
    for size, begin in zip(reversed(wide), reversed(shift), strict=True):
        places.append(rest % size - begin)
        rest = rest // size
    places.reverse()
    order = range(len(sizes)) if column_major else reversed(range(len(sizes)))
    flat, step = torch.zeros_like(indices), 1
    for axis in order:
        flat = flat + places[axis] * step
        step *= sizes[axis]
    n, c = indices.shape[:2]
    images = torch.arange(n * c, device=indices.device).reshape(n, c, *(1,) * len(sizes))
    return flat + images * step


def _pool_function(
    table: dict[int, Callable[..., Any]], frame: Windows, site: Site
) -> Callable[..., Any]:
    function = table.get(len(frame.kernel))
    if function is None:
        site.decline(f"torch pools over 1 to 3 spatial axes, not {len(frame.kernel)}")
    return function


@OPS.op("AveragePool")
def average_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    site: Site,
) -> Tensor:
    """The mean of each window; of its elements inside the image unless padding counts."""
    frame = windows(
        site, x, kernel_shape, auto_pad=auto_pad, pads=pads, strides=strides, dilations=dilations
    )
    function = _pool_function(_AVERAGE, frame, site)
    plain = frame.is_symmetric and set(frame.dilations) == {1}
    if plain and all(2 * p <= k for p, k in zip(frame.begin, frame.kernel, strict=True)):
        result: Tensor = function(
            x,
            frame.kernel,
            frame.strides,
            frame.begin,
            ceil_mode=bool(ceil_mode),
            count_include_pad=bool(count_include_pad),
        )
        return result
    asked, frame = frame, _ceiled(site, x, frame) if ceil_mode else frame
    ones = torch.ones_like(x[:1, :1])
    if not count_include_pad:
        return _sums(site, x, frame) / _sums(site, ones, frame)
    nothing = (0,) * len(frame.kernel)
    added = tuple(a - b for a, b in zip(frame.end, asked.end, strict=True))
    counts = padded(ones, asked.begin, asked.end, 1.0)
    rest = dataclasses.replace(frame, begin=nothing, end=added)
    return _sums(site, x, frame) / _sums(site, counts, rest)


def _ceiled(site: Site, x: Tensor, frame: Windows) -> Windows:
    """The windows with enough padding at the end for a last, partial window.

    A window that would start in the padding at the end is left out.
    """
    end = []
    sizes = site.sizes(0, x)[2:]
    for n, b, e, s, r in zip(
        sizes, frame.begin, frame.end, frame.strides, frame.reach, strict=True
    ):
        if not all(isinstance(v, int) for v in (n, b, e)):
            site.decline("rounding sizes up needs static sizes where padding is uneven")
        steps = -(-(n + b + e - r) // s)
        steps -= (steps * s) >= n + b
        end.append(max(steps * s + r - n - b, e) if steps * s + r > n + b + e else e)
    return dataclasses.replace(frame, end=tuple(end))


def _sums(site: Site, x: Tensor, frame: Windows) -> Tensor:
    """The sum of each window: x[N, C, ...]."""
    function = _pool_function(_CONV, frame, site)
    x = padded(x, frame.begin, frame.end)
    n, c = x.size(0), x.size(1)
    kernel = site.call(
        torch.ones, (1, 1, *frame.kernel), dtype=site.torch_dtype(site.dtype(0)), device=x.device
    )
    flat = x.reshape(n * c, 1, *(x.size(k + 2) for k in range(len(frame.kernel))))
    sums = function(flat, kernel, None, frame.strides, 0, frame.dilations)
    result: Tensor = sums.reshape(n, c, *(sums.size(k + 2) for k in range(len(frame.kernel))))
    return result


@OPS.op("LpPool", since=2)
def lp_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    p: int = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    site: Site,
) -> Tensor:
    """The p-norm of each window."""
    frame = windows(
        site, x, kernel_shape, auto_pad=auto_pad, pads=pads, strides=strides, dilations=dilations
    )
    frame = _ceiled(site, x, frame) if ceil_mode else frame
    return _sums(site, torch.abs(x) ** p, frame) ** (1.0 / p)


@OPS.op("MaxUnpool", since=9)
def max_unpool(
    x: Tensor,
    indices: Tensor,
    output_shape: Tensor | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    site: Site,
) -> Tensor:
    """The elements put back where MaxPool found them in the whole tensor, zeros elsewhere."""
    count = len(kernel_shape)
    stride = tuple(strides or (1,) * count)
    begin_end = tuple(pads or (0,) * 2 * count)
    sizes = site.sizes(0, x)
    inner = [
        (n - 1) * s + k - begin_end[a] - begin_end[a + count]
        for a, (n, s, k) in enumerate(zip(sizes[2:], stride, kernel_shape, strict=True))
    ]
    shape = (*sizes[:2], *inner)
    if output_shape is None:
        return site.call(_unpool, x, indices, shape, shape)
    return site.call(_unpool, x, indices, shape, output_shape.tolist())


def _unpool(x: Tensor, indices: Tensor, shape: Sequence[int], outer: Sequence[int]) -> Tensor:
    """Scatter into zeros of `shape`, the tensor that indices refer to, at the front of `outer`."""
    flat = x.new_zeros(math.prod(shape)).scatter(0, indices.reshape(-1), x.reshape(-1))
    inner = flat.reshape(*shape)
    pads = [p for a, b in zip(reversed(outer), reversed(shape), strict=True) for p in (0, a - b)]
    return F.pad(inner, pads)
