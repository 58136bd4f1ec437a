"""What a weight of a group may be: a few levels that are linear in the group's scales.

A level is `basis[c] @ theta`: for codes into a table, basis[c] = (table[c],) and theta is one
scale; for binary codes, basis[c] is the c-th vector of q signs and theta are the scales of the
planes. So one algorithm serves all formats. Weights stand transposed here, a column a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from addax.ir.numbers import MOST_BINARY, MOST_CODEBOOK, allowed_multipliers, round_to_allowed
from addax.passes.fit._format import Format
from addax.passes.fit._job import Array

_GREEDY_SHARES = (0.5, 0.7, 0.9)  # of the largest weight, for uniform first scales of planes
_CLIPS = (1.0, 0.85, 0.7, 0.55)  # of the largest weight, for first scales of a table
_RIDGE = 1e-7
_SCOUTING = (3, 12)  # rounds from each start, for one scale in a group and for more


@dataclass(frozen=True)
class Scheme:
    """Levels and scales of a format.

    Attributes:
        basis: float32[L, q], a row a level.
        allowed: Whole multipliers that a scale may be, sorted; None: any float.
        most: What the multipliers of a group may add up to.
        kind: Of the format; decides the first scales.
    """

    basis: Array
    allowed: npt.NDArray[np.int64] | None
    most: int
    kind: str

    @property
    def is_signed(self) -> bool:
        """Whether a scale may be negative: zero points may."""
        return self.kind == "asymmetric"

    def rounded(self, theta: Array, row: Array | None) -> Array:
        """The nearest scales theta[N, q] that the row's float row[N] allows."""
        if row is None or self.allowed is None:
            return theta
        unit = np.where(row > 0, row, 1.0).astype(np.float64)[:, None]
        whole = round_to_allowed(theta / unit, self.allowed, self.most)
        return np.asarray((whole * row[:, None]).astype(np.float32))


def make_scheme(format: Format, table: tuple[int, ...] = ()) -> Scheme:  # noqa: A002
    """The scheme of a format; `table` for codes into one."""
    if format.is_binary:
        codes = np.arange(1 << format.bits)
        basis = np.where(codes[:, None] >> np.arange(format.bits) & 1, 1.0, -1.0)
        most, kind = MOST_BINARY, "binary"
    elif format.zero == "asymmetric":
        steps = np.arange(1 << format.bits, dtype=float)
        basis, most, kind = np.stack([steps, np.ones_like(steps)], axis=1), 0, "asymmetric"
    else:
        basis, most, kind = np.array(table, float)[:, None], MOST_CODEBOOK, "table"
    allowed = None if format.scales == "real" else allowed_multipliers(format.scales, most)
    return Scheme(basis.astype(np.float32), allowed, most, kind)


@dataclass(frozen=True)
class Levels:
    """The levels of one group, sorted: values[L, N], codes[L, N], and middles[L - 1, N]."""

    values: Array
    middles: Array
    codes: npt.NDArray[np.uint8]

    def nearest(self, target: Array) -> tuple[npt.NDArray[np.uint8], Array]:
        """Codes and values of the levels nearest to target[N]."""
        count = target.size
        place = np.count_nonzero(target > self.middles, axis=0) * count + np.arange(count)
        return self.codes.ravel()[place], self.values.ravel()[place]


def make_levels(scheme: Scheme, theta: Array) -> Levels:
    """The levels of scales theta[N, q]."""
    values = scheme.basis @ theta.T
    order = np.argsort(values, axis=0, kind="stable")
    values = np.take_along_axis(values, order, axis=0)
    middles = ((values[1:] + values[:-1]) / 2).astype(np.float32)
    return Levels(values, middles, order.astype(np.uint8))


