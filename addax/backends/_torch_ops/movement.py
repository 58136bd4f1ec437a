"""Elements moved to other places, joined and repeated."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Ints, Scalar, Sizes, Tensor

OPS = Converters()


@OPS.op("Transpose")
def transpose(x: Tensor, *, perm: Sequence[int] | None = None, site: Site) -> Tensor:
    """The axes in another order; reversed where none is given."""
    if perm is None:
        perm = tuple(reversed(range(site.rank(0))))
    return x.permute(*perm) if perm else x


@OPS.op("Concat", since=4)
def concat(*xs: Tensor, axis: int) -> Tensor:
    """The inputs one after the other along an axis."""
    return torch.cat(xs, dim=axis)


@OPS.op("Concat")
def concat_along_channels(*xs: Tensor, axis: int = 1) -> Tensor:
    """The inputs one after the other, along the channels unless said otherwise."""
    return torch.cat(xs, dim=axis)


@OPS.op("Tile", since=6)
def tile(x: Tensor, repeats: Sizes) -> Tensor:
    """`x` repeated along each axis."""
    return x.repeat(repeats)


@OPS.op("DepthToSpace")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR", site: Site) -> Tensor:
    """Channels laid out as blocks of the image: x[N, C b b, H, W] to y[N, C, H b, W b]."""
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    n, c, h, w = site.sizes(0, x)
    x = x.reshape(n, blocksize, blocksize, c // blocksize**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // blocksize**2, h * blocksize, w * blocksize)


@OPS.op("SpaceToDepth")
def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR", site: Site) -> Tensor:
    """Blocks of the image laid out as channels: x[N, C, H b, W b] to y[N, C b b, H, W]."""
    if mode == "CRD":
        return F.pixel_unshuffle(x, blocksize)
    n, c, h, w = site.sizes(0, x)
    x = x.reshape(n, c, h // blocksize, blocksize, w // blocksize, blocksize)
    x = x.permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * blocksize**2, h // blocksize, w // blocksize)


@OPS.op("ReverseSequence")
def reverse_sequence(
    x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0, site: Site
) -> Tensor:
    """The first `lengths[b]` steps of each sequence in reverse order."""
    rank, steps = site.rank(0), site.sizes(0, x)[time_axis]
    time = site.call(torch.arange, steps, device=x.device)
    shape = [1] * rank
    shape[time_axis] = -1
    time = time.reshape(shape)
    shape = [1] * rank
    shape[batch_axis] = -1
    ends = lengths.reshape(shape)
    places = torch.where(time < ends, ends - 1 - time, time)
    return torch.gather(x, time_axis, places.expand_as(x))


@OPS.op("Trilu")
def trilu(x: Tensor, k: Scalar | None = None, *, upper: int = 1) -> Tensor:
    """The part of each matrix above or below a diagonal, zeros elsewhere."""
    diagonal = 0 if k is None else k
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)


@OPS.op("Col2Im", since=18)
def col_to_image(
    x: Tensor,
    image_shape: Ints,
    block_shape: Ints,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    site: Site,
) -> Tensor:
    """Overlapping blocks added up into an image: x[N, C prod(block), L]."""
    count = len(image_shape)
    site.require(count == 2, f"torch folds two spatial axes, not {count}")
    pads = tuple(pads or (0,) * 2 * count)
    site.require(pads[:count] == pads[count:], "torch folds with the same padding at both ends")
    return F.fold(
        x,
        tuple(image_shape),
        tuple(block_shape),
        tuple(dilations or (1,) * count),
        pads[:count],
        tuple(strides or (1,) * count),
    )
