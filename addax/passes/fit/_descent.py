"""Descent on tr(D H D^T) over codes and scales: one group after another, others held.

With D = W - Q and P = H D, column k is best at q_k + P_k / H_kk, and changes delta of a group g
cost delta^T H_gg delta - 2 delta^T P_g. No step makes the error larger. Transposed, [K, N].
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
        made[part] = np.einsum("knq,nq->kn", scheme.basis[codes[part]], theta[g])
    return made


def descend(
    scheme: Scheme, state: State, weights: Array, moment: Array, group: int, sweeps: int
) -> None:
    """Go through all groups up to `sweeps` times, until a time gains little."""
    state.pull = moment @ (weights - state.made)
    before = float(np.sum(row_errors(state, weights)))
    for _ in range(sweeps):
        _sweep(scheme, state, moment, group)
        _move_rows(scheme, state, weights, moment)
        now = float(np.sum(row_errors(state, weights)))
        if now > before * (1 - _LITTLE):
            break
        before = now


def row_errors(state: State, weights: Array) -> npt.NDArray[np.float64]:
    """d H d^T of each row, [N]."""
    apart = (weights - state.made).astype(np.float64)
    return np.asarray(np.einsum("kn,kn->n", apart, state.pull))


def _move_rows(scheme: Scheme, state: State, weights: Array, moment: Array) -> None:
    """Least squares for the float of each row."""
    if state.row is None or scheme.allowed is None:
        return
    spread = moment @ weights - state.pull  # H Q
    power = np.einsum("kn,kn->n", state.made, spread)
    side = np.einsum("kn,kn->n", state.made, state.pull)
    factor = np.where(power > 0, 1 + side / np.where(power > 0, power, 1), 1)
    factor = np.where(factor > 0, factor, 1).astype(np.float32)
    state.row *= factor
    state.theta *= factor[:, None]
    state.made *= factor
    state.pull = moment @ (weights - state.made)


def _sweep(scheme: Scheme, state: State, moment: Array, group: int) -> None:
    """First a group's scales, then its codes, column by column."""
    for g in range(len(state.theta)):
        part = slice(g * group, min((g + 1) * group, len(moment)))
        inner = moment[part, part]
        before = state.made[part].copy()
        pull = state.pull[part].copy()
        pull = _move_scales(scheme, state, g, part, inner, pull)
        _move_codes(scheme, state, g, part, inner, pull)
        change = state.made[part] - before
        state.pull -= moment[:, part] @ change


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
) -> Array:
    """Least squares for the scales of a group under H, taken where it lowers the error."""
    theta = state.theta[g]
    basis = scheme.basis[state.codes[part]]  # [S, N, q]
    planes = basis.shape[2]
    spread = np.stack([inner @ basis[:, :, i] for i in range(planes)], axis=2)
    gram = np.einsum("sni,snj->nij", basis, spread)
    side = np.einsum("sni,sn->ni", basis, pull)
    ridge = np.maximum(_RIDGE * np.trace(gram, axis1=1, axis2=2), 1e-30)
    step = np.linalg.solve(gram + ridge[:, None, None] * np.eye(planes), side[..., None])[..., 0]
    moved = (theta + step).astype(np.float32)
    if not scheme.is_signed:
        moved = np.maximum(moved, 0)
    best, gain = theta, np.zeros(len(theta), np.float32)
    for candidate in (scheme.rounded(moved, state.row),):
        delta = candidate - theta
        cost = np.einsum("ni,nij,nj->n", delta, gram, delta) - 2 * np.sum(delta * side, axis=1)
        better = cost < gain
        best = np.where(better[:, None], candidate, best)
        gain = np.where(better, cost, gain)
    state.theta[g] = best
    change = np.einsum("snq,nq->sn", basis, best - theta)
    state.made[part] += change
    return np.asarray(pull - np.einsum("snq,nq->sn", spread, best - theta))
