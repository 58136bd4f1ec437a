"""Order: the greatest elements, distinct elements, places of what is not zero."""

import torch

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Ints, Tensor

OPS = Converters()


def _top(x: Tensor, k: int, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    # torch.topk takes equal elements in any order, ONNX the first ones first.
    ordered = torch.sort(x, dim=axis, descending=largest, stable=True)
    return ordered[0].narrow(axis, 0, k), ordered[1].narrow(axis, 0, k)


@OPS.op("TopK", since=10)
def top_k(
    x: Tensor,
    k: Ints,
    *,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,  # noqa: A002
) -> tuple[Tensor, Tensor]:
    """The k greatest or least elements along an axis, and their places."""
    del sorted
    return _top(x, k[0], axis, bool(largest))


@OPS.op("TopK")
def top_k_by_attribute(x: Tensor, *, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The k greatest elements along an axis, and their places."""
    return _top(x, k, axis, True)


@OPS.op("NonZero")
def non_zero(x: Tensor, *, site: Site) -> Tensor:
    """The places of nonzero elements: y[rank, count]."""
    return torch.nonzero(x if site.rank(0) else x.reshape(1)[:, None][..., :0]).t()


@OPS.op("Unique")
def unique(
    x: Tensor,
    *,
    axis: int | None = None,
    sorted: int = 1,  # noqa: A002  # ONNX name
    site: Site,
) -> tuple[Tensor, ...]:
    """Distinct elements or slices, their first places, where each went, and how often each came."""
    made = site.call(_unique, x, axis, bool(sorted))
    return tuple(made[k] for k in range(4))


def _unique(x: Tensor, axis: int | None, in_order: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, dim = (x.reshape(-1), 0) if axis is None else (x, axis)
    values, inverse, counts = torch.unique(x, dim=dim, return_inverse=True, return_counts=True)
    places = torch.arange(inverse.numel(), device=x.device)
    first = inverse.new_full((values.size(dim),), inverse.numel())
    first = first.scatter_reduce(0, inverse.reshape(-1), places, "amin")
    if not in_order:
        order = torch.argsort(first)
        values, first, counts = values.index_select(dim, order), first[order], counts[order]
        inverse = torch.argsort(order)[inverse]
    return values, first, inverse.reshape(-1), counts
