"""Elementwise arithmetic with broadcasting."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from addax.ir._judge.arrays import HALF, Array, wide
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)


def broadcasting_of_opset_6(call: Callable[..., Any]) -> Callable[..., Any]:
    """The op before opset 7: `b` is aligned with `a` from `axis` on, and only where asked to."""

    def old(
        a: Array,
        b: Array,
        *,
        axis: int | None = None,
        broadcast: int = 0,
        consumed_inputs: tuple[int, ...] = (),
    ) -> Any:
        del consumed_inputs
        if not broadcast and a.shape != b.shape:
            raise ValueError(f"shapes {a.shape} and {b.shape} differ and broadcast is 0")
        if broadcast and axis is not None:
            b = b.reshape(b.shape + (1,) * (a.ndim - axis % a.ndim - b.ndim))
        return call(a, b)

    return old


def add_binary(kernels: Kernels, name: str, call: Callable[..., Any]) -> None:
    """Registers a binary op in its broadcasting and its older form."""
    kernels.add(name, broadcasting_of_opset_6(call))
    kernels.add(name, call, since=7)


def unary(ufunc: Callable[[Array], Any]) -> Callable[..., Any]:
    """The op that applies `ufunc`; opset 1 had an attribute that means nothing."""

    def call(x: Array, *, consumed_inputs: tuple[int, ...] = ()) -> Any:
        del consumed_inputs
        return ufunc(x)

    return call


_UNARY_SINCE_1: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Exp": np.exp,
    "Floor": np.floor,
    "Log": np.log,
    "Neg": np.negative,
    "Reciprocal": np.reciprocal,
    "Sqrt": np.sqrt,
    "Tanh": np.tanh,
}
for _name, _ufunc in _UNARY_SINCE_1.items():
    KERNELS.add(_name, unary(_ufunc))
    KERNELS.add(_name, _ufunc, since=6)

_UNARY: dict[str, Callable[..., Any]] = {
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Round": np.rint,
    "Sign": np.sign,
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Tan": np.tan,
}
for _name, _ufunc in _UNARY.items():
    KERNELS.add(_name, _ufunc)


def divide(a: Array, b: Array) -> Any:
    """A / B; integers are divided towards zero.

    Raises:
        ZeroDivisionError: an integer is divided by zero.
    """
    if a.dtype.kind not in "iu":
        return np.divide(a, b)
    if not np.all(b):
        raise ZeroDivisionError("an integer is divided by zero")
    quotient = np.floor_divide(a, b)
    if a.dtype.kind == "i":
        quotient = quotient + ((quotient < 0) & (quotient * b != a))
    return quotient.astype(a.dtype, copy=False)


def power(x: Array, y: Array) -> Any:
    """X ** Y in the type of X."""
    if x.dtype.kind == "f" and y.size == 1 and y.ndim <= x.ndim and y.item() == 2:
        return np.square(x)
    if x.dtype in HALF or y.dtype in HALF:
        return np.power(wide(x), wide(y)).astype(x.dtype)
    if x.dtype.kind in "iu" and y.dtype.kind == "i" and np.any(y < 0):
        y = y.astype(np.float64)
    return np.power(x, y).astype(x.dtype, copy=False)


_BINARY: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": divide,
    "Pow": power,
}
for _name, _call in _BINARY.items():
    add_binary(KERNELS, _name, _call)


@KERNELS.op("Mod")
def modulo(a: Array, b: Array, *, fmod: int = 0) -> Any:
    """A mod B with the sign of B, or that of A with `fmod`."""
    if a.dtype.kind in "iu" and not np.all(b):
        raise ZeroDivisionError("an integer is divided by zero")
    ufunc = np.fmod if fmod else np.mod
    return ufunc(wide(a), wide(b)).astype(a.dtype, copy=False)


@KERNELS.op("Sum")
def add_all(*inputs: Array, consumed_inputs: tuple[int, ...] = ()) -> Any:
    """The sum of all inputs."""
    del consumed_inputs
    return reduce(np.add, inputs)


@KERNELS.op("Mean")
def mean_all(*inputs: Array, consumed_inputs: tuple[int, ...] = ()) -> Any:
    """The mean of all inputs."""
    del consumed_inputs
    total = reduce(np.add, [wide(x) for x in inputs])
    return (total / len(inputs)).astype(inputs[0].dtype, copy=False)


@KERNELS.op("Max")
def max_all(*inputs: Array, consumed_inputs: tuple[int, ...] = ()) -> Any:
    """The largest of all inputs; NaN where one is NaN."""
    del consumed_inputs
    return reduce(np.maximum, inputs)


@KERNELS.op("Min")
def min_all(*inputs: Array, consumed_inputs: tuple[int, ...] = ()) -> Any:
    """The smallest of all inputs; NaN where one is NaN."""
    del consumed_inputs
    return reduce(np.minimum, inputs)
