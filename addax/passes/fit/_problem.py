"""A job that is checked and made safe: finite weights, a second moment that has a factor."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky
from scipy.linalg.lapack import dtrtri

from addax.errors import InputError, OptionError
from addax.ir.numbers import group_for
from addax.passes.fit._job import LAYOUTS, Array, FitOptions, Job

Floats = npt.NDArray[np.float64]

BLOCK_COLUMNS = 8
"""Columns of a block in the layout `blocks`."""

_DAMPINGS = (1.0, 10.0, 100.0)  # multiples of the damping that was asked for, tried in turn
_LEAST_DAMPING = 1e-6
_UNEVEN = 1e-6  # asymmetry beyond rounding, as a share of the largest element
_LARGEST = 1e30  # so that squares and products stay inside float32


@dataclass(frozen=True)
class Moments:
    """What the compensation needs of the inputs.

    Attributes:
        matrix: float32[K, K], E[x x^T], damped, with mean diagonal 1.
        order: Columns in the order in which they are rounded.
        factor: float32[K, K], the upper U of the inverse U^T U of the matrix so ordered.
    """

    matrix: Array
    order: npt.NDArray[np.intp]
    factor: Array


@dataclass(frozen=True)
class Problem:
    """What the loops work on: float32, transposed, in units in which the largest weight is 1.

    Attributes:
        weights: float32[K, N], with 0 in dead columns; times `unit` they are the job's.
        unit: The largest weight, or 1.
        importance: float32[K], what a column's squared error counts.
        group: Columns that share scales.
        moments: None if nothing is compensated.
        notes: What was done.
    """

    weights: Array
    unit: float
    importance: Array
    group: int
    moments: Moments | None
    notes: tuple[str, ...]


def make_problem(job: Job) -> Problem:
    """Check a job, and make it safe.

    Raises:
        InputError: Weights or moments are not finite, of the wrong shape, or the moments are
            not those of any inputs.
        OptionError: An option is out of its range.
    """
    _check_options(job)
    weights = _checked_weights(job)
    columns = weights.shape[1]
    group = job.options.group or group_for(columns)
    unit = float(np.abs(weights).max()) or 1.0
    scaled = np.ascontiguousarray(weights.T / unit, np.float32)
    ones = np.ones(columns, np.float32)
    if job.hessian is None:
        return Problem(scaled, unit, ones, group, None, ())
    moment = _checked_moment(job, columns)
    diagonal = np.diagonal(moment).copy()
    alive = diagonal > 0
    if not alive.any():
        note = "all inputs are zero in the calibration data: fitted without it"
        return Problem(scaled, unit, ones, group, None, (note,))
    notes: tuple[str, ...] = ()
    if not alive.all():
        notes = (f"{int(np.sum(~alive))} of {columns} inputs are always zero",)
        moment[~alive] = 0
        moment[:, ~alive] = 0
        scaled[~alive] = 0
    moment /= float(diagonal[alive].mean())
    diagonal = np.where(alive, np.diagonal(moment), 1.0)
    if not job.options.compensate:
        importance = np.where(alive, diagonal, 0).astype(np.float32)
        return Problem(scaled, unit, importance, group, None, notes)
    order = np.argsort(-diagonal, kind="stable") if job.options.act_order else np.arange(columns)
    if job.options.layout == "blocks":
        order = _whole_blocks(order)
    factor, damping = _factor(job, moment, diagonal, order)
    if damping > job.options.damping:
        notes += (f"singular second moments: damping raised to {damping:g}",)
    conditional = np.empty(columns)
    conditional[order] = 1.0 / np.einsum("kj,kj->j", factor, factor)
    importance = np.where(alive, conditional, 0).astype(np.float32)
    np.fill_diagonal(moment, diagonal + damping)
    moments = Moments(moment.astype(np.float32), order, factor)
    return Problem(scaled, unit, importance, group, moments, notes)


def _whole_blocks(order: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Blocks of columns in the order of their first ones; each block in its own order."""
    blocks = order // BLOCK_COLUMNS
    _, first = np.unique(blocks, return_index=True)
    wanted = blocks[np.sort(first)]
    owner = np.arange(len(order)) // BLOCK_COLUMNS
    return np.concatenate([np.flatnonzero(owner == block) for block in wanted])


