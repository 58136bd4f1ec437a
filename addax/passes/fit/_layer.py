"""One layer: from a job to codes and their errors."""

import time

import numpy as np
import numpy.typing as npt

from addax.ir.numbers import (
    POWERS_OF_TWO_4,
    BinaryCodes,
    Codebook,
    CodebookCodes,
    Multipliers,
    relative_error,
)
from addax.passes.fit._descent import State
from addax.passes.fit._format import Format
from addax.passes.fit._job import Fitted, Job
from addax.passes.fit._problem import Problem, make_problem
from addax.passes.fit._rows import fit_rows
from addax.passes.fit._scheme import make_scheme
from addax.passes.fit._sharing import fit_sharing, shared_bytes
from addax.passes.fit._table import fit_table

Floats = npt.NDArray[np.float64]


def fit(job: Job) -> Fitted:
    """Fit one layer; the same job gives the same codes in any process of the same machine.

    Raises:
        InputError: The weights or second moments are not finite, or of the wrong shape.
        OptionError: An option is out of its range.
    """
    started = time.perf_counter()
    problem = make_problem(job)
    weights = np.asarray(job.weights, np.float64)
    rows, columns = weights.shape
    codes: CodebookCodes | BinaryCodes | None = None
    decoded: Floats
    if job.options.layout != "rows":
        shared = fit_sharing(problem, job.format, job.options)
        decoded = shared.T.astype(np.float64) * problem.unit
        size = shared_bytes(job.format, job.options.layout, rows, columns)
    else:
        table = _table(job.format, problem)
        scheme = make_scheme(job.format, table)
        state = fit_rows(problem, scheme, job.format, job.options)
        size = job.format.packed_bytes(rows, columns, problem.group)
        if scheme.is_signed or (len(scheme.basis) == 8 and not job.format.is_binary):
            decoded = state.made.T.astype(np.float64) * problem.unit
        else:
            codes = _codes(job.format, table, state, problem)
            decoded = codes.decode()
    return Fitted(
        job.name,
        job.format,
        codes,
        relative_error(weights, decoded),
        output_error(weights, decoded, job.hessian),
        size,
        time.perf_counter() - started,
        problem.notes,
        decoded if codes is None else None,
    )


def _table(given: Format, problem: Problem) -> tuple[int, ...]:
    if given.kind == "powers":
        return POWERS_OF_TWO_4.table
    if given.kind == "fitted":
        scheme = make_scheme(given, tuple(range(1 << given.bits)))
        return fit_table(problem, scheme, given.bits)
    half = 1 << given.bits - 1
    return tuple(range(-half, half)) if given.kind == "uniform" else ()


def _codes(
    given: Format, table: tuple[int, ...], state: State, problem: Problem
) -> CodebookCodes | BinaryCodes:
    """The state in the job's units, row by row; planes of a group in the order of their scales."""
    theta = state.theta.transpose(1, 0, 2).astype(np.float64)  # [N, G, q]
    multipliers = None
    if state.row is not None:
        unit = np.where(state.row > 0, state.row, 1).astype(np.float64)
        integers = np.rint(theta / unit[:, None, None])
        row = (unit * problem.unit).astype(np.float32).astype(np.float64)
        multipliers = Multipliers(row, integers.astype(np.uint8))
    scale = theta * problem.unit if multipliers is None else multipliers.values
    codes = np.ascontiguousarray(state.codes.T)
    group = problem.group
    if not given.is_binary:
        book = Codebook(given.kind, table)
        if multipliers is not None:
            multipliers = Multipliers(multipliers.scale, multipliers.integers[..., 0])
        return CodebookCodes(book, codes, scale[..., 0], group, multipliers)
    order = np.argsort(-scale, axis=2, kind="stable")
    signs = (codes[..., None] >> np.arange(given.bits) & 1).astype(bool)
    wide = np.repeat(order, group, axis=1)[:, : codes.shape[1]]
    signs = np.take_along_axis(signs, wide, axis=2)
    scale = np.take_along_axis(scale, order, axis=2)
    if multipliers is not None:
        integers = np.take_along_axis(multipliers.integers, order, axis=2)
        multipliers = Multipliers(multipliers.scale, integers)
    return BinaryCodes(signs, scale, group, multipliers)


def output_error(weights: Floats, decoded: Floats, hessian: Floats | None) -> float:
    """sqrt(tr(D H D^T) / tr(W H W^T)), D = weights - decoded; NaN without second moments."""
    if hessian is None:
        return float("nan")
    # In float32: the sums are of squares in H, so that rounding stays relative.
    moment = (hessian / (float(np.abs(hessian).max()) or 1.0)).astype(np.float32)
    reach = float(np.abs(weights).max()) or 1.0

    def size(x: Floats) -> float:
        short = (x / reach).astype(np.float32)
        return max(float(np.einsum("nk,nk->n", short @ moment, short).astype(float).sum()), 0.0)

    apart, whole = size(weights - decoded), size(weights)
    return 0.0 if apart == 0 else float(np.sqrt(apart / whole)) if whole > 0 else float("inf")
