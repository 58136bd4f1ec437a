"""Descent on tr(D H D^T) over codes and scales: one group after another, others held.

With D = W - Q and P = H D, column k is best at q_k + P_k / H_kk, and changes delta of a group g
cost delta^T H_gg delta - 2 delta^T P_g. No step makes the error larger. Transposed, [K, N].
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import sgemm

from addax.passes.fit._job import Array
from addax.passes.fit._scheme import Scheme, make_levels

_RIDGE = 1e-6
_LITTLE = 0.004  # of the squared error, for which no further sweep is made


@dataclass
class State:
    """A fit on its way.

    Attributes:
        codes: uint8[K, N], places in the scheme's basis.
        theta: float32[G, N, q], scales.
        row: float32[N], of which the scales are whole multiples; None for real scales.
        made: float32[K, N], Q: what codes and scales stand for.
        pull: float32[K, N], H (W - Q).
    """

    codes: npt.NDArray[np.uint8]
    theta: Array
    row: Array | None
    made: Array
    pull: Array


def decode(scheme: Scheme, codes: npt.NDArray[np.uint8], theta: Array, group: int) -> Array:
    """What codes [K, N] and scales [G, N, q] stand for, float32[K, N]."""
    made = np.empty(codes.shape, np.float32)
    for g in range(len(theta)):
        part = slice(g * group, (g + 1) * group)
        made[part] = _combined(_planes(scheme, codes[part]), theta[g])
    return made


def descend(
    scheme: Scheme, state: State, weights: Array, moment: Array, group: int, sweeps: int
) -> None:
    """Go through all groups up to `sweeps` times, until a time gains little."""
    whole = moment @ weights
    state.pull = whole - moment @ state.made
    before = float(np.sum(row_errors(state, weights)))
    for _ in range(sweeps):
        for g in range(len(state.theta)):
            _move_group(scheme, state, moment, g, group)
        _move_rows(scheme, state, whole)
        now = float(np.sum(row_errors(state, weights)))
        if now > before * (1 - _LITTLE):
            break
        before = now


def row_errors(state: State, weights: Array) -> npt.NDArray[np.float64]:
    """d H d^T of each row, [N]."""
    return _dots(weights - state.made, state.pull).astype(np.float64)


def _dots(x: Array, y: Array) -> Array:
    return np.asarray(np.einsum("kn,kn->n", x, y))


def _planes(scheme: Scheme, codes: npt.NDArray[np.uint8]) -> list[Array]:
    """What each scale of the group is multiplied by, [S, N] for each of the q scales."""
    return [column[codes] for column in np.ascontiguousarray(scheme.basis.T)]


def _combined(planes: list[Array], theta: Array) -> Array:
    made = planes[0] * theta[:, 0]
    for i in range(1, len(planes)):
        made += planes[i] * theta[:, i]
    return made


def _move_group(scheme: Scheme, state: State, moment: Array, g: int, group: int) -> None:
    """First the group's scales, then its codes, column by column."""
    part = slice(g * group, min((g + 1) * group, len(moment)))
    inner = moment[part, part]
    before = state.made[part].copy()
    pull = state.pull[part].copy()
    _move_scales(scheme, state, g, part, inner, pull)
    _move_codes(scheme, state, g, part, inner, pull)
    # pull -= moment[:, part] @ change, in place: all are transposed for a library in columns.
    change = (state.made[part] - before).T
    pull = state.pull.T
    state.pull = sgemm(-1.0, change, moment[part].T, 1.0, pull, trans_b=True, overwrite_c=True).T


def _move_codes(
    scheme: Scheme, state: State, g: int, part: slice, inner: Array, pull: Array
) -> None:
    levels = make_levels(scheme, state.theta[g])
    changes = np.zeros_like(pull)
    for i in range(len(inner)):
        k = part.start + i
        left = pull[i] - inner[i, :i] @ changes[:i] if i else pull[i]
        codes, value = levels.nearest(state.made[k] + left / inner[i, i])
        changes[i] = value - state.made[k]
        state.codes[k], state.made[k] = codes, value


def _move_scales(
    scheme: Scheme, state: State, g: int, part: slice, inner: Array, pull: Array
) -> None:
    """Least squares for the scales of a group under H, taken where it lowers the error."""
    theta = state.theta[g]
    planes = _planes(scheme, state.codes[part])
    spread = [inner @ plane for plane in planes]
    gram = np.array([[_dots(one, other) for one in planes] for other in spread])
    gram = gram.transpose(2, 0, 1).astype(np.float64)
    side = np.stack([_dots(plane, pull) for plane in planes], axis=1).astype(np.float64)
    ridge = np.maximum(_RIDGE * np.trace(gram, axis1=1, axis2=2), 1e-30)
    ridged = gram + ridge[:, None, None] * np.eye(len(planes))
    moved = theta + np.linalg.solve(ridged, side[..., None])[..., 0]
    if not scheme.is_signed:
        moved = np.maximum(moved, 0)
    delta = scheme.rounded(moved.astype(np.float32), state.row) - theta
    cost = np.einsum("ni,nij,nj->n", delta, gram, delta) - 2 * np.sum(delta * side, axis=1)
    delta = np.where(cost[:, None] < 0, delta, 0)
    state.theta[g] += delta
    state.made[part] += _combined(planes, delta)
    pull -= _combined(spread, delta)


def _move_rows(scheme: Scheme, state: State, whole: Array) -> None:
    """Least squares for the float of each row; whole = H W."""
    if state.row is None or scheme.allowed is None:
        return
    spread = whole - state.pull  # H Q
    power, side = _dots(state.made, spread), _dots(state.made, state.pull)
    factor = np.where(power > 0, 1 + side / np.where(power > 0, power, 1), 1)
    factor = np.where(factor > 0, factor, 1).astype(np.float32)
    state.row *= factor
    state.theta *= factor[:, None]
    state.made *= factor
    state.pull = whole - factor * spread
