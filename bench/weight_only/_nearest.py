"""Uniform codes with a scale and a zero point for each group, to the nearest: a plain rival."""

from dataclasses import dataclass

import torch
from torch import Tensor

# Shares of a group's range that the search tries; 1 alone is min-max.
CLIPS = tuple(1 - i / 40 for i in range(24))


@dataclass(frozen=True)
class Grid:
    """Uniform levels scale (q - zero), q = 0..2^bits - 1; scale and zero are [N, 1]."""

    scale: Tensor
    zero: Tensor
    bits: int

    def nearest(self, weights: Tensor) -> Tensor:
        """The level nearest to each of weights[N, S]."""
        code = (weights / self.scale + self.zero).round().clamp(0, 2**self.bits - 1)
        return (code - self.zero) * self.scale


def grid(weights: Tensor, bits: int, importance: Tensor | None = None, clip: bool = False) -> Grid:
    """The grid of each row of weights[N, S]: its range, or the share of it with the least error.

    Args:
        weights: Float64 [N, S].
        bits: Of a code.
        importance: What the squared error of a column counts, [S]; None: all the same.
        clip: Search `CLIPS`, with squared errors.
    """
    low = weights.amin(dim=1, keepdim=True).clamp(max=0)
    high = weights.amax(dim=1, keepdim=True).clamp(min=0)
    count = torch.ones_like(weights[0]) if importance is None else importance
    best, least = None, torch.full_like(low, torch.inf)
    for share in CLIPS if clip else (1.0,):
        # Groups of zeros get any scale.
        scale = ((high - low) * share / (2**bits - 1)).clamp(min=1e-12)
        zero = (-low * share / scale).round()
        made = Grid(scale, zero, bits)
        error = ((made.nearest(weights) - weights).square() * count).sum(dim=1, keepdim=True)
        better = error < least
        if best is None:
            best, least = made, error
        else:
            scale = torch.where(better, scale, best.scale)
            zero = torch.where(better, zero, best.zero)
            best, least = Grid(scale, zero, bits), torch.minimum(error, least)
    assert best is not None
    return best


def round_to_nearest(weights: Tensor, bits: int, group: int) -> Tensor:
    """weights[N, K] rounded in groups of `group` columns, each from its minimum to its maximum."""
    parts = [grid(part, bits).nearest(part) for part in weights.split(group, dim=1)]
    return torch.cat(parts, dim=1)


def uniform_bytes(rows: int, columns: int, bits: int, group: int) -> int:
    """Packed bytes of uniform codes: a float16 scale and a zero point of `bits` a group."""
    groups = -(-columns // group)
    return -(-rows * (columns * bits + groups * (16 + bits)) // 8)
