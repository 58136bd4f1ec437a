"""Changes of shape that move no element."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Ints, Sizes, Tensor

OPS = Converters()


@OPS.op("Reshape", since=5)
def reshape(x: Tensor, shape: Sizes, *, allowzero: int = 0, site: Site) -> Tensor:
    """`x` in another shape; 0 keeps a dimension (unless `allowzero`), -1 takes what is left."""
    if not isinstance(shape, tuple):
        return torch.reshape(x, shape) if allowzero else site.call(_reshaped, x, shape)
    if allowzero:
        return x.reshape(*shape)
    if not all(isinstance(n, int) or site.is_size(n) for n in shape):
        return site.call(_reshaped, x, shape)
    keeps = [isinstance(n, int) and n == 0 for n in shape]
    sizes = site.sizes(0, x) if any(keeps) else ()
    return x.reshape(*(sizes[k] if keep else shape[k] for k, keep in enumerate(keeps)))


def _reshaped(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.reshape([x.size(axis) if n == 0 else n for axis, n in enumerate(shape)])


@OPS.op("Reshape")
def reshape_by_attribute(
    x: Tensor, *, shape: Sequence[int] = (), consumed_inputs: Sequence[int] = (), site: Site
) -> Tensor:
    """`x` in a shape that is an attribute."""
    del consumed_inputs
    return reshape(x, tuple(shape), site=site)


@OPS.op("Flatten")
def flatten(x: Tensor, *, axis: int = 1, site: Site) -> Tensor:
    """A matrix: all axes before `axis` made one, and all from there on."""
    axis = site.axis(axis)
    rank = site.rank(0)
    if axis == 1 and rank > 1:
        return torch.flatten(x, 1)
    sizes = site.sizes(0, x)
    return x.reshape(math.prod(sizes[:axis]), math.prod(sizes[axis:]))


@OPS.op("Squeeze", since=13)
def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """`x` without some of its axes of size 1, or without all."""
    return torch.squeeze(x) if axes is None else torch.squeeze(x, tuple(axes))


@OPS.op("Squeeze")
def squeeze_by_attribute(x: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """`x` without some of its axes of size 1, or without all."""
    return squeeze(x, axes)


@OPS.op("Unsqueeze", since=13)
def unsqueeze(x: Tensor, axes: Ints, *, site: Site) -> Tensor:
    """`x` with new axes of size 1, at these places of the result."""
    if len(axes) == 1:
        return torch.unsqueeze(x, axes[0])
    if not all(isinstance(axis, int) for axis in axes):
        return site.call(_unsqueezed, x, tuple(axes))
    rank = site.rank(0) + len(axes)
    for axis in sorted(axis + rank if axis < 0 else axis for axis in axes):
        x = torch.unsqueeze(x, axis)
    return x


def _unsqueezed(x: Tensor, axes: Sequence[int]) -> Tensor:
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = torch.unsqueeze(x, axis)
    return x


@OPS.op("Unsqueeze")
def unsqueeze_by_attribute(x: Tensor, *, axes: Sequence[int], site: Site) -> Tensor:
    """`x` with new axes of size 1, at these places of the result."""
    return unsqueeze(x, axes, site=site)


@OPS.op("Expand")
def expand(x: Tensor, shape: Sizes, *, site: Site) -> Tensor:
    """`x` broadcast with a shape: either may have the greater size along an axis."""
    own = site.shape(0)
    if own is None or not isinstance(shape, tuple) or len(own) > len(shape):
        return x.expand(site.call(torch.broadcast_shapes, x.shape, shape))
    lead = len(shape) - len(own)
    target: list[Any] = list(shape[:lead])
    for mine, wanted in zip(own, shape[lead:], strict=True):
        same = mine is not None and site.size_name(wanted) == mine
        if mine == 1:
            target.append(wanted)
        elif same or isinstance(mine, int) or (isinstance(wanted, int) and wanted == 1):
            target.append(-1)
        else:
            return x.expand(site.call(torch.broadcast_shapes, x.shape, shape))
    grows = any(not isinstance(n, int) or n not in (1, -1) for n in target)
    return x.expand(*target) if lead or grows else x


@OPS.op("Identity")
def identity(x: Tensor) -> Tensor:
    """`x` itself."""
    return x


@OPS.op("Shape")
def shape(x: Tensor, *, start: int = 0, end: int | None = None, site: Site) -> Tensor:
    """The dimensions of a tensor whose rank is unknown."""
    return site.call(torch.tensor, x.shape[start:end], dtype=torch.int64, device=x.device)


@OPS.op("Size")
def size(x: Tensor, *, site: Site) -> Tensor:
    """The number of elements of a tensor whose rank is unknown."""
    return site.call(torch.tensor, x.numel(), dtype=torch.int64, device=x.device)
