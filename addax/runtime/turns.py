"""Two things timed in turns: what the machine does meanwhile meets both."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_WARM = 2  # rounds that are not counted


@dataclass(frozen=True)
class Turns:
    """Seconds of each round of two calls, the first and the second of each pair in turns."""

    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def medians(self) -> tuple[float, float]:
        """Seconds of the middle round of each."""
        return float(np.median(self.first)), float(np.median(self.second))

    @property
    def speedups(self) -> tuple[float, float, float]:
        """How many times as fast the second is: the lower quartile, median and upper quartile.

        Of the ratios of the rounds, each of two neighbours in time.
        """
        ratios = np.array(self.first) / np.array(self.second)
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        return float(low), float(middle), float(high)


def time_in_turns(first: Callable[[], object], second: Callable[[], object], rounds: int) -> Turns:
    """Call two functions in turns; who begins changes each round."""
    times: tuple[list[float], list[float]] = [], []
    for place in range(_WARM + rounds):
        order = ((0, first), (1, second)) if place % 2 == 0 else ((1, second), (0, first))
        for index, call in order:
            began = time.perf_counter()
            call()
            if place >= _WARM:
                times[index].append(time.perf_counter() - began)
    return Turns(tuple(times[0]), tuple(times[1]))
