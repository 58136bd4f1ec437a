"""Elementwise arithmetic, and sums along an axis."""

import functools
import operator
from collections.abc import Callable, Sequence

import onnx_ir as ir
import torch

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Ints, Number, Tensor

OPS = Converters()

for _name, _function in {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Log": torch.log,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
}.items():
    OPS.add(_name, _function)
OPS.add("BitwiseAnd", torch.bitwise_and, inputs=2)
OPS.add("BitwiseOr", torch.bitwise_or, inputs=2)
OPS.add("BitwiseXor", torch.bitwise_xor, inputs=2)


def aligned(a: Tensor, b: Tensor, axis: int | None, broadcast: int, site: Site) -> Tensor:
    """`b` as opsets before 7 broadcast it: its first axis stands at `axis` of `a`."""
    if not broadcast or axis is None:
        return b
    missing = site.rank(0) - site.axis(axis) - site.rank(1)
    return b[(..., *(None,) * missing)] if missing > 0 else b


def _arithmetic(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    @OPS.op(name, since=7)
    def current(a: Number, b: Number) -> Tensor:
        return function(a, b)

    @OPS.op(name)
    def before_numpy_broadcasting(
        a: Tensor,
        b: Tensor,
        *,
        axis: int | None = None,
        broadcast: int = 0,
        consumed_inputs: Sequence[int] = (),
        site: Site,
    ) -> Tensor:
        return function(a, aligned(a, b, axis, broadcast, site))


_arithmetic("Add", operator.add)
_arithmetic("Sub", operator.sub)
_arithmetic("Mul", operator.mul)


@OPS.op("Div", since=7)
def divide(a: Number, b: Number, *, site: Site) -> Tensor:
    """The quotient; that of integers is rounded towards zero."""
    if site.dtype(0).is_floating_point() or site.dtype(0) in _COMPLEX:
        result: Tensor = a / b
        return result
    a = a if site.integers(0) is None else site.tensor(0)
    return torch.div(a, b, rounding_mode="trunc")


@OPS.op("Div")
def divide_before_numpy_broadcasting(
    a: Tensor,
    b: Tensor,
    *,
    axis: int | None = None,
    broadcast: int = 0,
    consumed_inputs: Sequence[int] = (),
    site: Site,
) -> Tensor:
    """The quotient, `b` aligned at `axis` of `a`."""
    return divide(a, aligned(a, b, axis, broadcast, site), site=site)


_COMPLEX = (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128)


@OPS.op("Mod", since=10)
def modulo(a: Tensor, b: Number, *, fmod: int = 0) -> Tensor:
    """The remainder with the sign of `b`, or of `a` if `fmod`."""
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


@OPS.op("Pow", since=7)
def power(x: Number, y: Number, *, site: Site) -> Tensor:
    """`x ** y`, of the type of `x`."""
    base, exponent = site.dtype(0), site.dtype(1)
    plain = base == exponent or (isinstance(y, int | float) and base.is_floating_point())
    result: Tensor = x**y
    return result if plain else result.to(site.torch_dtype(base))


@OPS.op("Pow")
def power_before_numpy_broadcasting(
    x: Tensor, y: Tensor, *, axis: int | None = None, broadcast: int = 0, site: Site
) -> Tensor:
    """`x ** y`, `y` aligned at `axis` of `x`."""
    return torch.pow(x, aligned(x, y, axis, broadcast, site))


@OPS.op("Sum")
def total(*xs: Number, consumed_inputs: Sequence[int] = ()) -> Tensor:
    """The sum of all inputs."""
    result: Tensor = functools.reduce(operator.add, xs)
    return result


@OPS.op("Mean")
def mean(*xs: Number, consumed_inputs: Sequence[int] = ()) -> Tensor:
    """The mean of all inputs."""
    return total(*xs) / len(xs)


@OPS.op("Max")
def maximum(*xs: Tensor, consumed_inputs: Sequence[int] = ()) -> Tensor:
    """The greatest of all inputs."""
    return functools.reduce(torch.maximum, xs)


@OPS.op("Min")
def minimum(*xs: Tensor, consumed_inputs: Sequence[int] = ()) -> Tensor:
    """The least of all inputs."""
    return functools.reduce(torch.minimum, xs)


@OPS.op("Clip", since=11)
def clip(x: Tensor, low: Number | None = None, high: Number | None = None) -> Tensor:
    """`min(max(x, low), high)`."""
    if all(isinstance(bound, int | float) for bound in (low, high)):
        return torch.clamp(x, min=low, max=high)
    x = x if low is None else torch.clamp(x, min=low)
    return x if high is None else torch.clamp(x, max=high)


@OPS.op("Clip")
def clip_by_attributes(
    x: Tensor,
    *,
    min: float | None = None,  # noqa: A002  # ONNX's name
    max: float | None = None,  # noqa: A002
    consumed_inputs: Sequence[int] = (),
) -> Tensor:
    """`min(max(x, low), high)` with constant bounds."""
    return x if min is None and max is None else torch.clamp(x, min=min, max=max)


@OPS.op("BitShift", since=11)
def bit_shift(x: Tensor, y: Tensor, *, direction: str) -> Tensor:
    """The bits of `x` moved by `y` places."""
    if direction == "LEFT":
        return torch.bitwise_left_shift(x, y)
    return torch.bitwise_right_shift(x, y)


@OPS.op("CumSum")
def cumulative_sum(
    x: Tensor, axis: Ints, *, exclusive: int = 0, reverse: int = 0, site: Site
) -> Tensor:
    """Sums of the elements up to each."""
    dtype = site.torch_dtype(site.dtype(0))

    def scan(values: Tensor, dim: int) -> Tensor:
        return torch.cumsum(values, dim, dtype=dtype)

    return _scanned(scan, torch.zeros_like, x, axis[0], exclusive, reverse)


@OPS.op("CumProd", since=26)
def cumulative_product(
    x: Tensor, axis: Ints, *, exclusive: int = 0, reverse: int = 0, site: Site
) -> Tensor:
    """Products of the elements up to each."""
    dtype = site.torch_dtype(site.dtype(0))

    def scan(values: Tensor, dim: int) -> Tensor:
        return torch.cumprod(values, dim, dtype=dtype)

    return _scanned(scan, torch.ones_like, x, axis[0], exclusive, reverse)


def _scanned(
    scan: Callable[[Tensor, int], Tensor],
    neutral: Callable[[Tensor], Tensor],
    x: Tensor,
    axis: int,
    exclusive: int,
    reverse: int,
) -> Tensor:
    x = torch.flip(x, [axis]) if reverse else x
    if exclusive:
        head = neutral(x.narrow(axis, 0, 1))
        x = torch.cat([head, x.narrow(axis, 0, x.size(axis) - 1)], axis)
    x = scan(x, axis)
    return torch.flip(x, [axis]) if reverse else x
