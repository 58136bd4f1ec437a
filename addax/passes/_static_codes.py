"""Static codes of activations: one scale and zero point for a tensor, known before it comes."""

from dataclasses import dataclass

import numpy as np

from addax.ir.ranges import SHARES, Histograms


@dataclass(frozen=True)
class Codes:
    """x ~ scale (code - zero), codes 0 to levels; as bytes, `start` less than that.

    Attributes:
        low, high: The range that they cover, 0 in it.
        scale: float32.
        zero: The code of 0.
        levels: The last code, 2^bits - 1.
        share: Of the numbers seen, how many lie within one end of the range.
        start: 0 for codes in uint8, half of the codes for those in int8.
    """

    low: float
    high: float
    scale: np.float32
    zero: int
    levels: int
    share: float
    start: int

    @staticmethod
    def of(low: float, high: float, bits: int, *, signed: bool, share: float = 1.0) -> "Codes":
        """Of a range; 0 is always a code, so that what is masked stays 0."""
        levels = 2**bits - 1
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32(max((high - low) / levels, float(np.finfo(np.float32).tiny)))
        zero = int(np.clip(np.rint(-low / scale), 0, levels))
        return Codes(low, high, scale, zero, levels, share, 2 ** (bits - 1) if signed else 0)

    @staticmethod
    def best(seen: Histograms, bits: int, *, signed: bool) -> "Codes":
        """Of the shares of what was seen, the one that loses least; `seen` has one channel."""
        made = []
        for share in SHARES:
            low, high = (float(end[0]) for end in seen.quantiles(share))
            codes = Codes.of(low, high, bits, signed=signed, share=share)
            ends = np.array([codes.bounds[0]]), np.array([codes.bounds[1]])
            made.append((float(seen.errors(*ends, bits)[0]), -share, codes))
        return min(made, key=lambda each: each[:2])[2]

    @property
    def is_narrow(self) -> bool:
        """Whether a byte holds codes beyond the last one, so that numbers must be cut off first."""
        return self.levels < 255

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and largest number that has a code of its own."""
        scale = float(self.scale)
        return -self.zero * scale, (self.levels - self.zero) * scale

    @property
    def stored_zero(self) -> np.ndarray:
        """The zero point as QuantizeLinear takes it: uint8, or int8."""
        return np.asarray(self.zero - self.start, np.int8 if self.start else np.uint8)

    def decoded(self, array: np.ndarray) -> np.ndarray:
        """What is left of numbers, float32."""
        codes = np.clip(np.rint(array / self.scale) + self.zero, 0, self.levels)
        return np.asarray((codes - self.zero) * self.scale, np.float32)

    def __str__(self) -> str:
        inside = "all seen" if self.share == 1 else f"{100 * self.share:.6g} % of what was seen"
        return f"[{self.bounds[0]:.3g}, {self.bounds[1]:.3g}] ({inside})"
