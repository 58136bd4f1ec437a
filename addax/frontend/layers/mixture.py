"""Linear maps and feed-forward parts of two experts: one multiplies, the other shifts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from addax.frontend.layers.joining import at_least_one
from addax.frontend.layers.router import ArgmaxRouter, Router
from addax.frontend.layers.shift_linear import ShiftLinear

__all__ = ["ExpertLinear", "MixtureFeedForward", "MixtureLinear"]


class ExpertLinear(nn.Module):
    """Two linear maps, each token's chosen from outside: x[..., I] -> [..., O].

        y[t] = Wm x[t] + cm    where expert[t] = 0    (Mult)
        y[t] = Ws x[t] + cs    elsewhere              (Shift, a `ShiftLinear`)

    Both are computed for every token here; `addax.optimize` finds the choice.
    """

    shift: nn.Module

    def __init__(
        self, inputs: int, outputs: int, *, kind: str = "PS", levels: int = 7, bias: bool = True
    ) -> None:
        super().__init__()
        self.mult = nn.Linear(
            at_least_one("inputs", inputs), at_least_one("outputs", outputs), bias
        )
        self.shift = ShiftLinear.like(self.mult, kind=kind, levels=levels)

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take weight[O, I] and bias[O] for Mult, and what comes next to them for Shift."""
        self.mult.weight.copy_(weight)
        if self.mult.bias is not None:
            self.mult.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
        if isinstance(self.shift, ShiftLinear):
            self.shift.approximate(self.mult.weight, self.mult.bias)

    def forward(self, x: Tensor, expert: Tensor) -> Tensor:
        """Map x[..., I] by the experts expert[...]."""
        return torch.where((expert == 0).unsqueeze(-1), self.mult(x), self.shift(x))


class MixtureLinear(nn.Module):
    """A linear map of two experts and their router: x[..., I] -> [..., O].

    Args:
        inputs: width I.
        outputs: width O.
        latencies: of Mult and Shift; see `expert_latencies`.
        kind: how the Shift expert is trained; see `ShiftLinear`.
        levels: powers of two of the Shift expert.
        bias: whether the experts have biases.
        noise: whether training adds noise to the router.

    Source: ShiftAddViT (arXiv 2306.06446), section 4.3.
    """

    router: Router | ArgmaxRouter

    def __init__(
        self,
        inputs: int,
        outputs: int,
        latencies: Sequence[float] = (1.0, 1.0),
        *,
        kind: str = "PS",
        levels: int = 7,
        bias: bool = True,
        noise: bool = True,
    ) -> None:
        super().__init__()
        self.router = Router(inputs, latencies, noise=noise)
        self.linear = ExpertLinear(inputs, outputs, kind=kind, levels=levels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis of x[..., I]."""
        expert, gate = self.router(x)
        return _gated(self.linear(x, expert), gate)


class MixtureFeedForward(nn.Module):
    """A feed-forward part of two experts with one router: x[..., D] -> [..., D].

        y[t] = fc2_e(act(fc1_e(x[t])))    e = expert[t]

    The activation, which is the same for both, is computed once.

    Args:
        dim: width D of a token.
        hidden: inner width.
        latencies: of Mult and Shift; see `expert_latencies`.
        kind: how the Shift expert is trained; see `ShiftLinear`.
        levels: powers of two of the Shift expert.
        noise: whether training adds noise to the router.
        activation: makes the activation.
        dropout: share of the hidden channels that training sets to zero.

    Source: ShiftAddViT (arXiv 2306.06446), section 4.3.
    """

    router: Router | ArgmaxRouter

    def __init__(
        self,
        dim: int,
        hidden: int,
        latencies: Sequence[float] = (1.0, 1.0),
        *,
        kind: str = "PS",
        levels: int = 7,
        noise: bool = True,
        activation: Callable[[], nn.Module] = nn.GELU,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.router = Router(dim, latencies, noise=noise)
        self.fc1 = ExpertLinear(dim, hidden, kind=kind, levels=levels)
        self.act = activation()
        self.drop = nn.Dropout(dropout)
        self.fc2 = ExpertLinear(hidden, dim, kind=kind, levels=levels)

    def forward(self, x: Tensor) -> Tensor:
        """Map each token of x[..., D] alone."""
        expert, gate = self.router(x)
        return _gated(self.fc2(self.drop(self.act(self.fc1(x, expert))), expert), gate)


def _gated(y: Tensor, gate: Tensor | None) -> Tensor:
    """y[..., O] times gate[...], which is 1 and has a gradient."""
    return y if gate is None else y * gate.unsqueeze(-1)
