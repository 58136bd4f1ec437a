"""Elements put or added at places given by indices."""

import math

import torch

from addax.backends._torch_ops.indexing import wrapped
from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor

OPS = Converters()

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@OPS.op("ScatterElements")
@OPS.op("Scatter")
def scatter_elements(
    x: Tensor,
    indices: Tensor,
    updates: Tensor,
    *,
    axis: int = 0,
    reduction: str = "none",
    site: Site,
) -> Tensor:
    """`x` with each update put, or combined, at its own place but for one axis."""
    places = wrapped(site, 1, indices, x.size(axis))
    if reduction == "none":
        return torch.scatter(x, axis, places, updates)
    return torch.scatter_reduce(x, axis, places, updates, _REDUCTIONS[reduction])


@OPS.op("ScatterND")
def scatter_nd(
    x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none", site: Site
) -> Tensor:
    """`x` with slices put, or combined, at places that list an index for each leading axis."""
    depth = site.sizes(1, indices)[-1]
    if not isinstance(depth, int):
        site.decline("how many axes each index has is unknown; declare the shape of the indices")
    if reduction in ("none", "add") and depth:
        places = tuple(indices[..., k] for k in range(depth))
        return torch.index_put(x, places, updates, accumulate=reduction == "add")
    site.require(depth > 0, "indices without axes address no element")
    return site.call(_reduced, x, indices, updates, _REDUCTIONS[reduction])


def _reduced(x: Tensor, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    depth = indices.size(-1)
    leading, block = x.shape[:depth], x.shape[depth:]
    rows = torch.zeros_like(indices[..., 0])
    for k in range(depth):
        index = indices[..., k]
        rows = rows * leading[k] + torch.where(index < 0, index + leading[k], index)
    flat = x.reshape(math.prod(leading), math.prod(block))
    places = rows.reshape(-1, 1).expand(-1, flat.size(1))
    return flat.scatter_reduce(0, places, updates.reshape(places.shape), reduction).reshape(x.shape)


@OPS.op("TensorScatter", since=24)
def tensor_scatter(
    past: Tensor,
    update: Tensor,
    write_indices: Tensor | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
    site: Site,
) -> Tensor:
    """A cache in which each sequence of the batch has new entries from its own index on."""
    rank = site.rank(0)
    axis = site.axis(axis)
    sizes, length = site.sizes(0, past), site.sizes(1, update)[axis]
    steps = site.call(torch.arange, length, device=past.device)
    starts = 0 if write_indices is None else write_indices.reshape(-1, 1)
    places = steps.reshape(1, -1) + starts
    places = places % sizes[axis] if mode == "circular" else places
    shape = [-1 if k in (0, axis) else 1 for k in range(rank)]
    shape[axis] = length
    return past.scatter(axis, places.reshape(shape).expand_as(update), update)
