"""By how much each channel of a norm's output is scaled and shifted to have the common range."""

from dataclasses import dataclass

import numpy as np

CAP = 2.0**6  # ratios stay within [1 / CAP, CAP], so that halves keep their digits
_SAME = 1e-3  # ratios that differ less from 1 are left as they are


@dataclass(frozen=True, eq=False)
class Ratios:
    """x'[c] = (x[c] + shift[c]) / ratio[c].

    Attributes:
        ratio: r1 = s / s~, [C].
        shift: s r2 with r2 = z - z~ whole, [C]; None if no channel is shifted.
        scale: s~, the quantizer's step that all channels share afterwards.
        spread: The largest range of a channel over the smallest one, before.
        capped, constant: How many channels have a capped ratio; never varied.
    """

    ratio: np.ndarray
    shift: np.ndarray | None
    scale: float
    spread: float
    capped: int
    constant: int

    @property
    def is_nothing(self) -> bool:
        """Whether channels have the same range already."""
        moved = self.shift is not None and bool(np.any(np.abs(self.shift) > 1.5 * self.scale))
        return bool(np.all(np.abs(self.ratio - 1) < _SAME)) and not moved


def ratios_of(low: np.ndarray, high: np.ndarray, bits: int, *, shifts: bool) -> Ratios:
    """Ratios and shifts for channels with the ranges [low, high], each [C], finite.

    A quantizer of x' with the step s~ and the zero point 2^(bits - 1) then gives the codes that a
    quantizer of x with a step s[c] and a whole zero point z[c] for each channel gives. Without
    shifts both zero points are that, and the ranges symmetric. Channels that never vary keep their
    scale, and are moved next to 0.

    Source: RepQ-ViT (2212.08254) equations 6 to 9; z~ is the mean of z there, and may be any.
    """
    steps = 2**bits - 1
    if not shifts:
        high = np.maximum(np.abs(low), np.abs(high))
        low = -high
    width = high - low
    largest = float(width.max(initial=0.0))
    constant = width <= largest * np.finfo(np.float32).eps
    mean = float(width[~constant].mean()) if np.any(~constant) else 0.0
    scale = mean / steps if mean > 0 else 1.0
    wanted = np.where(constant, 1.0, width / (mean or 1.0))
    ratio = np.clip(wanted, 1 / CAP, CAP)
    step = ratio * scale
    middle = 2 ** (bits - 1)
    zero = np.where(constant, middle - np.rint(low / step), np.rint(-low / step))
    capped = (ratio != wanted) & ~constant
    # A range that is not as wide as its ratio says has the middle of its codes in its own middle.
    zero = np.where(capped, middle - np.rint((low + high) / 2 / step), zero)
    shift = step * (zero - middle)
    varied = width[~constant]
    return Ratios(
        ratio,
        shift if shifts and np.any(shift) else None,
        scale,
        float(varied.max() / varied.min()) if len(varied) else 1.0,
        int(capped.sum()),
        int(constant.sum()),
    )
