"""A job that is checked and made safe: finite weights, a second moment that has a factor."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from addax.errors import InputError, OptionError
from addax.ir.numbers import group_for
from addax.passes.fit._job import LAYOUTS, FitOptions, Job

Floats = npt.NDArray[np.float64]

_DAMPINGS = (1.0, 10.0, 100.0)  # multiples of the damping that was asked for
_LEAST_DAMPING = 1e-6
_UNEVEN = 1e-6  # asymmetry beyond rounding, as a share of the largest element
_LARGEST = 1e30  # so that squares and products stay inside float32


@dataclass(frozen=True)
class Problem:
    """Weights [N, K] and a positive definite moment [K, K] in the units of the job.

    Attributes:
        weights: The job's, with 0 in dead columns.
        moment: Damped, 1s on the diagonal of dead columns; None without compensation.
        inverse: The upper factor U of the moment's inverse, U^T U; None without compensation.
        alive: bool[K], columns whose inputs are not always zero.
        group: Columns that share scales.
        notes: What was done.
    """

    weights: Floats
    moment: Floats | None
    alive: npt.NDArray[np.bool_]
    group: int
    notes: tuple[str, ...]


def make_problem(job: Job) -> Problem:
    """Check a job.

    Raises:
        InputError: Weights or moments are not finite, of the wrong shape, or the moments are
            not those of any inputs.
        OptionError: An option is out of its range.
    """
    _check_options(job)
    weights = _checked_weights(job)
    columns = weights.shape[1]
    group = job.options.group or group_for(columns)
    if job.hessian is None:
        return Problem(weights, None, np.ones(columns, dtype=bool), group, ())
    moment = _checked_moment(job, columns)
    diagonal = np.diagonal(moment)
    alive = diagonal > 0
    if not alive.any():
        return Problem(weights, None, np.ones(columns, dtype=bool), group, ("all inputs are zero",))
    notes: tuple[str, ...] = (
        () if alive.all() else (f"{int(np.sum(~alive))} of {columns} inputs are always zero",)
    )
    moment = np.where(alive[:, None] & alive, moment, 0.0)
    mean = float(diagonal[alive].mean())
    moment[~alive, ~alive] = mean
    moment, damping = _damped(job, moment, mean)
    if damping > job.options.damping:
        notes += (f"singular second moments: damping raised to {damping:g}",)
    return Problem(weights * alive, moment, alive, group, notes)


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
    for name, least in (("damping", 0), ("sweeps", 0), ("rounds", 1)):
        if not getattr(options, name) >= least:
            raise OptionError(
                f"expected {name} of at least {least}, got {getattr(options, name)} for layer "
                f"{job.name!r}"
            )
    if options.group is not None and options.group < 1:
        raise OptionError(f"expected groups of at least one column, got {options.group}")


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


def _damped(job: Job, moment: Floats, mean: float) -> tuple[Floats, float]:
    """The moment with enough on its diagonal to have a factor, and how much that was."""
    asked = max(job.options.damping, _LEAST_DAMPING)
    for times in _DAMPINGS:
        damped = moment + np.eye(len(moment)) * (mean * asked * times)
        try:
            np.linalg.cholesky(damped)
        except np.linalg.LinAlgError:
            continue
        return damped, asked * times if times > 1 else job.options.damping
    raise InputError(
        f"second moments of layer {job.name!r} have no factor even with damping "
        f"{asked * _DAMPINGS[-1]:g}: they are not the mean of x x^T of any inputs; accumulate them "
        "in float64, or raise `damping`"
    )
