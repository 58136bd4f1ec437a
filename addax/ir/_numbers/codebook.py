"""Codes into a small table of int8, with a scale for each row and group of columns."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from addax.errors import InputError
from addax.ir._numbers.groups import grouped
from addax.ir._numbers.multipliers import MOST_CODEBOOK, Multipliers, factorize
from addax.ir._numbers.powers import power_of_two

Floats = npt.NDArray[np.float64]

_MAXIMUM = 127
_CLIPS = np.linspace(1.0, 0.5, 11)  # shares of the largest weight that a scale may cover
_ROUNDS = 12


@dataclass(frozen=True)
class Codebook:
    """A table of 16 or 4 levels: int8, sorted; the code of a weight is its place in it."""

    name: str
    table: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.table) not in {4, 16}:
            raise InputError(f"expected a table of 4 or 16 levels, got {len(self.table)}")
        if list(self.table) != sorted(self.table) or abs(max(self.table, key=abs)) > _MAXIMUM:
            raise InputError(f"expected sorted levels in -127..127, got {self.table}")

    @property
    def bits(self) -> int:
        """Bits a code."""
        return 4 if len(self.table) == 16 else 2


POWERS_OF_TWO_4 = Codebook(
    "power-of-two", (-64, -32, -16, -8, -4, -2, -1, 0, 0, 1, 2, 4, 8, 16, 32, 64)
)
"""Sign and three bits of exponent, with zero."""

UNIFORM_4 = Codebook("uniform", tuple(range(-8, 8)))
UNIFORM_2 = Codebook("uniform", (-2, -1, 0, 1))


@dataclass(frozen=True)
class CodebookCodes:
    """Weights as codes: w[n, k] ~ table[code[n, k]] scale[n, k // group].

    codes uint8[N, K], not packed; scale float64[N, ceil(K / group)], of which `multipliers` are
    the form that a packed layout holds, if they are of that form.
    """

    book: Codebook
    codes: npt.NDArray[np.uint8]
    scale: Floats
    group: int
    multipliers: Multipliers | None = None

    def factorized(self, scales: str = "int8") -> "CodebookCodes":
        """The same codes with scales that are multipliers 0..255 of one float for each row."""
        made = factorize(self.scale[..., None], MOST_CODEBOOK, scales)
        made = Multipliers(made.scale, made.integers[..., 0])
        return replace(self, scale=made.values, multipliers=made)

    def decode(self) -> Floats:
        """The weights that the codes stand for, float64[N, K]."""
        table = np.array(self.book.table, dtype=np.float64)
        columns = self.codes.shape[1]
        scale = np.repeat(self.scale, self.group, axis=1)[:, :columns]
        return table[self.codes] * scale

    @property
    def nbytes(self) -> int:
        """Bytes of the packed codes, the table, and scales of float32."""
        rows, columns = self.codes.shape
        packed = rows * -(-columns * self.book.bits // 8)
        return int(packed + len(self.book.table) + 4 * self.scale.size)


def encode_codebook(
    w: npt.ArrayLike,
    book: Codebook,
    group: int = 128,
    *,
    importance: npt.ArrayLike | None = None,
    powers: bool = False,
) -> CodebookCodes:
    """The nearest codes, with the scales that make the squared error least.

    Each group tries scales that cover a share of its largest weight, refines the best by
    alternating least squares (scale given codes, codes given scale), and keeps the better.

    Args:
        w: Weights [N, K].
        book: The table.
        group: Columns that share a scale.
        importance: Of each column, [K]: what its squared error counts; 1 by default.
        powers: Round the scales to powers of two, and choose the codes again.

    Raises:
        InputError: The weights are no finite matrix.
    """
    parts, real = grouped(np.asarray(w, np.float64), group)
    rows, columns = np.shape(w)
    weight = _importance(importance, columns, group, parts.shape[1]) * real
    table = np.array(book.table, dtype=np.float64)
    reach = float(np.abs(table).max())
    largest = np.abs(parts).max(axis=2)
    best_scale = np.zeros_like(largest)
    best_error = np.full_like(largest, np.inf)
    for clip in _CLIPS:
        scale = _rounded(largest * clip / reach, powers)
        for _ in range(_ROUNDS if clip in {_CLIPS[0], _CLIPS[4]} else 2):
            levels = table[_nearest(parts, scale, table)]
            error = np.sum(weight * np.square(parts - levels * scale[..., None]), axis=2)
            better = error < best_error
            best_error = np.where(better, error, best_error)
            best_scale = np.where(better, scale, best_scale)
            power = np.sum(weight * np.square(levels), axis=2)
            fitted = np.sum(weight * levels * parts, axis=2) / np.where(power > 0, power, 1.0)
            scale = _rounded(np.where((power > 0) & (fitted > 0), fitted, scale), powers)
    codes = _nearest(parts, best_scale, table).astype(np.uint8)
    return CodebookCodes(book, codes.reshape(rows, -1)[:, :columns].copy(), best_scale, group)


def _rounded(scale: Floats, powers: bool) -> Floats:
    return power_of_two(scale) if powers else scale


def _importance(importance: npt.ArrayLike | None, columns: int, group: int, count: int) -> Floats:
    filled = np.zeros(count * group)
    filled[:columns] = 1.0 if importance is None else np.asarray(importance, np.float64)
    return filled.reshape(1, count, group)


def _nearest(parts: Floats, scale: Floats, table: Floats) -> npt.NDArray[np.intp]:
    """The place of the level nearest to each weight; a group of zeros gets the level nearest 0."""
    divisor = np.where(scale > 0, scale, 1.0)[..., None]
    middles = (table[1:] + table[:-1]) / 2
    return np.asarray(np.searchsorted(middles, parts / divisor))


def fit_codebook(
    w: npt.ArrayLike,
    bits: int = 4,
    group: int = 128,
    *,
    importance: npt.ArrayLike | None = None,
    rounds: int = 20,
) -> Codebook:
    """The table of 2^bits levels of int8 that serves these weights best, for all groups together.

    Lloyd's algorithm on weights that are divided by their group's largest one; the first table is
    the quantiles of these. Levels are rounded to int8 at the end, with 0 kept if it is among them.

    Raises:
        InputError: The weights are no finite matrix, or bits is neither 2 nor 4.
    """
    if bits not in {2, 4}:
        raise InputError(f"expected 2 or 4 bits, got {bits}")
    parts, real = grouped(np.asarray(w, np.float64), group)
    largest = np.abs(parts).max(axis=2, keepdims=True)
    weight = _importance(importance, np.shape(w)[1], group, parts.shape[1]) * real
    weight = (weight * np.square(largest))[real & (largest > 0)]
    x = (parts / np.where(largest > 0, largest, 1.0))[real & (largest > 0)]
    if not x.size:
        return UNIFORM_4 if bits == 4 else UNIFORM_2
    order = np.argsort(x)
    x, weight = x[order], weight[order]
    count = 1 << bits
    levels = np.quantile(x, (np.arange(count) + 0.5) / count)
    levels[0], levels[-1] = x[0], x[-1]
    sums = np.concatenate([[0.0], np.cumsum(weight)])
    moments = np.concatenate([[0.0], np.cumsum(weight * x)])
    for _ in range(rounds):
        edges = np.concatenate([[0], np.searchsorted(x, (levels[1:] + levels[:-1]) / 2), [x.size]])
        mass, moment = np.diff(sums[edges]), np.diff(moments[edges])
        levels = np.sort(np.where(mass > 0, moment / np.where(mass > 0, mass, 1.0), levels))
    return Codebook("fitted", tuple(int(v) for v in np.sort(_to_int8(levels))))


def _to_int8(levels: Floats) -> npt.NDArray[np.int64]:
    return np.asarray(np.rint(levels * (_MAXIMUM / np.abs(levels).max())).astype(np.int64))
