"""Integers of 8 bits for linear layers: weights per output, activations, and what both lose."""

from dataclasses import dataclass

import numpy as np

_LARGEST = 127
_KEPT = 2048  # rows of a layer's input on which its error is measured


@dataclass(frozen=True, eq=False)
class IntegerWeights:
    """w[N, K] ~ scale[n] integers[n, k], integers int8 within +-largest."""

    integers: np.ndarray
    scale: np.ndarray

    @staticmethod
    def of(matrix: np.ndarray, largest: int = _LARGEST) -> "IntegerWeights":
        """The nearest; a row of zeros has scale 1."""
        reach = np.abs(matrix).max(1)
        scale = np.where(reach > 0, reach / largest, 1.0).astype(np.float32)
        # A reach that float32 cannot hold an integer part of is 0 for all purposes.
        scale = np.where(scale > 0, scale, np.float32(1))
        integers = np.rint(matrix / scale[:, None]).clip(-largest, largest)
        return IntegerWeights(integers.astype(np.int8), scale)

    def decode(self) -> np.ndarray:
        """float64[N, K]."""
        return np.asarray(self.integers * self.scale[:, None].astype(np.float64))

    @property
    def nbytes(self) -> int:
        """Of integers and scales."""
        return self.integers.nbytes + self.scale.nbytes


def by_token(rows: np.ndarray) -> np.ndarray:
    """rows[M, K] through int8 with a scale for each row, zero in the middle."""
    reach = np.abs(rows).max(1, keepdims=True)
    step = np.where(reach > 0, reach / _LARGEST, 1)
    return np.asarray(np.rint(rows / step) * step)


def by_tensor(rows: np.ndarray) -> np.ndarray:
    """rows[M, K] through uint8 with one scale and zero point, as DynamicQuantizeLinear has them."""
    low, high = float(rows.min(initial=0)), float(rows.max(initial=0))
    step = (high - low) / 255 or 1.0
    zero = np.rint(-low / step)
    return np.asarray((np.clip(np.rint(rows / step) + zero, 0, 255) - zero) * step)


def sampled(rows: np.ndarray, batches: int) -> np.ndarray:
    """Rows [M, K] in float64, evenly spaced: so many that all batches together keep enough."""
    wanted = max(1, _KEPT // max(batches, 1))
    return rows[:: max(1, len(rows) // wanted)].astype(np.float64)
