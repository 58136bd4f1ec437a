"""Rows in groups of columns, and the error of what stands for them."""

import numpy as np
import numpy.typing as npt

from addax.errors import InputError

Floats = npt.NDArray[np.float64]


def grouped(w: Floats, group: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """w[N, K] as [N, G, group], filled up with zeros, and which elements are real.

    Raises:
        InputError: w is not a matrix, is empty, is not finite, or the group is not positive.
    """
    w = np.asarray(w, dtype=np.float64)
    if w.ndim != 2 or not w.size:
        raise InputError(f"expected a matrix of weights, got shape {w.shape}")
    if group < 1:
        raise InputError(f"expected groups of at least one column, got {group}")
    if not np.isfinite(w).all():
        raise InputError("expected finite weights, got NaN or infinities")
    rows, columns = w.shape
    count = -(-columns // group)
    filled = np.zeros((rows, count * group))
    filled[:, :columns] = w
    real = np.zeros((rows, count * group), dtype=bool)
    real[:, :columns] = True
    return filled.reshape(rows, count, group), real.reshape(rows, count, group)


def relative_error(w: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """|w - other| / |w| in the Frobenius norm; 0 if both are 0."""
    w, other = np.asarray(w, np.float64), np.asarray(other, np.float64)
    size = float(np.linalg.norm(w))
    apart = float(np.linalg.norm(w - other))
    return 0.0 if apart == 0 else (np.inf if size == 0 else apart / size)
