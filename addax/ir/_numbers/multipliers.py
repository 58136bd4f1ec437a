"""Scales as whole numbers with one float for each row, which is how packed layouts hold them."""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from addax.errors import InputError, OptionError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.uint8]

MOST_BINARY = 127
"""What the multipliers of a group of binary codes may add up to: its weights then fit int8."""

MOST_CODEBOOK = 255
"""The largest multiplier of a table."""

_TERMS = {"powers": 1, "apot2": 2, "apot3": 3}
SCALE_SETS = ("apot2", "apot3", "int8", "powers")
"""Which whole numbers a multiplier may be: powers of two, sums of two or three of them, or all."""

_SHARES = np.concatenate([2.0 ** (-np.arange(16) / 16), [0.48, 0.45]])
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Multipliers:
    """Scales as scale[n] * integers[n, ...]: scale float64[N] (float32 values), uint8[N, ...]."""

    scale: Floats
    integers: Integers

    @property
    def values(self) -> Floats:
        """The scales that they stand for, float64 of the integers' shape."""
        shape = (-1,) + (1,) * (self.integers.ndim - 1)
        return np.asarray(self.scale.reshape(shape) * self.integers)


def allowed_multipliers(scales: str, most: int) -> npt.NDArray[np.int64]:
    """The whole numbers 0..most that a set of scales allows, sorted.

    Raises:
        OptionError: No set has this name.
    """
    if scales == "int8":
        return np.arange(most + 1)
    if scales not in _TERMS:
        raise OptionError(
            f"expected scales that are one of {', '.join(SCALE_SETS)}, got {scales!r}"
        )
    signed = [0, *(sign << e for e in range(9) for sign in (1, -1))]
    sums = {sum(terms) for terms in itertools.product(signed, repeat=_TERMS[scales])}
    return np.array(sorted(v for v in sums if 0 <= v <= most))


def round_to_allowed(x: Floats, allowed: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """The nearest allowed numbers to x[..., q] whose sum over the last axis is at most `most`."""
    x = np.maximum(x, 0.0)
    total = x.sum(axis=-1, keepdims=True)
    x = np.where(total > most, x * (most / np.where(total > 0, total, 1.0)), x)
    middles = (allowed[1:] + allowed[:-1]) / 2
    place = np.asarray(np.searchsorted(middles, x))
    flat, wanted = place.reshape(-1, place.shape[-1]), x.reshape(-1, place.shape[-1])
    over = np.flatnonzero(allowed[flat].sum(axis=1) > most)
    while over.size:
        # One step down where it costs least, until the sum fits.
        now, below = allowed[flat[over]], allowed[np.maximum(flat[over] - 1, 0)]
        cost = np.square(wanted[over] - below) - np.square(wanted[over] - now)
        chosen = np.argmin(np.where(flat[over] > 0, cost, np.inf), axis=1)
        flat[over, chosen] -= 1
        over = over[allowed[flat[over]].sum(axis=1) > most]
    return allowed[flat].reshape(x.shape)


def factorize(
    values: npt.ArrayLike, most: int, scales: str = "int8", *, importance: npt.ArrayLike = 1.0
) -> Multipliers:
    """One float for each row and whole multipliers that come nearest to values[N, ..., q] >= 0.

    The row's float is searched over an octave from the one that just holds the largest group, and
    refined by least squares: a row with one large group may clip it where that costs less.

    Args:
        values: Scales [N, G, q] of planes in groups.
        most: What the q multipliers of a group may add up to.
        scales: Which whole numbers are allowed: one of `SCALE_SETS`.
        importance: What the squared error of a scale counts, broadcast to [N, G, q].

    Raises:
        InputError: A scale is negative, not finite, or beyond float32.
        OptionError: No set of scales has this name.
    """
    values = np.asarray(values, np.float64)
    if not np.all((values >= 0) & (values <= _LARGEST)):
        raise InputError("expected scales from 0 to the largest float32; scale the weights first")
    allowed = allowed_multipliers(scales, most)
    weight = np.broadcast_to(np.asarray(importance, np.float64), values.shape)
    rest = tuple(range(1, values.ndim))
    largest = values.sum(axis=-1, keepdims=True).max(axis=rest, keepdims=True)
    best = np.where(largest > 0, largest / most, 1.0)
    integers = np.zeros(values.shape, np.int64)
    least = np.full(best.shape, np.inf)
    for share in _SHARES:
        scale = np.where(largest > 0, largest * share / most, 1.0)
        for _ in range(2):
            made = round_to_allowed(values / scale, allowed, most)
            error = np.sum(weight * np.square(values - scale * made), axis=rest, keepdims=True)
            better = error < least
            best, least = np.where(better, scale, best), np.where(better, error, least)
            integers = np.where(better, made, integers)
            power = np.sum(weight * made * made, axis=rest, keepdims=True)
            fitted = np.sum(weight * made * values, axis=rest, keepdims=True)
            scale = np.where(fitted > 0, fitted / np.where(power > 0, power, 1.0), scale)
    row = best.reshape(-1).astype(np.float32).astype(np.float64)
    return Multipliers(row, integers.astype(np.uint8))
