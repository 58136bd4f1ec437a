"""What could be done at a place, and what is asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from addax.ir.statistics import Calibration

FLOAT = "fp32"  # the label and the form of a layer that stays as it is


@dataclass(frozen=True, eq=False)
class Offer:
    """One thing that could be done at a place.

    Attributes:
        family: Of rewrites that does it; "" for leaving it as it is.
        label: What comes of it, as reports and options name it: "fp32", "int8", "fitted4".
        form: How it is computed, as cost tables name it: "fp32", "int8", "dynamic-int8",
            "codebook4", "binary3".
        bytes: Of its weights.
        error: Relative error of the place's output on calibration data, |y - y'| / |y|.
        joules: Of one evaluation: arithmetic by the papers' 45 nm figures, a model.
        has_kernel: Whether the target computes it by a kernel of addax.
        stand_in: Stored weights that have the error of this offer's weights; None if there are
            none.
        stand_in_error: What they alone do to the place's output, as `error` is measured.
    """

    family: str
    label: str
    form: str
    bytes: int
    error: float
    joules: float = 0.0
    has_kernel: bool = False
    stand_in: Callable[[], np.ndarray] | None = None
    stand_in_error: float = 0.0


@dataclass(frozen=True, eq=False)
class Place:
    """Where something could be done: a linear layer.

    Attributes:
        name: As the report and the options of families have it.
        kind: "linear".
        outputs, inputs: N and K.
        rows: In one evaluation, in all places that read its weights.
        weight: The name of its weights.
        offers: What could be done; the first leaves it as it is.
    """

    name: str
    kind: str
    outputs: int
    inputs: int
    rows: int
    weight: str
    offers: tuple[Offer, ...]


@dataclass(frozen=True)
class Asked:
    """Which offers are wanted, and the data that they are judged by.

    Attributes:
        families: Names of families that may be used.
        formats: Of codes, that layers are tried in.
        calibration: Real inputs to fit and to measure errors on.
        workload: One evaluation whose latency and energy count: one batch of one sample.
        options: Of families, by name: what their text in `allow=` says.
        tell: Called with what is done now.
        trials: Filled with the layers that were fitted, by their names and formats; for `realized`
            under `TRIALS` of the facts, so that nothing is fitted twice.
    """

    families: tuple[str, ...]
    formats: tuple[str, ...]
    calibration: Calibration
    workload: Calibration
    options: dict[str, dict[str, Any]]
    tell: Callable[[str], None] = lambda _: None
    trials: dict[tuple[str, str], Any] = field(default_factory=dict)
