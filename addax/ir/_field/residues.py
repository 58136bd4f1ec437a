"""Arithmetic modulo the prime p = 2**31 - 1 on arrays of int64 in [0, p).

A product of two residues fits in 62 bits, so NumPy's int64 is exact.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from addax.errors import UnsupportedOpError

PRIME = 2**31 - 1

Residues: TypeAlias = npt.NDArray[np.int64]


def residues(x: Any) -> Residues:
    """The residues m 2**e mod p of finite float64 numbers m 2**e; exact, since 2**31 = 1 mod p."""
    given = np.ascontiguousarray(x, dtype=np.float64)
    bits, made = given.view(np.int64).reshape(-1), np.empty(given.size, dtype=np.int64)
    for start in range(0, given.size, _BLOCK):
        made[start : start + _BLOCK] = _from_bits(bits[start : start + _BLOCK])
    return made.reshape(np.shape(x))


def _from_bits(bits: Residues) -> Residues:
    biased = (bits >> 52) & 0x7FF
    whole = bits & ((1 << 52) - 1)
    whole += (biased > 0).astype(np.int64) << 52
    whole %= PRIME
    whole *= _SCALES[biased]
    whole %= PRIME
    whole *= np.sign(bits)
    whole %= PRIME
    return whole


_BLOCK = 1 << 14
"""Numbers converted at a time: they stay in the cache."""

_SCALES = np.array([1 << (max(e, 1) - 1075) % 31 for e in range(2048)], dtype=np.int64)
"""2**e mod p by the biased exponent of a float64; subnormal numbers have that of the smallest."""


def power(a: Residues, exponent: int) -> Residues:
    """a**exponent for an exponent that is not negative, by repeated squaring."""
    result = np.ones_like(a)
    while exponent:
        if exponent & 1:
            result = result * a % PRIME
        exponent >>= 1
        if exponent:
            a = a * a % PRIME
    return result


def inverse(a: Residues) -> Residues:
    """1 / a, which is a**(p - 2); the inverse of 0 is a fixed number that stands for no other."""
    return np.where(a == 0, _POLE, power(a, PRIME - 2))


_POLE = 1_234_567_891
"""1 / 0: any value but 0 and 1 serves, so that x / 0 is neither 0 nor x."""


def bilinear(call: Callable[[Any, Any], Any], a: Residues, b: Residues, terms: int) -> Residues:
    """A bilinear map of float64 arrays, such as a matrix product, on residues.

    The smaller operand is cut into limbs, a = 2**22 a2 + 2**11 a1 + a0, so that each summand of
    a_i b is below 2**42, and float64 adds up 2**11 of them exactly.

    Args:
        call: The map.
        a: The left operand.
        b: The right operand.
        terms: How many products an element of the result adds up at most.

    Raises:
        UnsupportedOpError: The sums are too long to be exact.
    """
    if terms > _MOST_BY_HALVES:
        raise UnsupportedOpError(f"sums of {terms} products are too long for exact float64")
    if terms > _MOST_TERMS:
        return _by_halves(call, a, b)
    left = a.size <= b.size
    cut, whole = (a, b) if left else (b, a)
    whole = whole.astype(np.float64)
    y: Residues | None = None
    for shift in (22, 11, 0):
        limb = (cut >> shift & 0x7FF).astype(np.float64)
        part = _whole(call(limb, whole) if left else call(whole, limb))
        if y is not None:
            y <<= 11
            part += y
        part %= PRIME
        y = part
    return np.asarray(y)


_MOST_TERMS = 1 << 11
_MOST_BY_HALVES = 1 << 19


def _by_halves(call: Callable[[Any, Any], Any], a: Residues, b: Residues) -> Residues:
    """The same with both operands cut, a = 2**16 a1 + a0, for sums of up to 2**19 terms.

    The three products of Karatsuba stay below 2**34 a term.
    """
    a1, a0 = (a >> 16).astype(np.float64), (a & 0xFFFF).astype(np.float64)
    b1, b0 = (b >> 16).astype(np.float64), (b & 0xFFFF).astype(np.float64)
    high, low = _whole(call(a1, b1)), _whole(call(a0, b0))
    middle = _whole(call(a1 + a0, b1 + b0)) - high - low
    # 2**32 = 2 mod p; each summand is reduced before it is shifted.
    return (2 * (high % PRIME) + (middle % PRIME << 16) + low) % PRIME


def _whole(x: Any) -> Residues:
    return np.asarray(x).astype(np.int64)
