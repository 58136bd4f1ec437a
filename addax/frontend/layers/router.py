"""Which of two experts a token is sent to, learnt with the rest of the network."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from addax.errors import OptionError
from addax.frontend.layers._straight_through import learning, straight_through
from addax.frontend.layers.joining import at_least_one

__all__ = ["ArgmaxRouter", "Router"]

_EXPERTS = 2
_NOISE = 1 / _EXPERTS  # standard deviation, as published


class ArgmaxRouter(nn.Module):
    """expert[...] of x[..., D], int32: that of the largest of two logits, the first of equals."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.logits = nn.Linear(at_least_one("dim", dim), _EXPERTS)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """expert[...], and None for the gate."""
        return _largest(self.logits(x)), None


class Router(nn.Module):
    """expert[...] of x[..., D], 0 or 1, and in training a gate that makes the choice learnable.

        z      = W x + c                                W[2, D]
        expert = argmax_i z_i, the first of equals      in training of z + N(0, 1/4)
        gate   = 1, with the gradient of p = softmax(z)[expert]

    The gate multiplies the expert's output: 1 keeps a converted network what it is, and
    dL/dp = <dL/dy, y> moves the router. Released ones multiply by p itself, which halves outputs,
    or by a 1 without a gradient, which leaves the router as it was drawn.

    In training it also keeps `loss`, of its last tokens (see `balance_loss`):

        importance_i = sum_x softmax(z)_i
        load_i       = sum_x Phi((z_i - z'_j) / (1/2))     j the other, z' with noise
        loss         = SCV(alpha importance) + SCV(alpha load),   SCV(v) = var(v) / mean(v)^2

    It is smallest where alpha_0 n_0 = alpha_1 n_1: the share of expert 0 is then
    alpha_1 / (alpha_0 + alpha_1), fewer tokens for the slower one.

    Args:
        dim: width D of a token.
        latencies: of the two experts, in any unit; alpha is each one's share of their sum.
        noise: whether training adds noise, so that tokens near the border try both.

    Source: ShiftAddViT (arXiv 2306.06446), eq. 5-7; Riquelme et al., "Scaling Vision with Sparse
    Mixture of Experts", NeurIPS 2021 (arXiv 2106.05974).
    """

    alpha: Tensor

    def __init__(
        self, dim: int, latencies: Sequence[float] = (1.0, 1.0), *, noise: bool = True
    ) -> None:
        super().__init__()
        usable = len(latencies) == _EXPERTS and all(
            math.isfinite(one) and one > 0 for one in latencies
        )
        if not usable:
            raise OptionError(f"expected latencies to be two numbers above 0; got {latencies!r}")
        self.logits = nn.Linear(at_least_one("dim", dim), _EXPERTS)
        self.noise = noise
        wide = torch.tensor(tuple(latencies), dtype=torch.float64)
        self.register_buffer("alpha", (wide / wide.sum()).float())
        self.loss: Tensor | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """expert[...] of x[..., D], and the gate[...], or None where nothing is learnt."""
        z: Tensor = self.logits(x)
        noisy = z
        if self.training and self.noise:
            noisy = z + _NOISE * torch.randn_like(z)
        expert = _largest(noisy)
        if self.training:
            self.loss = self._imbalance(z.flatten(0, -2), noisy.flatten(0, -2))
        if not learning():
            return expert, None
        p = z.softmax(dim=-1).gather(-1, expert.long().unsqueeze(-1)).squeeze(-1)
        return expert, straight_through(torch.ones_like(p), p)

    def _imbalance(self, z: Tensor, noisy: Tensor) -> Tensor:
        """The loss of logits z[T, 2], given those that were compared."""
        importance = z.softmax(dim=-1).sum(dim=0)
        load = torch.special.ndtr((z - noisy.flip(-1)) / _NOISE).sum(dim=0)
        alpha = self.alpha.to(z)
        return _variation(alpha * importance) + _variation(alpha * load)

    def freeze(self) -> ArgmaxRouter:
        """The same choice, without noise, gate and loss."""
        made = ArgmaxRouter(self.logits.in_features)
        made.to(device=self.logits.weight.device, dtype=self.logits.weight.dtype)
        made.logits.load_state_dict(self.logits.state_dict())
        return made.requires_grad_(False).train(self.training)

    def __getstate__(self) -> dict[str, Any]:
        """All but the loss, which belongs to a graph of gradients and cannot be copied."""
        return {**self.__dict__, "loss": None}


def _largest(z: Tensor) -> Tensor:
    return z.argmax(dim=-1).to(torch.int32)


def _variation(v: Tensor) -> Tensor:
    """The squared coefficient of variation."""
    return v.var() / (v.mean().square() + 1e-10)
