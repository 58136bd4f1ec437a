"""A linear map whose weights are signed powers of two."""

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from addax.errors import OptionError
from addax.frontend.layers._straight_through import learning, straight_through
from addax.frontend.layers.joining import at_least_one

__all__ = ["ShiftLinear"]

KINDS = ("PS", "Q")
_ROUNDS = 8  # of fitting powers and scales in turn; both have settled by then


class ShiftLinear(nn.Module):
    """y = W x + c, W[o, i] = scale[o] s[o, i] 2^p[o, i], s in {-1, 0, 1}: x[..., I] -> [..., O].

    p is a whole number in 1 - levels..0, so a product is a shift. Two ways to train W:

        "PS"  p = round(shift), s = sign(round(sign)), of trained shift[O, I] and sign[O, I]
              dL/dshift = g s 2^p ln 2,   dL/dsign = g               g = dL/dW / scale
        "Q"   s 2^p is the power next to a trained weight[O, I]; dL/dweight = g

    Next to means in the logarithm, between powers; a weight below half the smallest power is 0.
    The gradients are the papers', not those of the function, which is constant almost everywhere:
    that of "sign" leaves out 2^p, so that a zero can come back.

    Args:
        inputs: width I.
        outputs: width O.
        kind: "PS" or "Q".
        levels: number of powers. Seven fit int8 and a table of 4-bit codes; the papers have 15.
        scaled: whether scale[O] is trained; otherwise it is 1, as in the papers, and the largest
            weight is 1. It folds: `addax.optimize(..., allow=("shift-weights",))` stores it once
            for each row.
        bias: whether there is a c.

    Source: Elhoushi et al., "DeepShift", CVPR Workshops 2021 (arXiv 1905.13298), eq. 3-8.
    """

    powers: Tensor
    shift: nn.Parameter  # of kind "PS"
    sign: nn.Parameter
    weight: nn.Parameter  # of kind "Q"

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kind: str = "PS",
        levels: int = 7,
        scaled: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise OptionError(f"expected kind to be one of {', '.join(KINDS)}; got {kind!r}")
        self.in_features = at_least_one("inputs", inputs)
        self.out_features = at_least_one("outputs", outputs)
        self.kind, self.lowest = kind, 1 - at_least_one("levels", levels)
        if levels > 100:
            raise OptionError(f"expected levels to be at most 100, as float32 holds; got {levels}")
        size = (outputs, inputs)
        for name in ("shift", "sign") if kind == "PS" else ("weight",):
            self.register_parameter(name, nn.Parameter(torch.empty(size)))
        self.scale = nn.Parameter(torch.ones(outputs)) if scaled else None
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        # Read from a table: 2 ** p is not exact on every processor.
        table = torch.tensor([2.0**p for p in range(self.lowest, 1)])
        self.register_buffer("powers", table, persistent=False)
        start = nn.Linear(inputs, outputs, bias=bias)
        self.approximate(start.weight, start.bias)

    @classmethod
    def like(
        cls, linear: nn.Linear, *, kind: str = "PS", levels: int = 7, scaled: bool = True
    ) -> Self:
        """The nearest map to a trained one; `linear` itself stays as it is."""
        made = cls(
            linear.in_features,
            linear.out_features,
            kind=kind,
            levels=levels,
            scaled=scaled,
            bias=linear.bias is not None,
        )
        made.to(device=linear.weight.device, dtype=linear.weight.dtype)
        made.approximate(linear.weight, linear.bias)
        return made

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Take the powers next to weight[O, I], and the scales that bring them nearest to it."""
        wide = weight.detach().double()
        scale = torch.ones_like(wide[:, :1])
        if self.scale is not None:
            scale = wide.abs().amax(dim=1, keepdim=True)
            scale = torch.where(scale == 0, 1.0, scale)
            for _ in range(_ROUNDS):
                sign, power = self._nearest(wide / scale)
                near = sign * self.powers.double()[power]
                size = near.square().sum(dim=1, keepdim=True)
                best = (near * wide).sum(dim=1, keepdim=True) / size
                scale = torch.where((size > 0) & (best > 0), best, scale)
            self.scale.copy_(scale[:, 0])
        sign, power = self._nearest(wide / scale)
        if self.kind == "PS":
            self.shift.copy_(power + self.lowest)
            self.sign.copy_(sign)
        else:
            self.weight.copy_(wide / scale)
        if bias is not None and self.bias is not None:
            self.bias.copy_(bias)

    def _nearest(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Signs, and the numbers in the table of the powers next to weight[O, I]."""
        size = weight.abs()
        exact = size.clamp_min(2.0 ** (self.lowest - 1)).log2().round().clamp(self.lowest, 0)
        sign = torch.where(size < 2.0 ** (self.lowest - 1), 0.0, weight.sign())
        return sign, (exact - self.lowest).long()

    def effective_weight(self) -> Tensor:
        """W[O, I], exactly: powers of two times the scale, with the gradients described above."""
        with torch.no_grad():
            if self.kind == "PS":
                sign = self.sign.round().sign()
                power = (self.shift.clamp(self.lowest, 0).round() - self.lowest).long()
            else:
                sign, power = self._nearest(self.weight)
            hard = sign * self.powers[power]
        if learning():
            soft = self.weight if self.kind == "Q" else hard * math.log(2) * self.shift + self.sign
            hard = straight_through(hard, soft)
        return hard if self.scale is None else self.scale.unsqueeze(1) * hard

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis of x[..., I]."""
        return functional.linear(x, self.effective_weight(), self.bias)

    @torch.no_grad()
    def freeze(self) -> nn.Linear:
        """The same map with its weights as they are, which no training moves to other powers."""
        weight = self.effective_weight()
        made = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        made.to(device=weight.device, dtype=weight.dtype).requires_grad_(False)
        made.weight.copy_(weight)
        if self.bias is not None:
            made.bias.copy_(self.bias)
        return made.train(self.training)