def fit_scales(
    scheme: Scheme,
    x: Array,
    weight: Array,
    rounds: int,
    row: Array | None = None,
    starts: Sequence[Array] | None = None,
) -> Array:
    """Scales [N, q] that make the weighted squared error of x[S, N] small; weight[S].

    Alternating least squares: some rounds from each start, and `rounds` from the best of each row.
    The error of scales follows from the weight and moment of what lies between two middles:
    nothing is decoded.
    """
    sums = _Sums(x, weight)
    best = np.zeros((x.shape[1], scheme.basis.shape[1]), np.float32)
    least = np.full(x.shape[1], np.inf)
    tried = _starts(scheme, x, weight) if starts is None else starts
    scouting = min(rounds, _SCOUTING[best.shape[1] > 1])
    turns = [(start, scouting) for start in tried] if len(tried) > 1 else []
    for start, count in [*turns, (None if turns else tried[0], rounds)]:
        theta = scheme.rounded(best if start is None else start, row)
        for _ in range(count):
            error, fitted = sums.step(scheme, theta)
            better = error < least
            best = np.where(better[:, None], theta, best)
            least = np.where(better, error, least)
            moved = scheme.rounded(_proper(scheme, fitted, theta), row)
            if np.allclose(moved, theta, rtol=1e-3, atol=0):
                break
            theta = moved
    return best


class _Sums:
    """Weights and moments of what is above thresholds, for each row of a group."""

    def __init__(self, x: Array, weight: Array) -> None:
        order = np.argsort(x, axis=0)
        self.x = np.take_along_axis(x, order, axis=0)
        zeros = np.zeros((1, x.shape[1]))
        sorted_weight = weight[order].astype(np.float64)
        self.mass = np.concatenate([zeros, np.cumsum(sorted_weight, axis=0)])
        self.moment = np.concatenate([zeros, np.cumsum(sorted_weight * self.x, axis=0)])
        self.power = np.sum(sorted_weight * np.square(self.x.astype(np.float64)), axis=0)

    def step(self, scheme: Scheme, theta: Array) -> tuple[npt.NDArray[np.float64], Array]:
        """The error of scales theta[N, q] with the nearest codes; what scales fit those codes."""
        levels = make_levels(scheme, theta)
        below = np.stack([np.count_nonzero(self.x <= middle, axis=0) for middle in levels.middles])
        edges = np.concatenate(
            [np.zeros((1, below.shape[1]), np.int64), below,
             np.full((1, below.shape[1]), len(self.x))]
        )  # fmt: skip
        mass = np.diff(np.take_along_axis(self.mass, edges, axis=0), axis=0)
        moment = np.diff(np.take_along_axis(self.moment, edges, axis=0), axis=0)
        values = levels.values.astype(np.float64)
        error = self.power + np.sum(values * (values * mass - 2 * moment), axis=0)
        basis = scheme.basis.astype(np.float64)[levels.codes]  # [L, N, q]
        gram = np.einsum("ln,lni,lnj->nij", mass, basis, basis)
        ridge = _RIDGE * np.maximum(np.trace(gram, axis1=1, axis2=2), 1e-30)
        gram += ridge[:, None, None] * np.eye(basis.shape[2])
        side = np.einsum("ln,lni->ni", moment, basis)
        fitted = np.linalg.solve(gram, side[..., None])[..., 0]
        return error, fitted.astype(np.float32)


def _proper(scheme: Scheme, fitted: Array, theta: Array) -> Array:
    if scheme.is_signed:
        return fitted
    if scheme.kind == "binary":  # a plane with a negative scale is the plane with signs turned
        return np.asarray(-np.sort(-np.abs(fitted), axis=1))
    return np.where(fitted > 0, fitted, theta)


def _starts(scheme: Scheme, x: Array, weight: Array) -> list[Array]:
    largest = np.abs(x).max(axis=0)[:, None]
    planes = scheme.basis.shape[1]
    if scheme.kind == "table":
        reach = float(np.abs(scheme.basis).max())
        return [largest * (clip / reach) for clip in _CLIPS]
    if scheme.is_signed:
        low, high = x.min(axis=0)[:, None], x.max(axis=0)[:, None]
        steps = len(scheme.basis) - 1
        return [
            np.concatenate([(high - low) * (clip / steps), low + (high - low) * (1 - clip) / 2], 1)
            for clip in _CLIPS
        ]
    rest, greedy = x.copy(), []
    total = max(float(weight.sum()), 1e-30)
    for _ in range(planes):
        greedy.append(weight @ np.abs(rest) / total)
        rest = rest - np.where(rest >= 0, greedy[-1], -greedy[-1])
    steps = np.exp2(np.arange(planes, dtype=np.float32)[::-1]) / (2.0**planes - 1)
    uniform = [(largest * share * steps).astype(np.float32) for share in _GREEDY_SHARES]
    return [np.stack(greedy, axis=1).astype(np.float32), *uniform]
