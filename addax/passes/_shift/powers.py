"""Weights that are powers of two already, times one number a row: their codes, without loss.

A table of 4-bit codes holds 0 and +-1, 2, ..., 64, seven exponents, and one of 2-bit codes 0 and
+-1; a group's multiplier moves these up by 0 to 7. So one table covers seven exponents in a group
and fourteen in a row, and what it leaves out, the small ones, goes to a second one.

A straight-through estimator that was exported as (q - w) + w leaves q with a rounding error of at
most 2^-23 of it: such weights are taken for what they are over the reals.
"""

import numpy as np
import numpy.typing as npt

from addax.ir.numbers import (
    POWERS_OF_TWO_4,
    Codebook,
    CodebookCodes,
    Multipliers,
    group_for,
    power_of_two,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_SIGNS = Codebook("signs", (-1, 0, 0, 1))
_OCTAVES = 7  # exponents of one int8, and of a table of 4-bit codes
_STEPS = 7  # the largest multiplier is 2^7
_LOOK = 64  # weights looked at before all of them are
_NONE = -(1 << 20)  # the exponent of 0
_RESIDUE = 2.0**-22


def encode_powers(matrix: Floats, *, most: int = 2) -> tuple[CodebookCodes, ...] | str | None:
    """Codes whose sum is `matrix` [N, K], exactly or but for the residue.

    Args:
        matrix: Each row must be one number times 0 and signed powers of two.
        most: Parts that the matrix may be split into.

    Returns:
        One set of codes or several; None if the weights are no such numbers; or, if they are but
        cannot be held, why.
    """
    found = _exponents(matrix)
    if found is None:
        return None
    signs, exponents, scale = found
    group = group_for(matrix.shape[1])
    span = _spans(exponents, group)
    book, octaves = (_SIGNS, 1) if span == 1 else (POWERS_OF_TWO_4, _OCTAVES)
    parts: list[CodebookCodes] = []
    while np.any(signs):
        if len(parts) == most:
            return (
                f"its powers of two reach over {span} exponents in a group of {group} weights, "
                f"more than {most} tables of {octaves} hold"
            )
        made, taken = _part(signs, exponents, scale, group, book, octaves)
        parts.append(made)
        signs = np.where(taken, 0, signs)
    if not all(_is_float32(part.multipliers) for part in parts):
        return "its rows' factors do not fit float32"
    return tuple(parts)


def encode_integers(matrix: Floats) -> tuple[npt.NDArray[np.int8], Floats] | None:
    """q[N, K] in {0, +-1, 2, ..., 64} and s[N] with q s = matrix, but for the residue.

    None if a row is no number times powers of two, or reaches over more than seven of them.
    """
    found = _exponents(matrix)
    if found is None:
        return None
    signs, exponents, scale = found
    lowest = np.where(signs == 0, 1 << 20, exponents).min(axis=1)
    lowest = np.where(lowest == 1 << 20, 0, lowest)
    places = np.where(signs == 0, 0, exponents - lowest[:, None])
    if places.max() >= _OCTAVES:
        return None
    return (signs << places).astype(np.int8), np.ldexp(scale, lowest)


def looks_like_powers(matrix: Floats) -> bool:
    """Whether some rows [N, K] could be such; quick, for one row or two."""
    return _exponents(matrix) is not None or not np.any(matrix)


def _is_float32(made: Multipliers | None) -> bool:
    """Whether every row's number is an ordinary number of float32."""
    if made is None:
        return False
    known = made.scale.astype(np.float32)
    return bool(np.all((known == made.scale) & (known >= np.finfo(np.float32).tiny)))


def _exponents(matrix: Floats) -> tuple[Integers, Integers, Floats] | None:
    """Signs, exponents and each row's number in [1, 2), of rows that are such; else None."""
    sizes = np.abs(matrix)
    largest = sizes.max(axis=1, initial=0.0)
    if not np.isfinite(largest).all() or not np.any(largest):
        return None
    for scale in (np.ones(len(matrix)), np.where(largest > 0, 2 * np.frexp(largest)[0], 1.0)):
        if _snapped(matrix[:, :_LOOK] / scale[:, None]) is None:
            continue
        found = _snapped(matrix / scale[:, None])
        if found is not None:
            return (*found, scale)
    return None


def _snapped(x: Floats) -> tuple[Integers, Integers] | None:
    """Signs and exponents of numbers that are powers of two or 0, but for the residue."""
    near = power_of_two(x)
    if np.any(np.abs(x - near) > _RESIDUE * np.abs(near)) or not np.array_equal(x == 0, near == 0):
        return None
    signs = np.sign(near).astype(np.int64)
    return signs, np.where(signs == 0, _NONE, np.frexp(near)[1] - 1)


def _by_groups(array: Integers, group: int, filler: int) -> Integers:
    """[N, K] as [N, G, group], with `filler` where there are no columns."""
    rows, columns = array.shape
    groups = -(-columns // group)
    filled = np.full((rows, groups * group), filler)
    filled[:, :columns] = array
    return filled.reshape(rows, groups, group)


def _spans(exponents: Integers, group: int) -> int:
    """The most exponents that a group reaches over."""
    parts = _by_groups(exponents, group, _NONE)
    highest = parts.max(axis=2)
    lowest = np.where(parts == _NONE, highest[..., None], parts).min(axis=2)
    return int((highest - lowest).max()) + 1


def _part(
    signs: Integers, exponents: Integers, scale: Floats, group: int, book: Codebook, octaves: int
) -> tuple[CodebookCodes, npt.NDArray[np.bool_]]:
    """The codes of the largest weights of each group, and which weights these are."""
    columns = signs.shape[1]
    left = _by_groups(np.where(signs == 0, _NONE, exponents), group, _NONE)
    highest = left.max(axis=2)
    is_any = highest > _NONE
    top = highest.max(axis=1)
    floor = np.where(top > _NONE, top - (octaves - 1) - _STEPS, 0)
    low = np.maximum(np.where(is_any, highest - (octaves - 1), _NONE), floor[:, None])
    base = np.where(is_any & (low <= highest), low, 1 << 20).min(axis=1)
    base = np.where(top > _NONE, base, 0)
    integers = np.where(is_any & (low <= highest), 1 << np.clip(low - base[:, None], 0, _STEPS), 0)
    spread = np.repeat(low, group, axis=1)[:, :columns]
    taken = (signs != 0) & (exponents >= spread)
    places = np.where(taken, exponents - spread, 0)
    zero = len(book.table) // 2
    codes = np.where(signs > 0, zero + 1 + places, zero - 2 - places)
    codes = np.where(taken, codes, zero).astype(np.uint8)
    multipliers = Multipliers(np.ldexp(scale, base), integers.astype(np.uint8))
    return CodebookCodes(book, codes, multipliers.values, group, multipliers), taken
