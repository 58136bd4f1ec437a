"""How activations become bytes before they are seen: one step, a zero point, and a table.

    level = min(max(rint(x / step) + zero, 0), 255),  x ~ step (table[level] + offset)

A table that stops at 2^bits - 1 is a uniform quantizer. A codebook has 2^bits entries anywhere on
the grid of 256 levels: behind a GELU most numbers lie close to 0 and the largest are far out.

Source      ranges by error: RepQ-ViT (2212.08254) section 3.3, with each end cut off by itself as
            RepQuant (2402.05628) does; codebooks by dynamic programming: Wu, "Optimal quantization
            by matrix searching", 1991
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from addax.ir.ranges import Histograms

BINS = 8192
_LEVELS = 256
_MIDDLE = 128
_CUTS = np.linspace(0.2, 1.0, 17)  # shares of an end of the range that are tried
_REACHES = (1.0, 0.8, 0.6, 0.45)  # of the largest magnitude, where a codebook's grid may end


@dataclass(frozen=True, eq=False)
class Quantizer:
    """A quantizer of a tensor.

    Attributes:
        step: float32 number, above 0.
        zero: 0 to 255.
        table: int8[256].
        offset: Whole; what the table lacks of an entry.
        bits: The table has 2^bits entries at most.
        error: sqrt(E(x - x')^2 / E x^2) on what it was fitted to.
    """

    step: float
    zero: int
    table: np.ndarray
    offset: int
    bits: int
    error: float = 0.0

    @property
    def top(self) -> int | None:
        """The last level if the quantizer is uniform, else None."""
        steps = np.diff(self.table.astype(np.int64))
        top = int(np.count_nonzero(steps))
        return top if np.array_equal(steps, np.arange(_LEVELS - 1) < top) else None

    @property
    def kind(self) -> str:
        """In words, for the report."""
        count = len(np.unique(self.table))
        if self.top is None:
            return f"{count} entries anywhere"
        return f"{count} even levels"

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest number that it gives."""
        ends = self.table.astype(np.int64)[[0, -1]] + self.offset
        return float(ends[0] * self.step), float(ends[1] * self.step)

    def codes(self, x: np.ndarray) -> np.ndarray:
        """int8 codes of numbers."""
        scaled = np.rint(x.astype(np.float32) / np.float32(self.step))
        level = np.clip(scaled + self.zero, 0, _LEVELS - 1).astype(np.uint8)
        return np.asarray(self.table[level])

    def decoded(self, x: np.ndarray) -> np.ndarray:
        """What is left of numbers, float32."""
        codes = self.codes(x).astype(np.float32)
        return np.asarray((codes + np.float32(self.offset)) * np.float32(self.step))


def fit_uniform(seen: Histograms, bits: int) -> Quantizer:
    """Even levels for one channel that was seen; each end is cut off where that loses least.

    0 is always a level.
    """
    low, high = min(float(seen.low[0]), 0.0), max(float(seen.high[0]), 0.0)
    lows = _CUTS if low < 0 else (1.0,)
    highs = _CUTS if high > 0 else (1.0,)
    values, counts = seen.filled()
    values = values.astype(np.float32)
    tried = (uniform(low * a, high * b, bits) for a, b in product(lows, highs))
    errors = {made: _missed(made, values, counts) for made in tried}
    best = min(errors, key=lambda made: errors[made])
    return replace(best, error=_relative(errors[best], seen))


def uniform(low: float, high: float, bits: int, error: float = 0.0) -> Quantizer:
    """Even levels from low, 0 or less, to high, 0 or more."""
    top = 2**bits - 1
    step = np.float32((high - low) / top)
    step = step if step > 0 else np.float32(1)
    zero = int(np.clip(np.rint(-low / step), 0, top))
    # Codes around 0 need no correction; a whole byte of them needs the middle.
    base = zero if bits < 8 else _MIDDLE
    table = (np.minimum(np.arange(_LEVELS), top) - base).astype(np.int8)
    return Quantizer(float(step), zero, table, base - zero, bits, error)


def _missed(made: Quantizer, values: np.ndarray, counts: np.ndarray) -> float:
    """The mean squared error of a uniform quantizer, worked out without its table."""
    last = 2**made.bits - 1
    level = np.clip(np.rint(values / np.float32(made.step)), -made.zero, last - made.zero)
    missed = np.square(level * np.float32(made.step) - values)
    return float(missed @ counts / max(counts.sum(), 1))


def fit_codebook(seen: Histograms, bits: int) -> Quantizer:
    """2^bits entries on a grid of 256 levels for one channel that was seen, of the least error."""
    values, counts = seen.filled()
    low, high = min(float(values[0]), 0.0), max(float(values[-1]), 0.0)
    return min(
        (
            _codebook(values, counts, low * a, high * b, bits, seen)
            for a, b in dict.fromkeys(
                (min(1.0, r * max(high, -low) / -low) if low < 0 else 1.0,
                 min(1.0, r * max(high, -low) / high) if high > 0 else 1.0)
                for r in _REACHES
            )
        ),
        key=lambda made: made.error,
    )  # fmt: skip


def fit_quantizer(seen: Histograms, bits: int, share: float) -> Quantizer:
    """Even levels, or a codebook where its error is below this share of theirs."""
    even = fit_uniform(seen, bits)
    if bits == 8 or share == 0 or even.error == 0:
        return even
    book = fit_codebook(seen, bits)
    return book if book.error < share * even.error else even


def _codebook(
    values: np.ndarray, counts: np.ndarray, low: float, high: float, bits: int, seen: Histograms
) -> Quantizer:
    last = _LEVELS - 1
    step = np.float32((high - low) / last)
    step = step if step > 0 else np.float32(1)
    zero = int(np.clip(np.rint(-low / step), 0, last))
    level = np.clip(np.rint(values / step) + zero, 0, last).astype(np.int64)
    powers = (np.ones_like(values), values, np.square(values))
    first, second, third = (
        np.bincount(level, weights=counts * power, minlength=_LEVELS) for power in powers
    )
    grid = (np.arange(_LEVELS) - zero) * float(step)
    entry, error = _least_squares(first, second, third, grid, 2**bits)
    table = (entry - _MIDDLE).astype(np.int8)
    return Quantizer(
        float(step), zero, table, _MIDDLE - zero, bits, _relative(error / seen.count, seen)
    )


def _least_squares(
    counts: np.ndarray, first: np.ndarray, second: np.ndarray, grid: np.ndarray, entries: int
) -> tuple[np.ndarray, float]:
    """The entry of each level, a place in the grid, and the squared error of all numbers.

    Runs of levels share an entry; cost[i, j] is that of the run i to j, and least[j] that of all
    levels to j with the runs so far.
    """
    size = len(grid)
    count, total, square = (_of_runs(x) for x in (counts, first, second))
    mean = np.where(count > 0, total / np.where(count > 0, count, 1), grid[:, None])
    place = np.clip(np.rint((mean - grid[0]) / (grid[1] - grid[0])), 0, size - 1).astype(np.int64)
    value = grid[place]
    cost = square - 2 * value * total + value * value * count
    cost[np.tril_indices(size, -1)] = np.inf
    least, starts = cost[0], []
    for _ in range(entries - 1):
        tried = least[:-1, None] + cost[1:]
        starts.append(tried.argmin(0) + 1)
        least = tried.min(0)
        least[0] = np.inf
    entry = np.zeros(size, np.int64)
    end, error = size, float(least[-1])
    for start in reversed(starts):
        begin = int(start[end - 1])
        entry[begin:end] = place[begin, end - 1]
        end = begin
    entry[:end] = place[0, end - 1]
    return entry, max(error, 0.0)


def _of_runs(x: np.ndarray) -> np.ndarray:
    """Sums of x[i] to x[j], [i, j]."""
    ends = np.concatenate([[0.0], np.cumsum(x)])
    return np.asarray(ends[None, 1:] - ends[:-1, None])


def _relative(error: float, seen: Histograms) -> float:
    values, counts = seen.filled()
    power = float(np.sum(counts * np.square(values))) / max(seen.count, 1)
    return float(np.sqrt(error / power)) if power > 0 else 0.0
