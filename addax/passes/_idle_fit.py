"""Replacing channels of y = W2 phi(W1 x + b1) by what is linear in x, or by nothing, by moments.

Every quantity is a quadratic form in the joint moments of z = [x, phi(h)], h = W1 x + b1, so two
covariance matrices (samples to fit on, samples held out) are all that is kept of the data.
Shapes: x [D], h and phi [H], y [E]; weights as in ONNX, W1[D, H] and W2[H, E].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from addax.ir.statistics import Moments

METHODS = ("idle", "prune")
RIDGE = 1e-3  # of the mean variance of a regressor


@dataclass(frozen=True)
class Candidate:
    """y = phi(h)[kept] B + x L + bias, with `linear` L[D, E] None where channels were pruned.

    `error` is the root of the mean squared error of y over its variance, on held-out rows;
    `before` and `multiplies` are multiplies a row.
    """

    method: str
    ratio: float
    kept: np.ndarray
    active: np.ndarray
    linear: np.ndarray | None
    bias: np.ndarray
    error: float
    before: int
    multiplies: int


@dataclass(frozen=True, eq=False)
class Fit:
    """One feed-forward part with its weights in float64 and the moments of z on real data."""

    first: np.ndarray
    second: np.ndarray
    fitting: Moments
    held_out: Moments

    @property
    def sizes(self) -> tuple[int, int, int]:
        """D, H, E."""
        return self.first.shape[0], self.first.shape[1], self.second.shape[1]

    @property
    def multiplies(self) -> int:
        """Multiplies a row of the part as it is: H (D + E)."""
        inner, hidden, outer = self.sizes
        return hidden * (inner + outer)

    @property
    def break_even(self) -> float:
        """The ratio of idle channels at which the linear path costs what they cost."""
        inner, hidden, outer = self.sizes
        return inner * outer / (hidden * (inner + outer))

    @cached_property
    def _covariance(self) -> np.ndarray:
        return self.fitting.covariance

    @cached_property
    def _slopes(self) -> np.ndarray:
        """a_j = cov(h_j, phi_j) / var(h_j), [H]; 0 for a channel that does not vary."""
        inner = self.sizes[0]
        joint = self._covariance
        together = np.einsum("dh,dh->h", self.first, joint[:inner, inner:])
        variance = np.einsum(
            "dh,de,eh->h", self.first, joint[:inner, :inner], self.first, optimize=True
        )
        tiny = np.finfo(np.float64).tiny
        return np.where(variance > tiny, together / np.maximum(variance, tiny), 0.0)

    @cached_property
    def _orders(self) -> dict[str, np.ndarray]:
        """For each method the channels in the order in which they are given up."""
        inner = self.sizes[0]
        joint = self._covariance
        weight = self.second @ self.second.T
        line = np.concatenate([-self.first * self._slopes, np.eye(self.sizes[1])])
        residual = line.T @ joint @ line
        return {
            "idle": greedy_order(residual * weight),
            "prune": greedy_order(joint[inner:, inner:] * weight),
        }

    def candidate(self, method: str, ratio: float, *, correct: bool = True) -> Candidate:
        """The part with `ratio` of its channels idle, or pruned to no more multiplies than that.

        With `correct` the weights are solved anew, by least squares against the part's own output.
        """
        inner, hidden, outer = self.sizes
        active = math.ceil(round(hidden * (1 - ratio), 9))
        cost = inner * outer + active * (inner + outer)
        if method == "prune":
            active = max(1, cost // (inner + outer))
            cost = active * (inner + outer)
        order = self._orders[method]
        gone = order[: max(0, hidden - active)]
        kept = np.setdiff1d(np.arange(hidden), gone)
        linear = method == "idle"
        guess = np.zeros((inner + hidden, outer))
        guess[inner + kept] = self.second[kept]
        if linear:
            guess[:inner] = (self.first[:, gone] * self._slopes[gone]) @ self.second[gone]
        target = np.concatenate([np.zeros((inner, outer)), self.second])
        used = np.concatenate([np.arange(inner) if linear else np.arange(0), inner + kept])
        if correct and len(used):
            joint = self._covariance
            own = joint[np.ix_(used, used)]
            own[np.diag_indices_from(own)] += RIDGE * max(float(np.diag(own).mean()), 1e-30)
            guess[used] += np.linalg.solve(own, joint[used] @ (target - guess))
        bias = self.fitting.mean @ (target - guess)
        return Candidate(
            method,
            ratio,
            kept,
            guess[inner + kept],
            guess[:inner] if linear else None,
            bias,
            self._error(target - guess, bias),
            self.multiplies,
            cost,
        )

    def _error(self, wrong: np.ndarray, bias: np.ndarray) -> float:
        inner = self.sizes[0]
        joint = self.held_out.covariance
        offset = self.held_out.mean @ wrong - bias
        missed = float(np.sum((joint @ wrong) * wrong) + offset @ offset)
        own = joint[inner:, inner:]
        whole = float(np.sum((own @ self.second) * self.second))
        return math.sqrt(max(missed, 0.0) / whole) if whole > 0 else math.inf

    def best(self, methods: Sequence[str], ratio: float, *, correct: bool = True) -> Candidate:
        """The candidate of one of `methods` with the smallest held-out error."""
        made = (self.candidate(method, ratio, correct=correct) for method in methods)
        return min(made, key=lambda candidate: candidate.error)


def greedy_order(cost: np.ndarray) -> np.ndarray:
    """Indices in the order that keeps the sum of `cost` [H, H] over the chosen ones smallest.

    Each next index is the one that adds least: cost[j, j] + 2 sum of cost[i, j] over chosen i.
    """
    adds = np.diag(cost).astype(np.float64).copy()
    order = np.empty(len(adds), np.int64)
    for step in range(len(adds)):
        chosen = int(np.argmin(adds))
        order[step] = chosen
        adds += 2 * cost[chosen]
        adds[chosen] = np.inf
    return order
