"""The column loop of OPTQ: each column's error is made up for by the columns that follow.

    q_k = nearest(w_k);  e = (w_k - q_k) / U[k, k];  w_j -= U[k, j] e  for all j after k

with U^T U = H^-1, U upper. Columns go in blocks; what a block does to the later ones is one
product. Weights stand transposed, [K, N].
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from addax.passes.fit._job import Array

BLOCK = 128
"""Columns whose effect on the later ones is one product."""


class Levels(Protocol):
    """What weights may be."""

    def nearest(self, target: Array) -> tuple[npt.NDArray[np.uint8], Array]:
        """Codes and values of the levels nearest to target[N]."""


def compensate(
    weights: Array,
    factor: Array,
    order: npt.NDArray[np.intp],
    levels_at: Callable[[int, Array], Levels],
    size: int = BLOCK,
) -> tuple[npt.NDArray[np.uint8], Array]:
    """Codes and what they stand for, both [K, N], of weights [K, N] with columns taken in `order`.

    Args:
        weights: [K, N].
        factor: U [K, K] of the moment, its columns in `order`.
        order: Of the columns.
        levels_at: The levels for column k, given all weights as compensated up to its block.
        size: Of a block.
    """
    current = weights.copy()
    codes, made = np.zeros(weights.shape, np.uint8), np.zeros_like(weights)
    columns = len(weights)
    for start in range(0, columns, size):
        block = order[start : start + size]
        end = start + len(block)
        errors = np.zeros((len(block), weights.shape[1]), np.float32)
        inner = factor[start:end, start:end]
        for i, k in enumerate(block):
            target = current[k] - inner[:i, i] @ errors[:i]
            codes[k], made[k] = levels_at(int(k), current).nearest(target)
            errors[i] = (target - made[k]) / inner[i, i]
        if end < columns:
            current[order[end:]] -= factor[start:end, end:].T @ errors
    return codes, made
