"""What kernels compute, in NumPy: the integers exactly, and the few floats around them in order.

A kernel must give these integers bit for bit, and float results of the order given here. Arrays
are float32 unless said. `q` are activations rounded to int8 from -127 to 127, ties to even.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_LOG2_E = np.float32(1.4426950408889634)
_LOWEST = np.finfo(np.float32).min


class Rounded(NamedTuple):
    """x ~ q scale, one scale for each slice along `axis`; the scale of zeros is 1."""

    q: npt.NDArray[np.int8]
    scale: Floats


def round_to_int8(x: Floats, axis: int | tuple[int, ...] = -1) -> Rounded:
    """s = max |x| / 127, q = rint(x (1 / s)); dimensions of `axis` stay, with size 1, in s."""
    largest = np.max(np.abs(x), axis=axis, keepdims=True, initial=0.0)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    inverse = np.float32(1) / scale
    return Rounded(np.rint(x * inverse).astype(np.int8), scale)


# LogCodeAttention, row-max form


def log_code_table(codes_per_octave: int, bits: int) -> npt.NDArray[np.uint8]:
    """p of each code: rint(255 2^(-c / n)), and 0 for the last code."""
    levels = np.rint(255 * np.exp2(-np.arange(1 << bits) / codes_per_octave)).astype(np.uint8)
    levels[-1] = 0
    return levels


def log_codes(
    s: Floats, mask: Floats, scale: float, codes_per_octave: int, bits: int
) -> npt.NDArray[np.uint8]:
    """Codes uint8[..., Q, L]; every float32 operation rounded by itself."""
    t = s * np.float32(scale) + mask
    highest = np.maximum(t.max(axis=-1, keepdims=True), _LOWEST)
    far = np.rint((highest - t) * (np.float32(codes_per_octave) * _LOG2_E))
    last = np.float32((1 << bits) - 1)
    return np.where(far < last, far, last).astype(np.uint8)


class LogCodeSums(NamedTuple):
    """sum_l p[q, l] v[l, d], [..., Q, D], and sum_l p[q, l], [..., Q, 1]."""

    weighted: Integers
    total: Integers


def log_code_sums(
    codes: npt.NDArray[np.uint8], table: npt.NDArray[np.uint8], q: npt.NDArray[np.int8]
) -> LogCodeSums:
    """Both sums of int8 values q[..., L, D]; both fit int32 up to L = 66,000."""
    p = table[codes].astype(np.int64)
    return LogCodeSums(p @ q.astype(np.int64), p.sum(axis=-1, keepdims=True))


def shifted_sums(codes: npt.NDArray[np.uint8], q: npt.NDArray[np.int8], bits: int) -> LogCodeSums:
    """`log_code_sums` of the table of one code an octave, without a multiply.

    p q is q << (8 - c); for c = 0, whose p is 255, less q; codes from 9 on are nothing.
    """
    beyond = (codes > 8) | (codes == (1 << bits) - 1)
    left = np.where(beyond, 0, 8 - np.minimum(codes, 8).astype(np.int64))
    values = q.astype(np.int64)[..., None, :, :]
    moved = (values << left[..., None]) - np.where((codes == 0)[..., None], values, 0)
    some = np.where(beyond[..., None], 0, moved)
    p = np.where(beyond, 0, (1 << left) - (codes == 0))
    return LogCodeSums(some.sum(axis=-2), p.sum(axis=-1, keepdims=True))


def log_code_attention(
    s: Floats, mask: Floats, v: Floats, *, codes_per_octave: int, bits: int, scale: float
) -> Floats:
    """Y[..., Q, D] = weighted (scale of v / total), the quotient rounded first."""
    rounded = round_to_int8(v, axis=(-2, -1))
    codes = log_codes(s, mask, scale, codes_per_octave, bits)
    sums = log_code_sums(codes, log_code_table(codes_per_octave, bits), rounded.q)
    factor = rounded.scale / np.maximum(sums.total, 1).astype(np.float32)
    return np.asarray(sums.weighted.astype(np.float32) * factor)


# BinaryLinearAttention


class Heads(NamedTuple):
    """Bits bool[B, heads, N, M] of queries and keys, and values[B, heads, N, D]."""

    query_bits: npt.NDArray[np.bool_]
    key_bits: npt.NDArray[np.bool_]
    values: Floats


def split_heads(x: Floats, heads: int, bits: int) -> Heads:
    """The parts of x[B, N, heads (2 M + D)]."""
    parts = np.split(x, [heads * bits, 2 * heads * bits], axis=-1)
    q, k, v = (np.swapaxes(part.reshape(*x.shape[:2], heads, -1), 1, 2) for part in parts)
    return Heads(q > 0, k > 0, v)


def binary_sums(heads: Heads) -> npt.NDArray[np.float64]:
    """qb (kb^T v), [B, heads, N, D]: exact for integer values, in whatever order they are added."""
    keys = np.swapaxes(heads.key_bits, 2, 3).astype(np.float64)
    return heads.query_bits.astype(np.float64) @ (keys @ heads.values.astype(np.float64))


def binary_linear_attention(
    x: Floats,
    filters: Floats,
    *,
    heads: int,
    bits: int,
    value_weight: float,
    sum_weight: float,
    epsilon: float,
) -> npt.NDArray[np.float64]:
    """Y[B, N, heads D] in float64, with the sums of `binary_sums`."""
    parts = split_heads(x, heads, bits)
    v = parts.values.astype(np.float64)
    u = value_weight * v + sum_weight * binary_sums(parts)
    y = u / np.maximum(np.sqrt(np.sum(np.square(u), axis=-1, keepdims=True)), epsilon)
    taps = filters.shape[2]
    padded = np.pad(v, ((0, 0), (0, 0), (taps // 2, taps // 2), (0, 0)))
    for j in range(taps):
        y = y + filters[:, 0, j, 0][:, None, None] * padded[:, :, j : j + v.shape[2]]
    return np.asarray(np.swapaxes(y, 1, 2).reshape(*x.shape[:2], -1))


# RoutedMoE


def buckets(expert: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows of the Mult expert (0) and of the Shift expert (anything else), in order."""
    flat = expert.ravel()
    return np.flatnonzero(flat == 0), np.flatnonzero(flat != 0)


def shift_sums(q: npt.NDArray[np.int8], weights: npt.NDArray[np.int8]) -> Integers:
    """sum_k q[t, k] weight[n, k] for q[T, K] and weights[N, K] that are not packed."""
    return np.asarray(q.astype(np.int64) @ weights.astype(np.int64).T)


def routed_moe(
    x: Floats,
    expert: npt.NDArray[np.int32],
    mult: tuple[Floats, Floats],
    shift: tuple[npt.NDArray[np.int8], Floats, Floats],
) -> npt.NDArray[np.float64]:
    """Y[..., N]: x W + b for `mult` = W, b; (sum s) scale + c for `shift` = weights, scale, c.

    W[K, N]; weights[N, K], not packed; s is the scale of the token. Shift rows hold float32
    results; Mult rows are of float64, since their order of summation is the kernel's own.
    """
    rows = x.reshape(-1, x.shape[-1])
    w, b = mult
    weights, scale, c = shift
    first, second = buckets(expert)
    made = np.zeros((len(rows), w.shape[1]))
    made[first] = rows[first].astype(np.float64) @ w.astype(np.float64) + b
    rounded = round_to_int8(rows[second])
    sums = shift_sums(rounded.q, weights).astype(np.float32)
    made[second] = sums * rounded.scale * scale + c
    return made.reshape(*x.shape[:-1], w.shape[1])
