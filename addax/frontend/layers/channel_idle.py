"""A feed-forward part in which only some hidden channels pass through the activation."""

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor, nn

from addax.errors import OptionError
from addax.frontend.layers.joining import at_least_one, share

__all__ = ["NORMS", "ChannelIdleFeedForward", "LastAxisBatchNorm", "active_channels"]

NORMS = ("batch", "layer", "none")


class LastAxisBatchNorm(nn.BatchNorm1d):
    """Batch norm of the last axis: x[..., D], with statistics over all other axes.

    `nn.BatchNorm1d` normalizes axis 1, which for tokens [N, T, D] is the token: no error where
    T = D, and a wrong network.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the channels of x[..., D]."""
        if x.dim() == 2:
            return super().forward(x)
        if x.dim() == 3:
            return super().forward(x.transpose(1, 2)).transpose(1, 2)
        return super().forward(x.flatten(0, -2)).reshape(x.shape)


class ChannelIdleFeedForward(nn.Module):
    """Two linear maps and an activation of the first k of H channels: x[..., D] -> [..., D].

        h = W1 norm1(x) + c1                 h[..., H]
        z = [act(h[..., :k]), h[..., k:]]    k = ceil(H (1 - idle_ratio)) active channels
        y = W2 norm2(z) + c2

    The idle channels are linear from x to y, so after training `addax.optimize` folds them into
    one D x D map and norm1 and norm2 into the weights:

        y = W2' act(W1' x + c1') + L x + c'   W1'[k, D], W2'[D, k], L[D, D]

    D^2 + 2 D k multiplications a token in place of 2 D H: fewer where idle_ratio > D / (2 H), that
    is 12.5 % for H = 4 D, and 2.7 times fewer at 75 %. Put it where a block has its residual part,
    without a norm before it: `x + ChannelIdleFeedForward(...)(x)`; the shortcut folds into L too.

    Args:
        dim: width D of a token.
        hidden: inner width H.
        idle_ratio: share of the H channels that skip the activation, 0..1.
        norm: "batch": norm1 and norm2 are batch norms, as published, and fold. "layer": norm1 is a
            LayerNorm, which stays in the network and keeps the shortcut out of L, and there is
            no norm2. "none": neither, for a norm outside.
        activation: makes the activation, which must work on each number alone.
        dropout: share of the channels before W2 that training sets to zero.

    Source: "RePaViT: Scalable Vision Transformer Acceleration via Structural Reparameterization on
    Feedforward Network Layers", ICML 2025 (arXiv 2505.21847).
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        idle_ratio: float,
        *,
        norm: str = "batch",
        activation: Callable[[], nn.Module] = nn.GELU,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise OptionError(f"expected norm to be one of {', '.join(NORMS)}; got {norm!r}")
        dim, hidden = at_least_one("dim", dim), at_least_one("hidden", hidden)
        self.active = active_channels(hidden, idle_ratio)
        self.norm1 = {"batch": LastAxisBatchNorm, "layer": nn.LayerNorm, "none": nn.Identity}[norm](
            dim
        )
        self.fc1 = nn.Linear(dim, hidden)
        self.act = activation()
        self.drop = nn.Dropout(dropout)
        self.norm2 = LastAxisBatchNorm(hidden) if norm == "batch" else nn.Identity()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map each token of x[..., D]; in training, batch norm looks at all tokens."""
        y: Tensor = self.fc2(self.drop(self.norm2(self._activate(self.fc1(self.norm1(x))))))
        return y

    def _activate(self, h: Tensor) -> Tensor:
        """The activation of the active channels of h[..., H] beside the idle ones."""
        if self.active == 0:
            return h
        if self.active == h.shape[-1]:
            active: Tensor = self.act(h)
            return active
        return torch.cat([self.act(h[..., : self.active]), h[..., self.active :]], dim=-1)


def active_channels(hidden: int, idle_ratio: float) -> int:
    """k = ceil(hidden (1 - idle_ratio)), of the ratio that was meant.

    In floating point 1 - 0.7 is a little more than 0.3, and the ceiling of 640 times that is 193;
    here the ratio is the fraction next to the number, with at most four digits below the line.

    Raises:
        OptionError: If the ratio is no number in 0..1.
    """
    ratio = Fraction(share("idle_ratio", idle_ratio)).limit_denominator(10_000)
    return math.ceil(hidden * (1 - ratio))
