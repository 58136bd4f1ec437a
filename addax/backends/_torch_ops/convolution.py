"""Convolution and its transpose."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor
from addax.backends._torch_ops.windows import padded, windows

OPS = Converters()

_CONV: dict[int, Callable[..., Any]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Any]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


@OPS.op("Conv")
def conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    site: Site,
) -> Tensor:
    """Convolution: x[N, C, ...], w[M, C / group, ...], b[M]."""
    kernel = kernel_of(site, 1, w, kernel_shape)
    function = _CONV.get(len(kernel))
    if function is None:
        site.decline(f"torch convolves 1 to 3 spatial axes, not {len(kernel)}")
    frame = windows(
        site, x, kernel, auto_pad=auto_pad, pads=pads, strides=strides, dilations=dilations
    )
    padding = frame.begin if frame.is_symmetric else (0,) * len(kernel)
    x = x if frame.is_symmetric else padded(x, frame.begin, frame.end)
    result: Tensor = function(x, w, b, frame.strides, padding, frame.dilations, group)
    return result


def kernel_of(
    site: Site, index: int, w: Tensor, kernel_shape: Sequence[int] | None
) -> tuple[int, ...]:
    """The spatial extent of a weight, which is input number `index`."""
    return tuple(kernel_shape) if kernel_shape else site.sizes(index, w)[2:]


@OPS.op("ConvTranspose")
def conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    site: Site,
) -> Tensor:
    """The transpose of convolution: x[N, C, ...], w[C, M / group, ...], b[M]."""
    kernel = kernel_of(site, 1, w, kernel_shape)
    count = len(kernel)
    function = _TRANSPOSED.get(count)
    if function is None:
        site.decline(f"torch convolves 1 to 3 spatial axes, not {count}")
    stride = tuple(strides or (1,) * count)
    dilation = tuple(dilations or (1,) * count)
    extra = tuple(output_padding or (0,) * count)
    begin, end = tuple(pads or (0,) * 2 * count)[:count], tuple(pads or (0,) * 2 * count)[count:]
    if output_shape or auto_pad.startswith("SAME"):
        sizes = site.sizes(0, x)[2:]
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        wanted = (output_shape or [n * s for n, s in zip(sizes, stride, strict=True)])[-count:]
        total = [
            (n - 1) * s + e + r - o
            for n, s, e, r, o in zip(sizes, stride, extra, reach, wanted, strict=True)
        ]
        small = tuple(t // 2 for t in total)
        large = tuple(t - t // 2 for t in total)
        begin, end = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    simple = begin == end and all(isinstance(p, int) and p >= 0 for p in begin)
    if simple and all(e < max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        result: Tensor = function(x, w, b, stride, begin, extra, group, dilation)
        return result
    # Everything the kernel reaches, then cropped or extended, for torch pads both ends alike.
    whole = function(x, w, None, stride, (0,) * count, (0,) * count, group, dilation)
    whole = padded(whole, [-p for p in begin], [e - p for e, p in zip(extra, end, strict=True)])
    return whole if b is None else whole + b.reshape(-1, *(1,) * count)


@OPS.op("ConvInteger")
def conv_integer(
    x: Tensor,
    w: Tensor,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    site: Site,
) -> Tensor:
    """Convolution of integers from which zero points are taken first."""
    # Doubles hold the sums exactly, and have fast kernels everywhere.
    a, k = x.double(), w.double()
    a = a if x_zero is None else a - x_zero
    if w_zero is not None:
        ones = (1,) * (site.rank(1) - 1)
        k = k - (w_zero.reshape(-1, *ones) if site.rank(3) == 1 else w_zero)
    result = conv(
        a,
        k,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape or site.sizes(1, w)[2:],
        pads=pads,
        strides=strides,
        site=site,
    )
    return result.to(torch.int32)
