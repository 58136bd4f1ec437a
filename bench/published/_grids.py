"""Values that integers of few bits stand for, and how a tensor's are chosen.

Source: RepQ-ViT (arXiv 2212.08254), sections 3.1 and 3.3, with the choice of ranges of its code.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Shares of a tensor that a range holds; the best by squared error is taken. None holds everything.
SHARES = (0.999, 0.9999, 0.99999)
Grid = Callable[[Tensor], Tensor]
Ranges = Callable[[Tensor, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Uniform:
    """x ~ (q - zero) scale, q = clamp(round(x / scale) + zero, 0, 2^bits - 1).

    A zero point that is no whole number is legal, and moves where codes are cut off.
    """

    scale: Tensor
    zero: Tensor
    bits: int

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest values."""
        codes = (x / self.scale).round_().add_(self.zero).clamp_(0, 2**self.bits - 1)
        return codes.sub_(self.zero).mul_(self.scale)

    @staticmethod
    def between(low: Tensor, high: Tensor, bits: int) -> "Uniform":
        """From low to high, of equal shape. A range that is a point gets the others' mean scale."""
        scale = (high - low) / (2**bits - 1)
        wide = scale > 1e-7 * torch.maximum(low.abs(), high.abs())
        usual = scale[wide].mean() if wide.any() else torch.ones(())
        scale = torch.where(wide, scale, usual)
        return Uniform(scale, (-low / scale).round(), bits)


@dataclass(frozen=True)
class RootTwo:
    """p ~ largest 2^(-q / 2), q = round(-2 log2(p / largest)), and 0 from q = levels on."""

    largest: Tensor
    levels: int

    def __call__(self, p: Tensor) -> Tensor:
        """The nearest values, by logarithm."""
        codes = (p / self.largest).log2_().mul_(-2).round_().clamp_(min=0)
        made = (codes / -2).exp2_().mul_(self.largest)
        return made.masked_fill_(codes >= self.levels, 0)


def extremes(rows: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The least and the largest number of each of rows[G, N]."""
    del bits
    return rows.amin(1), rows.amax(1)


def percentiles(rows: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Of each of rows[G, N] the range of `SHARES` whose squared error is the least."""
    shares = [1 - share for share in SHARES] + list(SHARES)
    found = torch.from_numpy(np.quantile(rows.detach().numpy(), shares, axis=1)).float()
    low, high, least = found[0].clone(), found[3].clone(), torch.full(rows.shape[:1], torch.inf)
    for under, over in zip(found[:3], found[3:], strict=True):
        grid = Uniform.between(under[:, None], over[:, None], bits)
        error = (grid(rows) - rows).square().mean(1)
        better = error < least
        low, high = torch.where(better, under, low), torch.where(better, over, high)
        least = torch.minimum(error, least)
    return low, high


def uniform(x: Tensor, bits: int, ranges: Ranges, axis: int | None = None) -> Uniform:
    """Of a tensor as a whole, or of each slice along an axis."""
    if axis is None:
        low, high = ranges(x.reshape(1, -1), bits)
        return Uniform.between(low[0], high[0], bits)
    low, high = ranges(x.movedim(axis, 0).flatten(1), bits)
    shape = [1] * x.ndim
    shape[axis] = -1
    return Uniform.between(low.view(shape), high.view(shape), bits)


def root_two(p: Tensor, levels: int) -> RootTwo:
    """The largest value by the least squared error."""
    tried = np.quantile(p.detach().numpy(), SHARES)
    grids = [RootTwo(torch.tensor(value, dtype=p.dtype), levels) for value in tried]
    return min(grids, key=lambda grid: float((grid(p) - p).square().mean()))
