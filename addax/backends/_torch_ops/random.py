"""Random tensors. Seeds belong to torch: `torch.manual_seed` decides, the op's `seed` does not."""

from collections.abc import Sequence

import torch

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor

OPS = Converters()


@OPS.op("RandomNormal")
def normal(
    *,
    shape: Sequence[int],
    dtype: int = 1,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float = 0.0,
    site: Site,
) -> Tensor:
    """Normally distributed numbers."""
    del seed
    kind = site.torch_dtype(dtype)
    numbers: Tensor = site.call(torch.randn, tuple(shape), dtype=kind, device=site.device)
    return numbers * scale + mean


@OPS.op("RandomUniform")
def uniform(
    *,
    shape: Sequence[int],
    dtype: int = 1,
    high: float = 1.0,
    low: float = 0.0,
    seed: float = 0.0,
    site: Site,
) -> Tensor:
    """Numbers evenly distributed between `low` and `high`."""
    del seed
    kind = site.torch_dtype(dtype)
    numbers: Tensor = site.call(torch.rand, tuple(shape), dtype=kind, device=site.device)
    return numbers * (high - low) + low


@OPS.op("RandomNormalLike")
def normal_like(
    x: Tensor,
    *,
    dtype: int | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float = 0.0,
    site: Site,
) -> Tensor:
    """Normally distributed numbers in the shape of `x`."""
    del seed
    kind = site.torch_dtype(site.dtype(0) if dtype is None else dtype)
    return torch.randn_like(x, dtype=kind) * scale + mean


@OPS.op("RandomUniformLike")
def uniform_like(
    x: Tensor,
    *,
    dtype: int | None = None,
    high: float = 1.0,
    low: float = 0.0,
    seed: float = 0.0,
    site: Site,
) -> Tensor:
    """Numbers evenly distributed between `low` and `high`, in the shape of `x`."""
    del seed
    kind = site.torch_dtype(site.dtype(0) if dtype is None else dtype)
    return torch.rand_like(x, dtype=kind) * (high - low) + low


@OPS.op("Multinomial")
def multinomial(
    x: Tensor, *, dtype: int = 6, sample_size: int = 1, seed: float = 0.0, site: Site
) -> Tensor:
    """Classes drawn by unnormalized log-probabilities x[batch, class]."""
    del seed
    drawn = torch.multinomial(torch.softmax(x, -1), sample_size, replacement=True)
    return drawn.to(site.torch_dtype(dtype))
