"""Elementwise arithmetic; functions that are not rational are oracles."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from addax.errors import UnsupportedOpError
from addax.ir._field.residues import PRIME, Residues, inverse, power
from addax.ir._field.table import FieldSite
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)

_HALF = (PRIME + 1) // 2
_LARGEST_EXPONENT = 64


def reals(*inputs: Any) -> None:
    """Refuses integers that were computed from floating values: they wrap and truncate.

    Raises:
        UnsupportedOpError: one of the inputs is such an integer.
    """
    if any(getattr(x, "kind", "real") != "real" for x in inputs):
        raise UnsupportedOpError(
            "arithmetic on integers or conditions that were computed from floating values has no "
            "meaning over a field; compare the models by evaluation instead"
        )


@KERNELS.op("Add")
def add(a: Any, b: Any, *, axis: int = -1, broadcast: int = 0) -> Any:
    """A + B."""
    _modern(broadcast)
    reals(a, b)
    return (a + b) % PRIME


@KERNELS.op("Sub")
def subtract(a: Any, b: Any, *, axis: int = -1, broadcast: int = 0) -> Any:
    """A - B."""
    _modern(broadcast)
    reals(a, b)
    return (a - b) % PRIME


@KERNELS.op("Mul")
def multiply(a: Any, b: Any, *, axis: int = -1, broadcast: int = 0) -> Any:
    """A B."""
    _modern(broadcast)
    reals(a, b)
    return a * b % PRIME


@KERNELS.op("Div")
def divide(a: Any, b: Any, *, axis: int = -1, broadcast: int = 0) -> Any:
    """A / B."""
    _modern(broadcast)
    reals(a, b)
    return a * inverse(np.asarray(b)) % PRIME


def _modern(broadcast: int) -> None:
    if broadcast:
        raise UnsupportedOpError("broadcasting of opset 6 and older is not known here")


@KERNELS.op("Neg")
def negate(x: Any) -> Any:
    """-X."""
    reals(x)
    return -x % PRIME


@KERNELS.op("Reciprocal")
def reciprocal(x: Any) -> Any:
    """1 / X."""
    return inverse(np.asarray(x))


@KERNELS.op("Sum")
def total(*inputs: Any) -> Any:
    """The sum of the inputs."""
    reals(*inputs)
    return reduce(np.add, inputs) % PRIME


@KERNELS.op("Mean")
def mean(*inputs: Any) -> Any:
    """The mean of the inputs."""
    return total(*inputs) * quotient(len(inputs)) % PRIME


def quotient(count: int) -> int:
    """1 / count."""
    return pow(count % PRIME, -1, PRIME)


@KERNELS.op("Pow")
def raise_to(x: Any, exponent: Any, *, site: FieldSite) -> Any:
    """X ** exponent: products for whole exponents, roots for halves, else an oracle."""
    x, exponent = np.asarray(x), np.asarray(exponent)
    if exponent.size == 1:
        found = _raised(x, int(exponent.reshape(())), site)
        if found is not None:
            return np.broadcast_to(found, np.broadcast_shapes(x.shape, exponent.shape))
    return site.oracle("Pow", *np.broadcast_arrays(x, exponent))


def _raised(x: Residues, exponent: int, site: FieldSite) -> Residues | None:
    if exponent <= _LARGEST_EXPONENT:
        return power(x, exponent)
    if PRIME - exponent <= _LARGEST_EXPONENT:
        return inverse(power(x, PRIME - exponent))
    if exponent == _HALF:
        return np.asarray(square_root(x, site=site))
    if exponent == PRIME - _HALF:
        return inverse(square_root(x, site=site))
    return None


@KERNELS.op("Mod")
def remainder(a: Any, b: Any, *, fmod: int = 0, site: FieldSite) -> Any:
    """The remainder of a division."""
    reals(a, b)
    return site.oracle(f"Mod {fmod}", *np.broadcast_arrays(np.asarray(a), np.asarray(b)))


@KERNELS.op("Sqrt")
def square_root(x: Any, *, site: FieldSite) -> Any:
    """A root is an oracle: its square is not known to be X again."""
    x = np.asarray(x)
    return np.where(x <= 1, x, site.oracle("Sqrt", x))


@KERNELS.op("Exp")
def exponential(x: Any, *, site: FieldSite) -> Any:
    """e ** X: an oracle with exp(0) = 1."""
    x = np.asarray(x)
    return np.where(x == 0, 1, site.oracle("Exp", x))


def _register(name: str, call: Callable[[Any, FieldSite], Any]) -> None:
    def kernel(x: Any, *, site: FieldSite) -> Any:
        return call(np.asarray(x), site)

    KERNELS.add(name, kernel)


for _name in ("Acos", "Acosh", "Ceil", "Floor", "Log", "Round"):
    _register(_name, lambda x, site, name=_name: site.oracle(name, x))  # type: ignore[misc]
for _name in ("Asin", "Asinh", "Atan", "Atanh", "Erf", "Sign", "Sin", "Sinh", "Tan", "Tanh"):
    _register(_name, lambda x, site, name=_name: site.oracle.odd(name, x))  # type: ignore[misc]
for _name in ("Cos", "Cosh"):
    _register(_name, lambda x, site, name=_name: site.oracle.even(name, x))  # type: ignore[misc]
