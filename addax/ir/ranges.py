"""Ranges of activations that come in pieces, of each channel, in memory that does not grow.

Source      percentiles and their choice by error: RepQ-ViT (2212.08254) section 3.3, with the
            whole range, p = 1, among the candidates
"""

from collections.abc import Sequence

import numpy as np

from addax.errors import OptionError

BINS = 1024
SHARES = (0.999, 0.9999, 0.99999, 1.0)
_CHANNELS = 64  # looked at together when errors are computed
_INSIDE = (np.arange(4) + 0.5) / 4  # where in a bin its numbers are taken to be


class ChannelRanges:
    """The smallest and largest number of each of `width` channels over rows [M, width].

    For one range of a whole tensor, take a width of 1 and rows [M, 1].
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.low = np.full(width, np.inf)
        self.high = np.full(width, -np.inf)

    def add(self, rows: np.ndarray) -> None:
        """Take in rows [M, width]; NaN makes a channel's range NaN."""
        if len(rows):
            self.low = np.minimum(self.low, rows.min(0))
            self.high = np.maximum(self.high, rows.max(0))
            self.count += len(rows)

    @property
    def is_finite(self) -> bool:
        """Whether rows came, and none held NaN or infinity."""
        return bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())


class Histograms(ChannelRanges):
    """Counts in `bins` bins for each channel beside its range: 8 bins bytes a channel.

    Bins of a channel are h = 2^e wide and begin at whole multiples of h. Where new rows do not
    fit, h doubles and pairs of bins become one, so counts are those of all rows at once in
    whatever pieces and order they came; h is below 4 / (bins - 1) of the range, or rounding.
    """

    def __init__(self, width: int, bins: int = BINS) -> None:
        super().__init__(width)
        self._bins = bins
        self._counts = np.zeros((width, bins), np.int64)
        self._exponent = np.zeros(width, np.int64)  # e
        self._start = np.zeros(width, np.int64)  # of the first bin, in h

    def add(self, rows: np.ndarray) -> None:
        """Take in rows [M, width]; after NaN or infinity there is no histogram any more."""
        was = self.count
        super().add(rows)
        if not len(rows) or not self.is_finite:
            return
        self._fit(fresh=not was)
        width = len(self.low)
        places = np.floor(np.ldexp(rows.astype(np.float64), -self._exponent)).astype(np.int64)
        places += np.arange(width) * self._bins - self._start
        counted = np.bincount(places.reshape(-1), minlength=width * self._bins)
        self._counts += counted.reshape(width, self._bins)

    def _fit(self, *, fresh: bool) -> None:
        """Make bins of the channels wide enough for their ranges."""
        largest = np.maximum(np.abs(self.low), np.abs(self.high))
        span = np.maximum(self.high - self.low, largest * 2.0**-40)  # whole numbers count bins
        _, wanted = np.frexp(np.maximum(span, 2.0**-1000) / (self._bins - 1))
        if fresh:
            self._exponent = wanted.astype(np.int64)
            self._start = np.floor(np.ldexp(self.low, -self._exponent)).astype(np.int64)
            return
        for channel in np.flatnonzero(
            (wanted > self._exponent)
            | (np.floor(np.ldexp(self.low, -self._exponent)) < self._start)
            | (np.floor(np.ldexp(self.high, -self._exponent)) >= self._start + self._bins)
        ):
            self._widen(int(channel), max(0, int(wanted[channel] - self._exponent[channel])))

    def _widen(self, channel: int, doublings: int) -> None:
        """Let bins of one channel be 2^doublings times as wide, from its smallest number on."""
        filled = np.flatnonzero(self._counts[channel])
        places = (self._start[channel] + filled) >> min(doublings, 62)
        counts = self._counts[channel, filled]
        self._exponent[channel] += doublings
        start = np.floor(np.ldexp(self.low[channel], -self._exponent[channel]))
        self._start[channel] = start
        self._counts[channel] = 0
        np.add.at(self._counts[channel], places - self._start[channel], counts)

    @property
    def resolution(self) -> np.ndarray:
        """h of each channel, [width]: how far a quantile may be from that of the rows."""
        return np.ldexp(1.0, self._exponent)

    def filled(self, channel: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The middles of the bins of a channel that hold something, sorted, and their counts."""
        places = np.flatnonzero(self._counts[channel])
        middles = (self._start[channel] + places + 0.5) * self.resolution[channel]
        inside = np.clip(middles, self.low[channel], self.high[channel])
        return inside, self._counts[channel, places]

    def quantiles(self, share: float) -> tuple[np.ndarray, np.ndarray]:
        """The numbers that 1 - share and share of a channel's numbers do not exceed, [width] each.

        Each is at most `resolution` outside of the exact one, and never outside of the range.

        Raises:
            OptionError: If the share is not above 0.5 and at most 1.
        """
        if not 0.5 < share <= 1:
            raise OptionError(f"the share of a range must be above 0.5, at most 1; got {share!r}")
        if share == 1 or not self.is_finite:
            return self.low, self.high
        total = np.cumsum(self._counts, 1)
        least = np.maximum(np.ceil(np.array([1 - share, share]) * self.count - 1e-9), 1)
        first, last = ((total < n).sum(1) for n in least)
        edges = (np.ldexp(self._start + at, self._exponent) for at in (first, last + 1))
        low, high = (np.clip(edge, self.low, self.high) for edge in edges)
        return low, high

    def best(
        self, bits: int, shares: Sequence[float] = SHARES
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the quantiles of these shares, those of the smallest error in so many bits.

        Returns:
            low, high and share, [width] each. The error is the mean squared one of a uniform
            quantizer with a step of (high - low) / (2^bits - 1) and a whole zero point, on numbers
            spread evenly in their bins.
        """
        made = [(*self.quantiles(share), share) for share in shares]
        errors = np.stack([self.errors(low, high, bits) for low, high, _ in made])
        chosen = errors.argmin(0)
        rows = np.arange(len(self.low))
        low, high = (np.stack([m[side] for m in made])[chosen, rows] for side in (0, 1))
        return low, high, np.asarray(shares)[chosen]

    def errors(self, low: np.ndarray, high: np.ndarray, bits: int) -> np.ndarray:
        """Mean squared error of a uniform quantizer of each channel with this range, [width]."""
        found = np.zeros(len(self.low))
        steps = 2**bits - 1
        step = np.maximum((high - low) / steps, np.finfo(np.float32).tiny)
        zero = np.rint(-low / step)
        for begin in range(0, len(found), _CHANNELS):
            part = slice(begin, begin + _CHANNELS)
            places = self._start[part, None] + np.arange(self._bins)
            inside = places[:, :, None] + _INSIDE
            x = np.ldexp(inside, self._exponent[part, None, None])
            s, z = step[part, None, None], zero[part, None, None]
            made = (np.clip(np.rint(x / s) + z, 0, steps) - z) * s
            each = np.square(made - x).mean(2)
            found[part] = (self._counts[part] * each).sum(1) / max(self.count, 1)
        return found
