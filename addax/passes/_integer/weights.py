"""Weights of a layer as integers of a few bits, for inputs that are quantized too.

    w[n, k] ~ scale[n] integers[n, k],  -2^(bits - 1) <= integers < 2^(bits - 1)

A byte leaves its smallest integer out. A scale may be negative, so that the one level more lies on
the side where a row reaches further.

Source      columns in turn, each making up for the ones before: OPTQ (2210.17323)
"""

import numpy as np

from addax.passes._int8 import IntegerWeights
from addax.passes.fit import compensated_integers

_SHARES = np.linspace(0.45, 1.05, 25)  # of the largest weight of a row, that the levels reach
_BYTE = 8
_FINE = 31  # levels on a side, from which nothing is gained by cutting off


def row_scales(matrix: np.ndarray, low: int, high: int) -> np.ndarray:
    """The scale of each row that rounding to low ... high loses least with, float32[N].

    A row of zeros has scale 1.
    """
    reach = np.abs(matrix).max(1)
    # A reach that float32 cannot hold a step of is 0 for all purposes.
    nothing = reach <= np.finfo(np.float32).tiny * 256
    reach = np.where(nothing, 1.0, reach)
    least, best = np.full(len(matrix), np.inf), reach
    signs = (1,) if low == -high else (1, -1)
    for share in _SHARES if high < _FINE else (1.0,):
        for sign in signs:
            scale = sign * share * reach / ((high - low) / 2)
            made = np.clip(np.rint(matrix / scale[:, None]), low, high) * scale[:, None]
            missed = np.square(made - matrix).sum(1)
            best = np.where(missed < least, scale, best)
            least = np.minimum(missed, least)
    return np.where(nothing, 1, best).astype(np.float32)


def ends(bits: int, *, reduce_range: bool = False) -> tuple[int, int]:
    """The smallest and the largest integer of so many bits; a byte leaves one out, or half."""
    half = 2 ** (bits - 1)
    if bits < _BYTE:
        return -half, half - 1
    return (-63, 63) if reduce_range else (1 - half, half - 1)


def nearest_weights(matrix: np.ndarray, low: int, high: int) -> IntegerWeights:
    """Each weight to the nearest level."""
    scale = row_scales(matrix, low, high)
    integers = np.clip(np.rint(matrix / scale[:, None].astype(np.float64)), low, high)
    return IntegerWeights(integers.astype(np.int8), scale)


def compensated_weights(
    name: str, matrix: np.ndarray, low: int, high: int, moment: np.ndarray, damping: float
) -> tuple[IntegerWeights, tuple[str, ...]]:
    """Weights whose outputs are near those of the originals, for inputs with E[x x^T] = `moment`.

    Returns:
        The weights, and what was done.

    Raises:
        InputError: If weights or moments are not finite.
    """
    scale = row_scales(matrix, low, high)
    integers, notes = compensated_integers(name, matrix, moment, scale, (low, high), damping)
    return IntegerWeights(integers, scale), notes
