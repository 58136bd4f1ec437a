"""What a vision transformer's products cost, by kind, from its modules; by the papers' model.

Counted are linear maps, convolutions and the products, norms and filters of attention. Other norms,
activations and shortcuts are the same in every form and left out.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from addax.demo.vit import Attention
from addax.frontend.layers import BinaryLinearAttention, ShiftLinear
from addax.ir.cost import Cost

_SOFTMAX = 8  # multiplies and adds of one exponential and its share of the sum


def counts(model: nn.Module, image: Tensor, shares: Mapping[str, float]) -> Cost:
    """The work on one image [1, C, H, W].

    `shares` has the part of the tokens that the Mult expert of each mixture computes, by name.
    """
    total = Cost()

    def add(name: str, rule: Callable[[Any, Tensor, Tensor], Cost]) -> Any:
        def hook(module: Any, args: tuple[Tensor, ...], y: Tensor) -> None:
            nonlocal total
            total += _times(rule(module, args[0], y), _part(name, shares))

        return hook

    handles = [
        module.register_forward_hook(add(name, _RULES[type(module)]))
        for name, module in model.named_modules()
        if type(module) in _RULES
    ]
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    return total


def _part(name: str, shares: Mapping[str, float]) -> float:
    """The part of the tokens that a module computes."""
    for mixture, share in shares.items():
        if name.startswith(f"{mixture}.") and name.endswith((".mult", ".shift")):
            return share if name.endswith(".mult") else 1 - share
    return 1.0


def _times(cost: Cost, part: float) -> Cost:
    return Cost(
        multiplies=round(cost.multiplies * part),
        adds=round(cost.adds * part),
        shifts=round(cost.shifts * part),
    )


def _linear(module: nn.Linear, x: Tensor, y: Tensor) -> Cost:
    work = y.numel() * module.in_features
    return Cost(multiplies=work, adds=work)


def _shift(module: ShiftLinear, x: Tensor, y: Tensor) -> Cost:
    work = y.numel() * module.in_features
    return Cost(multiplies=0 if module.scale is None else y.numel(), adds=work, shifts=work)


def _conv(module: nn.Conv2d, x: Tensor, y: Tensor) -> Cost:
    work = y.numel() * module.weight[0].numel()
    return Cost(multiplies=work, adds=work)


def _softmax_attention(module: Attention, x: Tensor, y: Tensor) -> Cost:
    batch, tokens, dim = x.shape
    pairs = batch * tokens * tokens
    work = pairs * (2 * dim + module.heads * (_SOFTMAX + 1))
    return Cost(multiplies=work, adds=work)


def _linear_attention(module: BinaryLinearAttention, x: Tensor, y: Tensor) -> Cost:
    """Half of the bits are 0, so that two products of bits are as many adds as one of numbers."""
    products = x.numel() * module.width
    around = Cost(multiplies=4 * x.numel(), adds=2 * x.numel())  # weights and the norm
    if module.binary:
        return around + Cost(adds=products)
    return around + Cost(multiplies=2 * products, adds=2 * products)


_RULES: dict[type, Callable[[Any, Tensor, Tensor], Cost]] = {
    nn.Linear: _linear,
    ShiftLinear: _shift,
    nn.Conv2d: _conv,
    Attention: _softmax_attention,
    BinaryLinearAttention: _linear_attention,
}
