"""A linear map with a trained correction of low rank."""

from typing import Self

from torch import Tensor, nn

from addax.errors import OptionError
from addax.frontend.layers.joining import at_least_one, share

__all__ = ["LoRALinear"]


class LoRALinear(nn.Module):
    """y = W x + c + (alpha / r) B A x: x[..., I] -> [..., O], A[r, I], B[O, r].

    W and c are frozen. B starts at zero, so that wrapping a trained map changes nothing. Folded,
    it is one linear map of weight W + (alpha / r) B A.

    Args:
        inputs: width I.
        outputs: width O.
        rank: rank r of the correction.
        alpha: numerator of its factor; r by default, for a factor of one.
        dropout: share of x that training hides from the correction.
        bias: whether there is a c.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (2106.09685),
    eq. 3.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rank: int,
        *,
        alpha: float | None = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        inputs, outputs = at_least_one("inputs", inputs), at_least_one("outputs", outputs)
        if at_least_one("rank", rank) > min(inputs, outputs):
            raise OptionError(
                f"expected a rank of at most {min(inputs, outputs)}, the smaller width of the map "
                f"{inputs} -> {outputs}; got {rank}"
            )
        self.linear = nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)
        self.drop = nn.Dropout(share("dropout", dropout))
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)
        self.factor = (rank if alpha is None else alpha) / rank

    @classmethod
    def around(
        cls, linear: nn.Linear, rank: int, *, alpha: float | None = None, dropout: float = 0.0
    ) -> Self:
        """The same map as `linear`, with a correction to be trained; holds `linear` itself."""
        made = cls(
            linear.in_features,
            linear.out_features,
            rank,
            alpha=alpha,
            dropout=dropout,
            bias=linear.bias is not None,
        )
        made.to(device=linear.weight.device, dtype=linear.weight.dtype)
        made.linear = linear.requires_grad_(False)
        return made

    @property
    def weight(self) -> Tensor:
        """W + (alpha / r) B A, the weight [O, I] of the folded map, for callers that read it."""
        return self.linear.weight + self.factor * (self.up.weight @ self.down.weight)

    @property
    def bias(self) -> Tensor | None:
        """c[O], or None."""
        return self.linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis of x[..., I]."""
        y: Tensor = self.linear(x) + self.factor * self.up(self.down(self.drop(x)))
        return y
