"""Integers of a row's one scale, each column's error made up for by the columns that follow."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from addax.passes.fit._compensate import compensate
from addax.passes.fit._format import Format
from addax.passes.fit._job import Array, FitOptions, Job
from addax.passes.fit._problem import make_problem

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Grid:
    """Levels scale[n] * (low + code), code 0 to high - low: found by rounding."""

    scale: Array
    low: int
    high: int

    def nearest(self, target: Array) -> tuple[npt.NDArray[np.uint8], Array]:
        integers = np.clip(np.rint(target / self.scale), self.low, self.high)
        return (integers - self.low).astype(np.uint8), integers * self.scale


def compensated_integers(
    name: str, weights: Floats, hessian: Floats, scale: Array, ends: tuple[int, int], damping: float
) -> tuple[npt.NDArray[np.int8], tuple[str, ...]]:
    """Integers int8[N, K] for weights[N, K] ~ scale[n] integers[n, k], and what was done.

    Args:
        name: Of the layer, in messages.
        weights: [N, K].
        hessian: [K, K], mean of x x^T of the inputs.
        scale: Of each row, not 0; its sign is free.
        ends: The smallest and the largest integer, at most 256 in all.
        damping: What is added to the diagonal of the hessian, as a share of its mean.

    Raises:
        InputError: The weights or second moments are not finite, or of the wrong shape.
    """
    options = FitOptions(damping=damping, group=weights.shape[1])
    any_format = Format("uniform", 4, "real")
    problem = make_problem(Job(name, weights, hessian, any_format, options))
    grid = _Grid((scale / problem.unit).astype(np.float32), *ends)
    if problem.moments is None:
        codes = np.stack([grid.nearest(column)[0] for column in problem.weights])
    else:
        moments = problem.moments
        codes, _ = compensate(problem.weights, moments.factor, moments.order, lambda *_: grid)
    integers = codes.T.astype(np.int16) + grid.low
    return integers.astype(np.int8), problem.notes
