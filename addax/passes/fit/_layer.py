"""One layer: from a job to codes and their errors."""

import time

import numpy as np
import numpy.typing as npt

from addax.ir.numbers import (
    POWERS_OF_TWO_4,
    UNIFORM_2,
    UNIFORM_4,
    BinaryCodes,
    CodebookCodes,
    binary_codes,
    encode_codebook,
    fit_codebook,
    relative_error,
)
from addax.passes.fit._job import Fitted, Job
from addax.passes.fit._problem import Problem, make_problem

Floats = npt.NDArray[np.float64]


def fit(job: Job) -> Fitted:
    """Fit one layer; the same job gives the same codes on any machine.

    Raises:
        InputError: The weights or second moments are not finite, or of the wrong shape.
        OptionError: An option is out of its range.
    """
    started = time.perf_counter()
    problem = make_problem(job)
    codes = _plain(problem, job)
    decoded = codes.decode()
    weights = np.asarray(job.weights, np.float64)
    return Fitted(
        job.name,
        job.format,
        codes,
        decoded,
        relative_error(weights, decoded),
        output_error(weights, decoded, job.hessian),
        job.format.packed_bytes(weights.shape[0], weights.shape[1], job.options.group),
        time.perf_counter() - started,
        problem.notes,
    )


def _plain(problem: Problem, job: Job) -> CodebookCodes | BinaryCodes:
    kind, bits = job.format.kind, job.format.bits
    codes: CodebookCodes | BinaryCodes
    if kind == "binary":
        codes = binary_codes(problem.weights, bits, problem.group)
    else:
        book = {
            "powers4": POWERS_OF_TWO_4, "uniform4": UNIFORM_4, "uniform2": UNIFORM_2
        }.get(f"{kind}{bits}") or fit_codebook(problem.weights, bits, problem.group)  # fmt: skip
        codes = encode_codebook(problem.weights, book, problem.group)
    return codes if job.format.scales == "real" else codes.factorized(job.format.scales)


def output_error(weights: Floats, decoded: Floats, hessian: Floats | None) -> float:
    """sqrt(tr(D H D^T) / tr(W H W^T)), D = weights - decoded; NaN without second moments."""
    if hessian is None:
        return float("nan")
    apart, size = (max(float(np.sum((x @ hessian) * x)), 0.0) for x in (weights - decoded, weights))
    return 0.0 if apart == 0 else float(np.sqrt(apart / size)) if size > 0 else float("inf")
