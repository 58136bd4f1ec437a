"""What a normalization leaves to each parallel branch: a scale and a shift of its own."""

import torch
from torch import Tensor, nn

__all__ = ["BranchAffine", "branch_affines"]


class BranchAffine(nn.Module):
    """y = weight * x + bias for each channel: x[..., D], weight[D], bias[D]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift the channels of x[..., D]."""
        return x * self.weight + self.bias


def branch_affines(dim: int, branches: int, affine: bool) -> nn.ModuleList:
    """A scale and shift for each branch, or as many modules that change nothing."""
    return nn.ModuleList(BranchAffine(dim) if affine else nn.Identity() for _ in range(branches))
