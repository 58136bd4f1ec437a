"""Comparisons, truth values and choices."""

import operator
from collections.abc import Callable

import torch

from addax.backends._torch_ops.arithmetic import aligned
from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Number, Tensor

OPS = Converters()

OPS.add("Not", torch.logical_not)
OPS.add("IsNaN", torch.isnan)
OPS.add("GreaterOrEqual", torch.ge, inputs=2, since=12)
OPS.add("LessOrEqual", torch.le, inputs=2, since=12)


def _binary(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    @OPS.op(name, since=7)
    def current(a: Number, b: Number) -> Tensor:
        return function(a, b)

    @OPS.op(name)
    def before_numpy_broadcasting(
        a: Tensor, b: Tensor, *, axis: int | None = None, broadcast: int = 0, site: Site
    ) -> Tensor:
        return function(a, aligned(a, b, axis, broadcast, site))


def _truth(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    OPS.add(name, function, inputs=2, since=7)

    @OPS.op(name)
    def before_numpy_broadcasting(
        a: Tensor, b: Tensor, *, axis: int | None = None, broadcast: int = 0, site: Site
    ) -> Tensor:
        return function(a, aligned(a, b, axis, broadcast, site))


_binary("Equal", operator.eq)
_binary("Greater", operator.gt)
_binary("Less", operator.lt)
_truth("And", torch.logical_and)
_truth("Or", torch.logical_or)
_truth("Xor", torch.logical_xor)


@OPS.op("IsInf")
def is_infinite(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Where `x` is infinite, of the signs asked for."""
    if detect_negative and detect_positive:
        return torch.isinf(x)
    if detect_positive:
        return torch.isposinf(x)
    return torch.isneginf(x) if detect_negative else torch.zeros_like(x, dtype=torch.bool)


@OPS.op("Where")
def where(condition: Tensor, x: Number, y: Number, *, site: Site) -> Tensor:
    """`x` where the condition holds, else `y`."""
    # Of two numbers torch would make its default type.
    return torch.where(condition, site.tensor(1) if isinstance(y, int | float) else x, y)