def _check_options(job: Job) -> None:
    options: FitOptions = job.options
    if options.layout not in LAYOUTS:
        raise OptionError(
            f"expected a layout that is one of {', '.join(LAYOUTS)}; got {options.layout!r} for "
            f"layer {job.name!r}"
        )
    if options.layout != "rows" and not job.format.is_binary:
        raise OptionError(
            f"layouts other than rows are those of binary codes; layer {job.name!r} asks for "
            f"{job.format} in {options.layout}"
        )
    for name, least in (("damping", 0), ("sweeps", 0), ("rounds", 1), ("starts", 1)):
        if not getattr(options, name) >= least:
            raise OptionError(
                f"expected {name} of at least {least}, got {getattr(options, name)} for layer "
                f"{job.name!r}"
            )
    group = options.group
    if group is not None and group < 1:
        raise OptionError(f"expected groups of at least one column, got {group}")
    if group is not None and job.format.executable and (group % 32 or group > 128):
        raise OptionError(
            f"expected groups of 32, 64, 96 or 128 columns for layer {job.name!r} in "
            f"{job.format}, got {group}"
        )


def _checked_weights(job: Job) -> Floats:
    weights = np.asarray(job.weights, np.float64)
    if weights.ndim != 2 or not weights.size:
        raise InputError(
            f"expected weights [outputs, inputs] of layer {job.name!r}, got shape {weights.shape}"
        )
    wrong = int(np.sum(~np.isfinite(weights)))
    if wrong:
        raise InputError(
            f"weights of layer {job.name!r} hold {wrong} NaN or infinite values of "
            f"{weights.size}: repair the model first"
        )
    if np.abs(weights).max() > _LARGEST:
        raise InputError(
            f"weights of layer {job.name!r} reach {np.abs(weights).max():.3g}; expected at most "
            f"{_LARGEST:g}, so that their codes decode in float32"
        )
    return weights


def _checked_moment(job: Job, columns: int) -> Floats:
    moment = np.array(job.hessian, np.float64)
    if moment.shape != (columns, columns):
        raise InputError(
            f"expected second moments [{columns}, {columns}] for layer {job.name!r} of "
            f"{columns} inputs, got shape {moment.shape}"
        )
    if not np.isfinite(moment).all():
        raise InputError(
            f"second moments of layer {job.name!r} hold NaN or infinities: look at the "
            "calibration data and at the activations before this layer"
        )
    largest = float(np.abs(moment).max())
    if np.abs(moment - moment.T).max() > _UNEVEN * largest or np.diagonal(moment).min() < 0:
        raise InputError(
            f"second moments of layer {job.name!r} are not the mean of x x^T: they are not "
            "symmetric, or negative on the diagonal"
        )
    return np.asarray((moment + moment.T) / 2)


def _factor(
    job: Job, moment: Floats, diagonal: Floats, order: npt.NDArray[np.intp]
) -> tuple[Array, float]:
    """U of the moment with enough on its diagonal to have a factor, and how much that was.

    With J the reversal of order and J H J = L L^T, U = J L^-1 J is upper, and U^T U = H^-1.
    """
    asked = max(job.options.damping, _LEAST_DAMPING)
    for damping in (job.options.damping, *(asked * times for times in _DAMPINGS)):
        damped = moment[np.ix_(order[::-1], order[::-1])]
        np.fill_diagonal(damped, (diagonal + damping)[order[::-1]])
        try:
            lower = cholesky(damped, lower=True, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:
            continue
        inverse, failed = dtrtri(lower, lower=1)
        factor = inverse[::-1, ::-1].astype(np.float32, order="C")
        if not failed and np.isfinite(factor).all():
            return factor, damping
    raise InputError(
        f"second moments of layer {job.name!r} have no factor even with damping "
        f"{asked * _DAMPINGS[-1]:g}: they are not the mean of x x^T of any inputs; accumulate them "
        "in float64, or raise `damping`"
    )
