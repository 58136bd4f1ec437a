"""Constants that are not what they say: infinities, NaN, and numbers that no format holds.

A graph writes 0.70710677 and means sqrt(1/2). A lone constant within 2 ulp of a known irrational,
or of 1/3, times a power of two is mapped to a field element with that number's own algebra.
Elements of larger tensors are weights: those are what they say.
"""

import math

import numpy as np

from addax.ir._field.residues import PRIME, Residues, inverse, residues
from addax.ir._judge.arrays import Array

_ROOT_OF_2 = 1 << 16  # its square is 2**32 = 2 mod p
_ROOT_OF_2_OVER_PI = 987_654_321
_CUBIC = 555_555_557

# Numbers on [1, 2) and what they stand for. 0.044715 is Gelu's, which exporters round variously.
_KNOWN = (
    (math.sqrt(2), _ROOT_OF_2),
    (4 / 3, 4 * pow(3, -1, PRIME) % PRIME),
    (math.sqrt(2 / math.pi) * 2, 2 * _ROOT_OF_2_OVER_PI % PRIME),
    (0.044715 * 32, 32 * _CUBIC % PRIME),
    (0.044715 * math.sqrt(2 / math.pi) * 32, 32 * _CUBIC * _ROOT_OF_2_OVER_PI % PRIME),
)
INFINITY, _NAN = 1_111_111_117, 777_777_773
_ULPS = 2
_PRECISIONS = ((np.float32, 2.0**-23), (np.float64, 2.0**-52), (np.float16, 2.0**-10))


def lifted(x: Array) -> Residues:
    """The residues of a floating tensor; infinities and NaN are symbols that only equal theirs."""
    if x.size == 1:
        number = float(x.reshape(())[()])
        known = symbol(number)
        if known is not None:
            return np.full(x.shape, known, dtype=np.int64)
    finite = np.isfinite(x)
    if finite.all():
        return residues(x)
    special = np.where(np.isnan(x), _NAN, np.where(x > 0, INFINITY, PRIME - INFINITY))
    return np.where(finite, residues(np.where(finite, x, 0)), special)


def symbol(number: float) -> int | None:
    """The element for a number `number` is a rounding of, if there is one."""
    if number == 0 or not math.isfinite(number):
        return None
    fraction, exponent = math.frexp(abs(number))
    fraction, exponent = 2 * fraction, exponent - 1
    for precise, element in _KNOWN:
        apart = abs(fraction - precise)
        if any(apart <= _ULPS * eps and float(t(fraction)) == fraction for t, eps in _PRECISIONS):
            scaled = element * (1 << exponent % 31) % PRIME
            return scaled if number > 0 else PRIME - scaled
    return None


ROOT_OF_HALF = int(inverse(np.array(_ROOT_OF_2)))
ROOT_OF_2_OVER_PI = _ROOT_OF_2_OVER_PI
CUBIC = _CUBIC
