"""What a caller accepts: error, bytes, latency, energy."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from addax.errors import OptionError

OBJECTIVES = ("latency", "bytes", "energy")

Metric = Callable[[Any], float]
_LIMITS = ("max_error", "max_bytes", "max_latency", "max_energy")


@dataclass(frozen=True)
class Budget:
    """How far a model may be changed, and what shall become least: `Budget(max_error=0.02)`.

    With a bound on the error, `max_error` or `metric` and `floor`, the objective is made least
    within it. Without one, the error is made least within the other limits.

    Attributes:
        max_error: |y - y'| / |y| of all outputs, on samples that nothing was chosen or fitted on.
        metric: Called with a model as `optimize` returns it, to be called as that is; gives a
            number that is better if larger, such as the accuracy on samples of yours, which must
            not be those of the calibration.
        floor: The least that the metric may be.
        max_bytes: Of all weights.
        max_latency: Seconds of one evaluation of one sample, on one thread, as predicted.
        max_energy: Joules of arithmetic of one evaluation, by the papers' 45 nm figures: a model.
        objective: "latency", "bytes" or "energy".

    Raises:
        OptionError: If a limit is no positive number, none is given, or a metric has no floor.
    """

    max_error: float | None = None
    metric: Metric | None = None
    floor: float | None = None
    max_bytes: float | None = None
    max_latency: float | None = None
    max_energy: float | None = None
    objective: str = "latency"

    def __post_init__(self) -> None:
        for name in _LIMITS:
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value > 0):
                raise OptionError(f"Budget: {name} must be a positive number; got {value!r}")
        if self.objective not in OBJECTIVES:
            raise OptionError(
                f"Budget: objective must be one of {', '.join(OBJECTIVES)}; got {self.objective!r}"
            )
        if self.metric is not None and not callable(self.metric):
            raise OptionError(
                f"Budget: metric must be a function of a model; got {type(self.metric).__name__}"
            )
        if self.floor is not None and not _is_number(self.floor):
            raise OptionError(f"Budget: floor must be a number; got {self.floor!r}")
        if (self.metric is None) != (self.floor is None):
            given, missing = ("floor", "metric") if self.metric is None else ("metric", "floor")
            raise OptionError(f"Budget: {given} without {missing} says nothing; give both")
        if self.metric is None and all(getattr(self, name) is None for name in _LIMITS):
            raise OptionError(
                f"Budget: give at least one limit: {', '.join(_LIMITS)}, or metric and floor"
            )

    @staticmethod
    def parse(text: str) -> "Budget":
        """Read a budget as commands write it: "max_error=0.02,objective=bytes".

        Raises:
            OptionError: If it is malformed, or has what no text can be: a metric.
        """
        options: dict[str, Any] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals or name not in (*_LIMITS, "objective") or name in options:
                raise OptionError(
                    f"expected a budget such as max_error=0.02,objective=bytes, of "
                    f"{', '.join(_LIMITS)} and objective once each; got {part!r} in {text!r}"
                )
            options[name] = value if name == "objective" else _number(name, value)
        return Budget(**options)

    @property
    def bounds_error(self) -> bool:
        """Whether it says how large the error may be, in one way or the other."""
        return self.max_error is not None or self.metric is not None

    @property
    def needs_latency(self) -> bool:
        """Whether nothing can be chosen without knowing how long layers take."""
        return self.max_latency is not None or (self.bounds_error and self.objective == "latency")

    def __str__(self) -> str:
        said = [f"{n} {getattr(self, n):g}" for n in _LIMITS if getattr(self, n) is not None]
        if self.floor is not None:
            said.append(f"metric at least {self.floor:g}")
        least = self.objective if self.bounds_error else "error"
        return f"{', '.join(said)}; least {least}"


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise OptionError(f"Budget: {name} must be a positive number; got {text!r}") from error


def _is_number(value: object) -> bool:
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_one and math.isfinite(float(str(value)))
