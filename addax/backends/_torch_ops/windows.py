"""Padding, sizes and strides of sliding windows: what convolution and pooling share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom
from torch import Tensor

from addax.backends._torch_ops.site import Site


@dataclass(frozen=True, slots=True)
class Windows:
    """Sliding windows over the spatial axes; a size may be recorded rather than a number."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """The extent of a window along each axis, gaps included."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def is_symmetric(self) -> bool:
        """Whether every axis is padded alike at both ends, by numbers known now."""
        pads = (*self.begin, *self.end)
        return all(isinstance(p, int) and p >= 0 for p in pads) and self.begin == self.end


def windows(
    site: Site,
    x: Tensor,
    kernel: Sequence[int],
    *,
    auto_pad: str,
    pads: Sequence[int] | None,
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
) -> Windows:
    """The windows that a node's attributes describe; `auto_pad` may read sizes of `x`."""
    count = len(kernel)
    strides = tuple(strides or (1,) * count)
    dilations = tuple(dilations or (1,) * count)
    if auto_pad in ("NOTSET", ""):
        pads = tuple(pads or (0,) * (2 * count))
        begin, end = pads[:count], pads[count:]
    elif auto_pad == "VALID":
        begin = end = (0,) * count
    else:
        both = [
            _same(site, x, axis, *window)
            for axis, window in enumerate(zip(kernel, strides, dilations, strict=True))
        ]
        small, large = zip(*both, strict=True) if both else ((), ())
        begin, end = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    return Windows(tuple(kernel), strides, dilations, tuple(begin), tuple(end))


def _same(
    site: Site, x: Tensor, axis: int, kernel: int, stride: int, dilation: int
) -> tuple[int, int]:
    """The padding, smaller part first, that makes the output as long as input / stride."""
    reach = dilation * (kernel - 1) + 1
    if stride == 1:
        return (reach - 1) // 2, reach // 2
    size = site.sizes(0, x)[axis + 2]
    missing = (-(-size // stride) - 1) * stride + reach - size
    total = max(missing, 0) if isinstance(missing, int) else site.call(torch.sym_max, missing, 0)
    return total // 2, total - total // 2


def padded(x: Tensor, begin: Sequence[int], end: Sequence[int], value: float = 0.0) -> Tensor:
    """`x` with its last axes padded (or cropped, where negative) by a constant."""
    pads = [p for pair in zip(reversed(begin), reversed(end), strict=True) for p in pair]
    return x if all(isinstance(p, int) and p == 0 for p in pads) else F.pad(x, pads, value=value)
