"""Elements picked by indices; negative ones count from the end."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Scalar, Tensor

OPS = Converters()


@OPS.op("Gather")
def gather(x: Tensor, indices: Tensor, *, axis: int = 0, site: Site) -> Tensor:
    """`x` at `indices` along an axis: x[a, n, b], indices[q] to y[a, q, b].

    Rows of a trainable matrix are looked up by `torch.nn.functional.embedding`, whose indices may
    not be negative.
    """
    axis = site.axis(axis)
    integers = site.integers(1)
    if integers is not None and integers.scalar:
        return x.select(axis, integers.items[0])
    if axis == 0 and site.is_trainable(0) and site.rank(0) == 2 and integers is None:
        return F.embedding(indices, x)
    known = site.constant(1)
    if known is not None and known.ndim == 1 and (known >= 0).all():
        return torch.index_select(x, axis, indices)
    place: Any = (*(slice(None),) * axis, indices)
    return x[place if axis else indices]


@OPS.op("GatherElements")
def gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0, site: Site) -> Tensor:
    """For each index, the element of `x` at the same place but for one axis."""
    return torch.gather(x, axis, wrapped(site, 1, indices, x.size(axis)))


def wrapped(site: Site, index: int, indices: Tensor, size: int) -> Tensor:
    """Indices with `size` added where they are negative: torch's gather and scatter want that."""
    known = site.constant(index)
    if known is not None and np.all(known >= 0):
        return indices.long()
    return torch.where(indices < 0, indices + size, indices).long()


@OPS.op("GatherND")
def gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0, site: Site) -> Tensor:
    """`x` at places whose last axis lists an index for each leading axis of `x`."""
    depth = site.sizes(1, indices)[-1]
    if not isinstance(depth, int):
        site.decline("how many axes each index has is unknown; declare the shape of the indices")
    if not batch_dims:
        return x[tuple(indices[..., k] for k in range(depth))] if depth else x
    rank = site.rank(1)
    batch = []
    for axis in range(batch_dims):
        numbers = site.call(torch.arange, site.sizes(0, x)[axis], device=x.device)
        batch.append(numbers.reshape(-1, *(1,) * (rank - 2 - axis)))
    return x[(*batch, *(indices[..., k] for k in range(depth)))]


@OPS.op("Compress")
def compress(x: Tensor, condition: Tensor, *, axis: int | None = None, site: Site) -> Tensor:
    """The slices of `x` (or, without an axis, the elements) where the condition holds."""
    kept = torch.nonzero(condition).squeeze(1)
    return torch.index_select(x.flatten() if axis is None else x, axis or 0, kept)


@OPS.op("OneHot")
def one_hot(
    indices: Tensor, depth: Scalar, values: Tensor, *, axis: int = -1, site: Site
) -> Tensor:
    """`values[1]` at the index along a new axis of `depth` elements, else `values[0]`."""
    rank = site.rank(0) + 1
    axis = axis + rank if axis < 0 else axis
    depth = int(depth) if isinstance(depth, float) else depth
    classes = site.call(torch.arange, depth, device=indices.device)
    classes = classes.reshape(-1, *(1,) * (rank - 1 - axis))
    places = indices.to(torch.int64)
    places = torch.where(places < 0, places + depth, places).unsqueeze(axis)
    return torch.where(places == classes, values[1], values[0])
