"""Bits of a token by its distances from anchors."""

import math

import torch
from torch import Tensor, nn

from addax.errors import InputError
from addax.frontend.layers._straight_through import bits as bits_of
from addax.frontend.layers.joining import at_least_one

__all__ = ["KernelHash"]


class KernelHash(nn.Module):
    """Bits {0, 1}, as numbers, of the tokens of each head: x[B, H, N, D] -> [B, H, N, I].

        d[n, j] = |x[n] - anchor_j|^2
        g       = exp(-d / (2 sigma)) - mean
        b[n, i] = 1[sum_j g[n, j] A[i, j] > 0]

    Anchors, mean and A are trained, with the gradient that `BinaryLinearAttention` describes. sigma
    is a constant: the papers take the mean of d of whatever they are running, so that a token's
    bits depend on its neighbours. Until `calibrate` is called, anchors are random points on the
    unit sphere, sigma is 2 and mean the kernel there, which suits normalized tokens.

    Args:
        heads: number H of heads, each with anchors and A of its own.
        width: width D of a head's token.
        bits: number I of bits.
        anchors: number of anchors.

    Source: Liu et al., "EcoFormer", NeurIPS 2022 (arXiv 2209.09004), with A trained by the task in
    place of supervised hashing; ShiftAddViT (arXiv 2306.06446).
    """

    sigma: Tensor

    def __init__(self, heads: int, width: int, bits: int = 16, anchors: int = 25) -> None:
        super().__init__()
        heads, width = at_least_one("heads", heads), at_least_one("width", width)
        bits, anchors = at_least_one("bits", bits), at_least_one("anchors", anchors)
        points = nn.functional.normalize(torch.randn(heads, anchors, width), dim=-1)
        self.anchors = nn.Parameter(points)
        self.mean = nn.Parameter(torch.full((heads, 1, anchors), math.exp(-0.5)))
        self.mixing = nn.Parameter(torch.randn(heads, bits, anchors))
        self.register_buffer("sigma", torch.full((heads, 1, 1), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        """The bits of x[B, H, N, D], each row's its own."""
        g = self._kernel(self._distance(x)) - self.mean
        return bits_of(g @ self.mixing.transpose(-2, -1))

    def _distance(self, x: Tensor) -> Tensor:
        """|x - anchor|^2 [B, H, N, M], without a tensor that has D as well."""
        size = x.square().sum(dim=-1, keepdim=True)
        far = self.anchors.square().sum(dim=-1).unsqueeze(-2)
        across = x @ self.anchors.transpose(-2, -1)
        # Rounding may leave less than nothing.
        return (size + far - 2 * across).clamp_min(0)

    def _kernel(self, distance: Tensor) -> Tensor:
        return (distance * -0.5 / self.sigma).exp()

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Take anchors, sigma and mean from tokens x[B, H, N, D].

        Raises:
            InputError: If there are fewer tokens than anchors.
        """
        tokens = x.transpose(0, 1).flatten(1, 2)
        heads, count, _ = self.anchors.shape
        if tokens.shape[0] != heads or tokens.shape[1] < count:
            raise InputError(
                f"expected at least {count} tokens, one for each anchor, of {heads} heads; "
                f"got x of shape {list(x.shape)}, [batch, heads, tokens, width]"
            )
        chosen = torch.linspace(0, tokens.shape[1] - 1, count, device=x.device).round().long()
        self.anchors.copy_(tokens[:, chosen])
        distance = self._distance(x)
        width = distance.mean(dim=(0, 2, 3))[:, None, None]
        self.sigma.copy_(torch.where(width > 0, width, 1.0))
        self.mean.copy_(self._kernel(distance).mean(dim=(0, 2))[:, None])
