"""Layout `rows`: a group is a run of columns in one row, as the packed layouts have it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from addax.ir.numbers import factorize
from addax.passes.fit._compensate import BLOCK, compensate
from addax.passes.fit._descent import State, decode, descend, row_errors
from addax.passes.fit._format import Format
from addax.passes.fit._job import Array, FitOptions
from addax.passes.fit._problem import Moments, Problem
from addax.passes.fit._scheme import Levels, Scheme, fit_scales, make_levels


def fit_rows(problem: Problem, scheme: Scheme, given: Format, options: FitOptions) -> State:
    """Codes and scales of a layer; without a moment only the nearest ones."""
    parts = _parts(problem)
    theta = np.stack([_scales(problem, scheme, part, options) for part in parts])
    row = _row_floats(problem, scheme, given, theta)
    if row is not None:
        # Powers of two are far apart: what is best among real scales is no good start for them.
        again = given.scales == "powers"
        theta = np.stack(
            [
                _scales(problem, scheme, part, options, row, None if again else [start])
                for part, start in zip(parts, theta, strict=True)
            ]
        )
    if problem.moments is None:
        return _nearest(problem, scheme, theta, row)
    moments = problem.moments
    best = _compensated(problem, moments, scheme, theta, row, options, fixed=options.act_order)
    for _ in range(options.starts - 1):
        other = _compensated(problem, moments, scheme, best.theta, best.row, options, fixed=True)
        _keep_better_rows(best, other, problem.weights)
    return best


def _parts(problem: Problem) -> list[slice]:
    columns = len(problem.weights)
    return [
        slice(start, min(start + problem.group, columns))
        for start in range(0, columns, problem.group)
    ]


def _scales(
    problem: Problem,
    scheme: Scheme,
    part: slice,
    options: FitOptions,
    row: Array | None = None,
    starts: Sequence[Array] | None = None,
) -> Array:
    weights, importance = problem.weights[part], problem.importance[part]
    return fit_scales(scheme, weights, importance, options.rounds, row, starts)


def _row_floats(problem: Problem, scheme: Scheme, given: Format, theta: Array) -> Array | None:
    if scheme.allowed is None:
        return None
    counts = np.array([problem.importance[part].sum() for part in _parts(problem)], np.float64)
    counts = counts if counts.any() else np.ones_like(counts)
    made = factorize(
        theta.transpose(1, 0, 2), scheme.most, given.scales, importance=counts[:, None]
    )
    return made.scale.astype(np.float32)


def _nearest(problem: Problem, scheme: Scheme, theta: Array, row: Array | None) -> State:
    codes = np.empty(problem.weights.shape, np.uint8)
    for part, scales in zip(_parts(problem), theta, strict=True):
        levels = make_levels(scheme, scales)
        for k in range(part.start, part.stop):
            codes[k], _ = levels.nearest(problem.weights[k])
    made = decode(scheme, codes, theta, problem.group)
    return State(codes, theta, row, made, np.zeros_like(made))


def _compensated(
    problem: Problem,
    moments: Moments,
    scheme: Scheme,
    theta: Array,
    row: Array | None,
    options: FitOptions,
    *,
    fixed: bool,
) -> State:
    """The column loop, then the descent; scales stay, or are fitted where a group begins."""
    theta = theta.copy()
    known: dict[int, Levels] = {}

    def levels_at(k: int, current: Array) -> Levels:
        g = k // problem.group
        if g not in known:
            if not fixed:
                part = _parts(problem)[g]
                theta[g] = fit_scales(
                    scheme, current[part], problem.importance[part], options.rounds, row
                )
            known[g] = make_levels(scheme, theta[g])
        return known[g]

    size = BLOCK if fixed else int(np.gcd(problem.group, BLOCK))
    codes, made = compensate(problem.weights, moments.factor, moments.order, levels_at, size)
    state = State(codes, theta, None if row is None else row.copy(), made, made)
    descend(scheme, state, problem.weights, moments.matrix, problem.group, options.sweeps)
    return state


def _keep_better_rows(best: State, other: State, weights: Array) -> None:
    better: npt.NDArray[np.bool_] = row_errors(other, weights) < row_errors(best, weights)
    best.codes = np.where(better, other.codes, best.codes)
    best.made = np.where(better, other.made, best.made)
    best.pull = np.where(better, other.pull, best.pull)
    best.theta = np.where(better[:, None], other.theta, best.theta)
    if best.row is not None and other.row is not None:
        best.row = np.where(better, other.row, best.row)
