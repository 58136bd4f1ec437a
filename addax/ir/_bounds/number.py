"""Arithmetic on numbers that know how far rounding may have moved them.

A `Bounded` is an array of values and, for each, a bound on |computed - exact|, where "computed" is
in the number format that the model gives the value. Errors propagate to first order and a little
more; each operation adds its own rounding, relative to the magnitudes of its operands, so that the
bound also covers a sum that is taken in another order.

Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., sections 2.2 and 3.1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from addax.ir._judge.arrays import REAL, Array

Axes = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Bounded:
    """Values, a bound on the error of each, and the format that the model computes them in.

    `error` is None where the values are exact. Integers and truth values that may have come out
    differently have the error `inf`.
    """

    value: Array
    error: Array | None
    dtype: np.dtype[Any]

    @property
    def errors(self) -> Array:
        """The bounds as an array."""
        return np.zeros(self.value.shape) if self.error is None else self.error

    @property
    def is_exact(self) -> bool:
        """Whether no element can have been computed differently."""
        return self.error is None

    @property
    def magnitude(self) -> Array:
        """|values|."""
        return np.abs(self.value)


@dataclass(frozen=True, slots=True)
class Format:
    """A number format: unit roundoff, smallest positive and largest finite number."""

    unit: float
    tiny: float
    largest: float


@cache
def form(dtype: np.dtype[Any]) -> Format:
    """The format of a floating dtype."""
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]  # has no annotations
    return Format(float(info.eps) / 2, float(info.smallest_subnormal), float(info.max))


def gamma(count: float, unit: float) -> float:
    """The relative error of n roundings, n u / (1 - n u); infinite where that says nothing."""
    return count * unit / (1 - count * unit) if count * unit < 1 else np.inf


def rounding(magnitude: Array, dtype: np.dtype[Any], count: float = 1) -> Array:
    """The error of `count` roundings of numbers of this magnitude; infinite beyond the format."""
    if dtype not in REAL:
        return np.zeros(np.shape(magnitude))
    known = form(dtype)
    error = gamma(count, known.unit) * magnitude + known.tiny
    return np.where(magnitude > known.largest, np.inf, error)


def settled(error: Array) -> Array:
    """`error` with infinity where nothing is known."""
    return np.where(np.isnan(error), np.inf, error)


def _wider(a: Bounded, b: Bounded) -> np.dtype[Any]:
    return a.dtype if a.dtype in REAL else b.dtype


def add(a: Bounded, b: Bounded) -> Bounded:
    """The sum a + b."""
    dtype = _wider(a, b)
    error = a.errors + b.errors + rounding(a.magnitude + b.magnitude, dtype)
    return Bounded(a.value + b.value, settled(error), dtype)


def subtract(a: Bounded, b: Bounded) -> Bounded:
    """The difference a - b."""
    return add(a, negate(b))


def negate(a: Bounded) -> Bounded:
    """-a."""
    return Bounded(-a.value, a.error, a.dtype)


def multiply(a: Bounded, b: Bounded) -> Bounded:
    """The product a b."""
    dtype = _wider(a, b)
    value = a.value * b.value
    error = (a.magnitude + a.errors) * b.errors + a.errors * b.magnitude
    return Bounded(value, settled(error + rounding(np.abs(value), dtype)), dtype)


def divide(a: Bounded, b: Bounded) -> Bounded:
    """The quotient a / b; nothing is known where b may be 0."""
    dtype = _wider(a, b)
    value = a.value / b.value
    magnitude = np.abs(value)
    if a.is_exact and b.is_exact:
        return Bounded(value, settled(rounding(magnitude, dtype)), dtype)
    least = b.magnitude - b.errors
    error = np.where(least > 0, (a.errors + magnitude * b.errors) / least, np.inf)
    return Bounded(value, settled(error + rounding(magnitude, dtype)), dtype)


def monotone(call: Callable[[Array], Any], a: Bounded, count: float = 1) -> Bounded:
    """A function that rises or falls throughout, computed within `count` roundings."""
    value = np.asarray(call(a.value))
    error = rounding(np.abs(value), a.dtype, count)
    if a.error is not None:
        low = np.nextafter(a.value - a.error, -np.inf)
        high = np.nextafter(a.value + a.error, np.inf)
        ends = np.maximum(np.abs(call(low) - value), np.abs(call(high) - value))
        error = np.where(a.error > 0, ends, 0) + error
    return Bounded(value, settled(error), a.dtype)


def lipschitz(call: Callable[[Array], Any], slope: float, a: Bounded, count: float = 1) -> Bounded:
    """A function that nowhere changes faster than `slope`, computed within `count` roundings."""
    value = np.asarray(call(a.value))
    # Its own arithmetic is relative to what it adds up, which may be larger than the result.
    error = slope * a.errors + rounding(np.maximum(np.abs(value), a.magnitude), a.dtype, count)
    return Bounded(value, settled(error), a.dtype)


def root(a: Bounded) -> Bounded:
    """sqrt(a), for a that is not negative over the reals."""
    value = np.sqrt(a.value)
    low, high = np.sqrt(np.maximum(a.value - a.errors, 0)), np.sqrt(a.value + a.errors)
    error = np.maximum(high - value, value - low) + rounding(value, a.dtype, 2)
    return Bounded(value, settled(error), a.dtype)


def total(a: Bounded, axes: Axes, *, keepdims: bool = True) -> Bounded:
    """The sum over some axes, in any order."""
    count = a.value.size if axes is None else _count(a.value.shape, axes)
    value = np.sum(a.value, axis=axes, keepdims=keepdims)
    carried = np.sum(a.errors, axis=axes, keepdims=keepdims)
    magnitude = np.sum(a.magnitude, axis=axes, keepdims=keepdims)
    error = carried + rounding(magnitude + carried, a.dtype, max(count, 1))
    return Bounded(value, settled(error), a.dtype)


def mean(a: Bounded, axes: Axes, *, keepdims: bool = True) -> Bounded:
    """The mean over some axes."""
    count = a.value.size if axes is None else _count(a.value.shape, axes)
    size = Bounded(np.asarray(float(count)), None, a.dtype)
    return divide(total(a, axes, keepdims=keepdims), size)


def exact(value: Any, dtype: np.dtype[Any]) -> Bounded:
    """A number without error."""
    return Bounded(np.asarray(value), None, dtype)


def shaped(a: Bounded, shape: Sequence[int]) -> Bounded:
    """The same elements in another shape."""
    error = None if a.error is None else a.error.reshape(shape)
    return Bounded(a.value.reshape(shape), error, a.dtype)


def _count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    return int(np.prod([shape[axis] for axis in axes], dtype=np.int64))
