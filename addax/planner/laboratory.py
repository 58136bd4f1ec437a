"""What the planner cannot do itself: run models, time them, and say how long a layer takes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from addax.ir.statistics import Calibration


@dataclass(frozen=True)
class Verdict:
    """What held-out samples say of a model.

    Attributes:
        error: |y - y'| / |y| of the worst output.
        score: Of the caller's metric; None without one.
    """

    error: float
    score: float | None = None


class Laboratory(Protocol):
    """A machine, a target and data; the caller of the planner brings it."""

    @property
    def fitting(self) -> Calibration:
        """Samples to fit and to choose by."""

    @property
    def workload(self) -> Calibration:
        """One sample: the evaluation whose latency and energy count."""

    @property
    def held_out(self) -> int:
        """Samples that judge."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What families get: the calibration data, who has kernels, where fits are kept."""

    def errors(
        self,
        model: ir.Model,
        variants: Iterable[tuple[str, Callable[[], np.ndarray]]],
    ) -> list[float]:
        """For each pair of weights and what stands in for them, the error of the outputs.

        Each alone, on some of the samples to fit on.
        """

    def judge(self, model: ir.Model) -> Verdict:
        """What a model does on held-out samples, as the target computes it."""

    def seconds(self, form: str, rows: int, weights: int, stored: int) -> float | None:
        """How long a layer takes on one thread, by the cost table; None where there is none."""

    def rest(self, model: ir.Model, layers: float) -> float | None:
        """How long all but the layers takes, which take so many seconds by the cost table."""

    def timed(self, model: ir.Model) -> float | None:
        """Seconds of one evaluation on one thread, measured; None where it cannot run here."""

    def joules(self, model: ir.Model) -> float:
        """Arithmetic of one evaluation of the workload, by the papers' 45 nm figures: a model."""

    def about_costs(self) -> str:
        """Where the figures of the cost table come from, in words."""
