"""The packed layouts of weights, written down place by place; slow, and apart from the product's.

What lies outside of the weights is garbage drawn from `rng`: no one may read it.
"""

import numpy as np


def grouping(columns: int) -> int:
    """The group of a layer of so many columns: a multiple of 32, at most 128."""
    fitting = [size for size in (128, 96, 64, 32) if columns % size == 0]
    return fitting[0] if fitting else min(128, -(-columns // 32) * 32)


def pack_codes(codes: np.ndarray, bits: int, group: int, rng: np.random.Generator) -> np.ndarray:
    """Codes uint8[N, K] as uint8[T, G, S, 64, 4]."""
    n, k = codes.shape
    tiles, groups, fields = -(-n // 64), -(-k // group), 8 // bits
    padded = rng.integers(0, 1 << bits, (tiles * 64, groups * group), dtype=np.uint8)
    padded[:n, :k] = codes
    made = np.zeros((tiles, groups, group * bits // 32, 64, 4), np.uint8)
    t, g, s, r, c = np.indices(made.shape)
    for j in range(fields):
        field = padded[64 * t + r, g * group + 4 * fields * s + 4 * j + c]
        made |= (field << (bits * j)).astype(np.uint8)
    return made


def pack_planes(signs: np.ndarray, group: int, rng: np.random.Generator) -> np.ndarray:
    """Signs bool[N, K, q], true for +1, as uint8[T, G, q, 4, group / 32, 16, 4]."""
    n, k, planes = signs.shape
    tiles, groups = -(-n // 64), -(-k // group)
    padded = rng.integers(0, 2, (tiles * 64, groups * group, planes), dtype=np.uint8)
    padded[:n, :k] = signs
    made = np.zeros((tiles, groups, planes, 4, group // 32, 16, 4), np.uint8)
    t, g, i, r, s, lane, c = np.indices(made.shape)
    for b in range(8):
        column = g * group + 32 * s + 4 * c + b % 4 + 16 * (b // 4)
        made |= padded[64 * t + 16 * r + lane, column, i] << b
    return made


def pack_int8(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weights int8[N, K] as int8[T, ceil(K / 4), 64, 4]."""
    n, k = weights.shape
    padded = rng.integers(-128, 128, (-(-n // 64) * 64, -(-k // 4) * 4)).astype(np.int8)
    padded[:n, :k] = weights
    t, s, r, c = np.indices((len(padded) // 64, padded.shape[1] // 4, 64, 4))
    return padded[64 * t + r, 4 * s + c]


def pack_multipliers(multipliers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Multipliers uint8[N, G] as uint8[T, G, 64], or [N, G, q] as [T, G, q, 64]."""
    rest = -len(multipliers) % 64
    padding = rng.integers(0, 32, (rest, *multipliers.shape[1:]), dtype=np.uint8)
    tiled = np.concatenate([multipliers, padding]).reshape(-1, 64, *multipliers.shape[1:])
    return np.moveaxis(tiled, 1, -1)
