"""Binary codes: w ~ sum_i alpha_i b_i with b_i in {-1, +1}, alpha for each row and group."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from addax.errors import InputError
from addax.ir._numbers.groups import grouped
from addax.ir._numbers.multipliers import MOST_BINARY, Multipliers, factorize
from addax.ir._numbers.powers import sum_of_powers

Floats = npt.NDArray[np.float64]

_STARTS = (0.5, 0.6, 0.7, 0.8, 0.9)  # shares of the largest weight for uniform first scales
_RIDGE = 1e-9
_MOST_PLANES = 4


@dataclass(frozen=True)
class BinaryCodes:
    """Weights as planes of signs: w[n, k] ~ sum_i alpha[n, k // group, i] sign[n, k, i].

    signs bool[N, K, q], true for +1; alpha float64[N, ceil(K / group), q], not increasing in i, of
    which `multipliers` are the form that a packed layout holds, if they are of that form.
    """

    signs: npt.NDArray[np.bool_]
    alpha: Floats
    group: int
    multipliers: Multipliers | None = None

    def factorized(self, scales: str = "int8") -> "BinaryCodes":
        """The same signs, scales as multipliers of one float a row, up to 127 in a group."""
        made = factorize(self.alpha, MOST_BINARY, scales)
        return replace(self, alpha=made.values, multipliers=made)

    def decode(self) -> Floats:
        """The weights that the codes stand for, float64[N, K]."""
        columns = self.signs.shape[1]
        made = np.zeros(self.signs.shape[:2])
        for i in range(self.signs.shape[2]):
            alpha = np.repeat(self.alpha[:, :, i], self.group, axis=1)[:, :columns]
            made += np.where(self.signs[:, :, i], alpha, -alpha)
        return made


def binary_codes(
    w: npt.ArrayLike,
    planes: int,
    group: int = 128,
    *,
    importance: npt.ArrayLike | None = None,
    terms: int | None = None,
    rounds: int = 15,
) -> BinaryCodes:
    """Fit binary codes by alternating least squares from several starts; the best of each group.

    The starts are the greedy one (alpha_i = mean |r|, r -= alpha_i sign(r)) and uniform ones; the
    greedy one alone is worse than rounding to nearest at 4 planes.

    Args:
        w: Weights [N, K].
        planes: q, 1 to 4.
        group: Columns that share scales.
        importance: Of each column, [K]: what its squared error counts; 1 by default.
        terms: Round each scale to a sum of so many powers of two (2 and 3: APoT; 1: one power);
            None leaves them as they are. Codes are chosen again after rounding, and rounding in
            every round is tried beside rounding at the end.
        rounds: Of the alternation.

    Raises:
        InputError: The weights are no finite matrix, or `planes` is not 1 to 4.
    """
    if not 1 <= planes <= _MOST_PLANES:
        raise InputError(f"expected 1 to {_MOST_PLANES} planes, got {planes}")
    rows, columns = np.shape(w)
    parts, real = grouped(np.asarray(w, np.float64), group)
    weight = np.zeros(parts.shape[1] * group)
    weight[:columns] = 1.0 if importance is None else np.asarray(importance, np.float64)
    shares = (weight.reshape(1, -1, group) * real).reshape(-1, group)
    flat = parts.reshape(-1, group)
    best = np.zeros((len(flat), planes))
    least = np.full(len(flat), np.inf)
    for alpha in _starts(flat, planes):
        for inside in (False,) if terms is None else (False, True):
            found = _alternated(flat, shares, alpha, rounds, terms if inside else None)
            found = found if terms is None else _in_order(sum_of_powers(found, terms))
            error = _error(flat, shares, found)
            best = np.where((error < least)[:, None], found, best)
            least = np.minimum(error, least)
    signs = _signs(nearest_levels(flat, best), planes)
    shaped = signs.reshape(rows, -1, planes)[:, :columns].copy()
    return BinaryCodes(shaped, best.reshape(rows, -1, planes), group)


def _starts(flat: Floats, planes: int) -> list[Floats]:
    rest, greedy = flat.copy(), np.zeros((len(flat), planes))
    for i in range(planes):
        greedy[:, i] = np.mean(np.abs(rest), axis=1)
        rest = rest - np.where(rest >= 0, greedy[:, i : i + 1], -greedy[:, i : i + 1])
    largest = np.abs(flat).max(axis=1, keepdims=True)
    steps = np.exp2(np.arange(planes)[::-1]) / (2.0**planes - 1)
    return [greedy, *(largest * share * steps for share in _STARTS)]


def _alternated(
    flat: Floats, shares: Floats, alpha: Floats, rounds: int, terms: int | None
) -> Floats:
    """Scales given codes by least squares, codes given scales by the nearest level."""
    planes = alpha.shape[1]
    # Planes that say the same in every column of a group have no one solution.
    ridge = _RIDGE * np.maximum(shares.sum(axis=1), 1e-30)[:, None, None] * np.eye(planes)
    for _ in range(rounds):
        signs = np.where(_signs(nearest_levels(flat, alpha), planes), 1.0, -1.0)
        gram = np.einsum("gsi,gs,gsj->gij", signs, shares, signs) + ridge
        moment = np.einsum("gsi,gs->gi", signs, shares * flat)
        alpha = _in_order(np.linalg.solve(gram, moment[..., None])[..., 0])
        if terms is not None:
            alpha = _in_order(sum_of_powers(alpha, terms))
    return alpha


def _in_order(alpha: Floats) -> Floats:
    return np.sort(np.abs(alpha), axis=1)[:, ::-1]


def _combinations(planes: int) -> Floats:
    """All sign vectors [2^q, q]; bit i of the code is plane i."""
    codes = np.arange(1 << planes)
    return np.where(codes[:, None] >> np.arange(planes) & 1, 1.0, -1.0)


def nearest_levels(flat: Floats, alpha: Floats) -> npt.NDArray[np.intp]:
    """The code of the level nearest to each number: flat[G, S], alpha[G, q], codes [G, S].

    Bit i of a code is the sign of plane i. Of two levels that are equally near, the lower is taken.
    """
    levels = alpha @ _combinations(alpha.shape[1]).T
    order = np.argsort(levels, axis=1, kind="stable")
    ranked = np.take_along_axis(levels, order, axis=1)
    middles = (ranked[:, 1:] + ranked[:, :-1]) / 2
    place = np.sum(flat[:, :, None] > middles[:, None, :], axis=2)
    return np.take_along_axis(order, place, axis=1)


def _signs(codes: npt.NDArray[np.intp], planes: int) -> npt.NDArray[np.bool_]:
    return (codes[..., None] >> np.arange(planes) & 1).astype(bool)


def _error(flat: Floats, shares: Floats, alpha: Floats) -> Floats:
    levels = alpha @ _combinations(alpha.shape[1]).T
    decoded = np.take_along_axis(levels, nearest_levels(flat, alpha), axis=1)
    return np.asarray(np.sum(shares * np.square(flat - decoded), axis=1))
