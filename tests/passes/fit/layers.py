"""Layers to fit: weights [N, K] and second moments [K, K]."""

import numpy as np


def gauss(seed: int, rows: int = 32, columns: int = 128) -> np.ndarray:
    """Weights without structure."""
    return np.random.default_rng(seed).standard_normal((rows, columns))


def moments(seed: int, columns: int = 128, samples: int = 600) -> np.ndarray:
    """Of correlated inputs."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((columns, columns)) * np.arange(1, columns + 1) ** -0.7
    inputs = rng.standard_normal((samples, columns)) @ mixed.T
    return inputs.T @ inputs / samples


def with_outliers(seed: int = 1, size: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Correlated inputs, six of them eight times as large; weights of heavy tails."""
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(rng.standard_normal((size, size)))[0]
    spread = np.arange(1, size + 1) ** -0.7
    inputs = (rng.standard_normal((2048, size)) * spread) @ turned.T
    inputs[:, :6] *= 8
    weights = rng.standard_t(6.0, (size, size))
    weights *= (0.5 + rng.random((1, size))) * (0.6 + 0.8 * rng.random((size, 1)))
    return weights, inputs.T @ inputs / len(inputs)
