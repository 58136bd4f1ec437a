"""The layouts of ShiftAddLLM, for comparison: scales shared by the rows of columns.

    columns     all N rows of one column share q scales (the paper's "Acc", without its rotation)
    blocks      8 columns and an eighth of the rows share q scales (the paper's "Lat")

Source      shift_add of GATECH-EIC/ShiftAddLLM: the column loop of OPTQ around binary codes whose
            scales are fitted when the loop reaches them
"""

import numpy as np

from addax.ir.numbers import sum_of_powers
from addax.passes.fit._compensate import compensate
from addax.passes.fit._format import Format
from addax.passes.fit._job import Array, FitOptions
from addax.passes.fit._problem import BLOCK_COLUMNS, Problem
from addax.passes.fit._scheme import Levels, fit_scales, make_levels, make_scheme

_TERMS = {"powers": 1, "apot2": 2, "apot3": 3}
_ROW_BLOCKS = 8


def fit_sharing(problem: Problem, given: Format, options: FitOptions) -> Array:
    """What the codes stand for, float32[K, N], in the problem's units."""
    scheme = make_scheme(Format("binary", given.bits, "real"))
    columns, rows = problem.weights.shape
    wide = 1 if options.layout == "columns" else BLOCK_COLUMNS
    owner = np.zeros(rows, np.intp) if wide == 1 else np.arange(rows) * _ROW_BLOCKS // rows
    known: dict[int, Levels] = {}

    def levels_at(k: int, current: Array) -> Levels:
        block = k // wide
        if block not in known:
            part = current[block * wide : (block + 1) * wide]
            theta = np.concatenate(
                [_shared_scales(part[:, owner == o], given, options) for o in np.unique(owner)]
            )
            _, place = np.unique(owner, return_inverse=True)
            known.clear()
            known[block] = make_levels(scheme, theta[place])
        return known[block]

    def _shared_scales(part: Array, given: Format, options: FitOptions) -> Array:
        flat = part.reshape(-1, 1)
        theta = fit_scales(scheme, flat, np.ones(len(flat), np.float32), options.rounds)
        terms = _TERMS.get(given.scales)
        return theta if terms is None else sum_of_powers(theta, terms).astype(np.float32)

    if problem.moments is None:
        return np.stack(
            [levels_at(k, problem.weights).nearest(problem.weights[k])[1] for k in range(columns)]
        )
    moments = problem.moments
    return compensate(problem.weights, moments.factor, moments.order, levels_at, wide)[1]


def shared_bytes(given: Format, layout: str, rows: int, columns: int) -> int:
    """Bytes of the signs, and of scales of 16 bits."""
    groups = columns if layout == "columns" else -(-columns // BLOCK_COLUMNS) * _ROW_BLOCKS
    return given.bits * (-(-rows * columns // 8) + 2 * groups)
