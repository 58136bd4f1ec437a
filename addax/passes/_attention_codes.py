"""What codes of scores do to attention, on arrays: the equations of LogCodeAttention in NumPy."""

import numpy as np

_LOG2_E = 1.4426950408889634


def exact_attention(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """softmax(scores[..., Q, L]) values[..., L, D] in float64; zeros for rows that see nothing."""
    p = _weights(scores)
    total = p.sum(-1, keepdims=True)
    return np.asarray(p @ values.astype(np.float64) / np.where(total > 0, total, 1))


def probabilities(scores: np.ndarray) -> np.ndarray:
    """softmax(scores[..., Q, L]) in float64."""
    p = _weights(scores)
    return np.asarray(p / np.maximum(p.sum(-1, keepdims=True), np.finfo(np.float64).tiny))


def coded_attention(
    scores: np.ndarray, values: np.ndarray, codes_per_octave: int, bits: int, delta: float = 0.0
) -> np.ndarray:
    """The same by codes; values rounded to int8 with one scale a matrix, as kernels have them."""
    last = 2**bits - 1
    table = np.rint(255 * 2.0 ** (-np.arange(last + 1) / codes_per_octave))
    table[last] = 0
    with np.errstate(divide="ignore"):
        below = -np.log2(probabilities(scores) / delta if delta else _weights(scores))
    codes = np.clip(np.rint(codes_per_octave * below), 0, last).astype(np.int64)
    p = table[codes]
    largest = np.abs(values).max((-2, -1), keepdims=True).astype(np.float64)
    step = np.where(largest > 0, largest / 127, 1)
    sums = p @ (np.rint(values / step) * step)
    return np.asarray(sums * delta / 255 if delta else sums / np.maximum(p.sum(-1), 1)[..., None])


def _weights(scores: np.ndarray) -> np.ndarray:
    """e^(scores - the row's maximum), which is 1 at the maximum; zeros in a row of -inf."""
    highest = scores.max(-1, keepdims=True).astype(np.float64)
    return np.exp2((scores - np.where(np.isfinite(highest), highest, 0)) * _LOG2_E)
