"""The criterion of ShiftAddLLM for which layers deserve more bits, for comparison with `allocate`.

    Wh = W / diag(U), U the upper factor of the damped H^-1;   importance = | |Wh| |_F std(Wh)^2

The fixed shares of layers that get each number of bits follow its code, where the paper's text
states an integer program.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from addax.errors import OptionError
from addax.passes.fit._format import Format
from addax.passes.fit._job import FitOptions, Job
from addax.passes.fit._problem import make_problem

_DAMPING = 0.01  # of the published code


def paper_importance(weights: npt.ArrayLike, hessian: npt.ArrayLike) -> float:
    """The importance of a layer: weights [N, K], second moments [K, K]; in no unit of error.

    Raises:
        InputError: As `fit`.
    """
    options = FitOptions(act_order=False, damping=_DAMPING)
    moments = np.asarray(hessian, np.float64)
    job = Job("layer", np.asarray(weights, np.float64), moments, Format("binary", 1), options)
    problem = make_problem(job)
    if problem.moments is None:
        return 0.0
    alive = np.diagonal(moments) > 0
    # The problem's moments have mean diagonal 1: U of H itself is smaller by that root.
    mean = float(np.diagonal(moments)[alive].mean())
    diagonal = np.diagonal(problem.moments.factor).astype(np.float64) / np.sqrt(mean)
    scaled = problem.weights.T.astype(np.float64) * problem.unit / diagonal
    return float(np.linalg.norm(scaled) * np.std(scaled) ** 2)


def allocate_by_importance(
    importance: Mapping[str, float],
    shares: Mapping[int, float],
    weights: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Bits for each layer: the most important get the most bits, in fixed shares of the layers.

    Args:
        importance: Of each layer.
        shares: How much of all layers gets so many bits, adding up to 1: `{2: 0.8, 3: 0.2}`.
        weights: How much of a share a layer takes up, for example its number of weights; the
            published code counts layers of the second kind of a block four times. 1 by default.

    Raises:
        OptionError: The shares do not add up to 1, or one is negative.
    """
    if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise OptionError(f"expected shares of bits that add up to 1, got {dict(shares)}")
    ordered: Sequence[str] = sorted(importance, key=lambda name: (-importance[name], name))
    counts = {name: 1 if weights is None else weights[name] for name in ordered}
    total, before = sum(counts.values()), 0.0
    steps = sorted(shares, reverse=True)
    ends = np.cumsum([shares[bits] for bits in steps]) * total
    given: dict[str, int] = {}
    for name in ordered:
        middle = before + counts[name] / 2
        given[name] = steps[min(int(np.searchsorted(ends, middle)), len(steps) - 1)]
        before += counts[name]
    return given
