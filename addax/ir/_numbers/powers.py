"""Signed powers of two and sums of them (APoT)."""

import numpy as np
import numpy.typing as npt

from addax.errors import InputError

Floats = npt.NDArray[np.float64]

_LEAST = 2.0**-1022  # below, powers of two are subnormal: they count as zero


def power_of_two(x: npt.ArrayLike) -> Floats:
    """The signed power of two nearest to each number in the logarithm; 0 for 0.

    PoT(x) = sign(x) 2^round(log2 |x|): the breakpoint between 2^e and 2^(e+1) is 2^(e + 1/2).
    Infinities and NaN stay what they are.
    """
    x = np.asarray(x, dtype=np.float64)
    size = np.abs(x)
    ordinary = np.isfinite(x) & (size >= _LEAST)
    exponent = np.rint(np.log2(np.where(ordinary, size, 1.0)))
    rounded = np.copysign(np.exp2(np.clip(exponent, -1022, 1023)), x)
    return np.where(ordinary, rounded, np.where(np.isfinite(x), 0.0, x))


def sum_of_powers(x: npt.ArrayLike, terms: int) -> Floats:
    """The greedy sum of `terms` signed powers of two: APoT(x) = sum_j PoT(x - sum_(l<j)).

    With one term this is `power_of_two`. A remainder of 0 adds nothing.

    Raises:
        InputError: `terms` is not positive.
    """
    if terms < 1:
        raise InputError(f"expected at least one term, got {terms}")
    x = np.asarray(x, dtype=np.float64)
    finite = np.where(np.isfinite(x), x, 0.0)
    made = np.zeros_like(finite)
    for _ in range(terms):
        made += power_of_two(finite - made)
    return np.where(np.isfinite(x), made, x)


def as_powers_of_two(x: npt.ArrayLike) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int16]] | None:
    """Signs in {-1, 0, 1} and exponents, if every number is exactly 0 or +-2^e; else None."""
    x = np.asarray(x, dtype=np.float64)
    fraction, exponent = np.frexp(x)
    if not np.isfinite(x).all() or not np.all((x == 0) | (np.abs(fraction) == 0.5)):
        return None
    sign = np.sign(x).astype(np.int8)
    return sign, np.where(x == 0, 0, exponent - 1).astype(np.int16)
