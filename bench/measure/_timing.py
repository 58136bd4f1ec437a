"""Contenders timed in turn, and the ratios of what they took.

They run in an order that rotates from round to round, so that a slow minute of the machine falls on
all of them. What is compared is the ratio within one round, never a time from one run with a time
from another.
"""

import gc
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# Beyond this share of CPU time spent outside the calling thread, a contender is not one-threaded.
FOREIGN_SHARE = 0.1


@dataclass(frozen=True)
class Spread:
    """The 10th, 50th and 90th percentile of a sample."""

    p10: float
    p50: float
    p90: float

    @classmethod
    def of(cls, sample: Sequence[float] | np.ndarray) -> "Spread":
        """Percentiles of a non-empty sample, linearly interpolated."""
        return cls(*(float(p) for p in np.percentile(np.asarray(sample), [10, 50, 90])))

    def __contains__(self, value: float) -> bool:
        return self.p10 <= value <= self.p90

    def __str__(self) -> str:
        return f"{self.p50:.3g} [{self.p10:.3g}, {self.p90:.3g}]"


@dataclass(frozen=True)
class Timings:
    """Seconds a call, one figure a round, for every contender; rounds are paired by position.

    `cpu` is CPU time of the calling thread, `process` CPU time of all threads, `wall` elapsed time.
    `calls` is how often a contender was called in one round to fill the least time.
    """

    cpu: Mapping[str, np.ndarray]
    process: Mapping[str, np.ndarray]
    wall: Mapping[str, np.ndarray]
    calls: Mapping[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        """The contenders, in the order in which they were given."""
        return tuple(self.wall)

    def clock(self, clock: str = "auto") -> str:
        """The clock to compare by: `cpu` if every contender stayed on its thread, else `wall`."""
        if clock != "auto":
            return clock
        return "wall" if any(self.threaded(name) for name in self.names) else "cpu"

    def threaded(self, name: str) -> bool:
        """Whether other threads of the process did a noticeable part of a contender's work."""
        outside = self.process[name] - self.cpu[name]
        return float(np.median(outside)) > FOREIGN_SHARE * float(np.median(self.process[name]))

    def seconds(self, name: str, clock: str = "auto") -> Spread:
        """Seconds a call over the rounds."""
        return Spread.of(getattr(self, self.clock(clock))[name])

    def ratio(self, name: str, over: str, clock: str = "auto") -> Spread:
        """Time of `name` over time of `over`, round by round: below 1, `name` is the faster."""
        samples = getattr(self, self.clock(clock))
        return Spread.of(samples[name] / samples[over])

    def ratios(self, clock: str = "auto") -> dict[tuple[str, str], Spread]:
        """Every ordered pair of two different contenders."""
        pairs = itertools.permutations(self.names, 2)
        return {(a, b): self.ratio(a, b, clock) for a, b in pairs}

    def figures(self, baseline: str | None = None, clock: str = "auto") -> dict[str, Any]:
        """What belongs in a bench's line of JSON: seconds, and ratios over one baseline."""
        chosen = self.clock(clock)
        result: dict[str, Any] = {"clock": chosen, "rounds": len(self.wall[self.names[0]])}
        for name in self.names:
            result[name] = {"seconds": asdict(self.seconds(name, chosen))}
            if baseline is not None and name != baseline:
                result[name]["ratio"] = asdict(self.ratio(name, baseline, chosen))
        return result


def _slot(call: Callable[[], Any], calls: int) -> tuple[float, float, float]:
    """CPU seconds of this thread, of the process, and elapsed seconds, of `calls` calls."""
    turns = range(calls)
    wall, process, cpu = time.perf_counter(), time.process_time(), time.thread_time()
    for _ in turns:
        call()
    cpu, process, wall = (
        time.thread_time() - cpu,
        time.process_time() - process,
        time.perf_counter() - wall,
    )
    return cpu, process, wall


def _calls_to_fill(call: Callable[[], Any], seconds: float) -> int:
    """How many calls take at least `seconds`, by doubling; also warms the contender up."""
    call()
    calls = 1
    while (taken := _slot(call, calls)[2]) < seconds:
        calls = max(2 * calls, math.ceil(calls * seconds / max(taken, 1e-9)))
    return calls


def interleave(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    min_time: float = 0.02,
) -> Timings:
    """Time contenders against each other in rounds; the order rotates by one each round.

    Each contender runs alone until it has filled `min_time` seconds, which warms it and says how
    many calls make one slot of a round. Objects that live now are frozen out of the garbage
    collector, and it runs between slots: nobody pays for another's garbage or for the heap.

    Args:
        candidates: what to call, by name.
        rounds: at least 1; the spread of a ratio needs 10 or more.
        min_time: least seconds of one slot; 0 makes every slot one call.
    """
    if not candidates or rounds < 1:
        raise ValueError(f"expected contenders and rounds >= 1, got {len(candidates)} and {rounds}")
    calls = {name: _calls_to_fill(call, min_time) for name, call in candidates.items()}
    order = list(candidates)
    samples: dict[str, list[tuple[float, float, float]]] = {name: [] for name in order}
    gc.collect()
    gc.freeze()
    try:
        for turn in range(rounds):
            start = turn % len(order)
            for name in order[start:] + order[:start]:
                gc.collect()
                samples[name].append(_slot(candidates[name], calls[name]))
    finally:
        gc.unfreeze()
    per_call = {name: np.array(rows).T / calls[name] for name, rows in samples.items()}
    cpu, process, wall = ({name: rows[i] for name, rows in per_call.items()} for i in range(3))
    return Timings(cpu, process, wall, calls)
