"""The table of 16 or 4 levels that serves a whole layer best, together with its groups' scales.

Scales given the table, then the table given the scales (Lloyd's step over all weights in units of
their scales), a few times; the levels are rounded to int8 at the end.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from addax.ir.numbers import fit_codebook
from addax.passes.fit._job import Array
from addax.passes.fit._problem import Problem
from addax.passes.fit._scheme import Scheme, fit_scales

_MOST = 127
_TURNS = 4
_ROUNDS = 4  # of the scales' alternation in a turn
_ROWS = 256  # that are looked at: a table has few levels


def fit_table(problem: Problem, scheme: Scheme, bits: int) -> tuple[int, ...]:
    """The sorted levels of a table for a layer; `scheme` is any of that many levels."""
    rows = problem.weights.shape[1]
    weights = problem.weights[:, :: -(-rows // _ROWS)]
    importance = problem.importance if problem.importance.any() else np.ones(len(weights))
    first = fit_codebook(weights.T, bits, problem.group, importance=importance).table
    levels = np.array(first, np.float64)
    for _ in range(_TURNS):
        found = _in_units(problem, scheme, weights, levels.astype(np.float32))
        if found is None:
            break
        levels = _lloyd(*found, levels)
    reach = np.abs(levels).max()
    if reach == 0:
        return first
    return tuple(int(v) for v in np.rint(np.sort(levels) * (_MOST / reach)))


def _in_units(
    problem: Problem, scheme: Scheme, weights: Array, levels: Array
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """All weights divided by their group's scale, sorted, and what their errors count."""
    tabled = replace(scheme, basis=levels[:, None], allowed=None)
    values, counts = [], []
    for start in range(0, len(weights), problem.group):
        part = slice(start, start + problem.group)
        heavy = problem.importance[part]
        scale = fit_scales(tabled, weights[part], heavy, _ROUNDS)[:, 0].astype(np.float64)
        used = scale > 0
        values.append((weights[part][:, used] / scale[used]).ravel())
        counts.append((heavy[:, None] * np.square(scale[used])).ravel().astype(float))
    x, count = np.concatenate(values), np.concatenate(counts)
    if not x.size or not count.any():
        return None
    order = np.argsort(x)
    return x[order], count[order]


def _lloyd(
    x: npt.NDArray[np.float64], count: npt.NDArray[np.float64], levels: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    mass = np.concatenate([[0.0], np.cumsum(count)])
    moment = np.concatenate([[0.0], np.cumsum(count * x)])
    for _ in range(_TURNS):
        middles = (levels[1:] + levels[:-1]) / 2
        edges = np.concatenate([[0], np.searchsorted(x, middles), [x.size]])
        held, sums = np.diff(mass[edges]), np.diff(moment[edges])
        levels = np.sort(np.where(held > 0, sums / np.where(held > 0, held, 1.0), levels))
    return levels
