"""What calibration data says of values: running moments, and where passes get real activations.

Passes never run a model. Who calls them may put a `Calibration` under `CALIBRATION` in the facts of
a pipeline; a pass asks it for the activations of values of the model as it stands at that moment,
batch by batch, and keeps sums. What a pass has to say to the user goes to the list under `NOTES`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

CALIBRATION, NOTES = "calibration", "notes"
LAYERS = "layers"  # a list of `Layer`
TELL, EXECUTOR = (
    "tell",
    "executor",
)  # what shows a progress line; who does work that can be sent away

_CHUNK = 4096  # rows made float64 at once
_HELD_OUT = 4  # one sample in so many judges what the others fitted


@dataclass(frozen=True)
class Layer:
    """What a layer whose weights were approximated became.

    Attributes:
        name: Of the layer, or of its weights.
        outputs, inputs: N and K of y[..., N] = x[..., K] W^T.
        format: Of the weights, as `bits=` takes it.
        bits: Of a code.
        weight_error: |W - W'| / |W|.
        output_error: sqrt(E|x (W - W')^T|^2 / E|x W^T|^2) on calibration data, held out if there
            is enough; None without any.
        bytes_before, bytes_after: Of its weights, with scales.
        seconds: That the fit took.
    """

    name: str
    outputs: int
    inputs: int
    format: str
    bits: int
    weight_error: float
    output_error: float | None
    bytes_before: int
    bytes_after: int
    seconds: float


class Observer(Protocol):
    """Who shows what values of a model are on batches of real inputs."""

    def observe(self, values: Sequence[ir.Value]) -> Iterator[tuple[np.ndarray, ...]]:
        """For each batch, the arrays that `values` of the main graph have on it."""

    def sizes(self) -> tuple[int, ...]:
        """The number of samples of each batch."""


class Calibration(Protocol):
    """Real inputs of a model, on which any of its values can be observed, as often as needed."""

    @property
    def samples(self) -> int:
        """How many samples (entries of the inputs' first axis) there are."""

    def observe(
        self, model: ir.Model, values: Sequence[ir.Value]
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """For each batch, the arrays that `values` of the main graph of `model` have on it."""

    def sizes(self) -> tuple[int, ...]:
        """The number of samples of each batch."""

    def walk(self, model: ir.Model) -> Observer:
        """Observe values from the inputs on, while what comes after them is being rewritten.

        Each part of the model runs once in all, on what was kept of the parts before it.
        """


class Moments:
    """Count, mean [D] and covariance [D, D] of rows [N, D] that come in pieces, in float64.

    The update keeps a running mean, so that a large common offset costs no digits.
    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979, eq. 2.1.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = np.zeros(width)
        self._scatter = np.zeros((width, width))

    def add(self, *blocks: np.ndarray) -> None:
        """Take in rows [N, D], given as one array or as blocks [N, D_i] side by side."""
        for start in range(0, len(blocks[0]), _CHUNK):
            rows = np.concatenate(
                [block[start : start + _CHUNK].astype(np.float64) for block in blocks], axis=1
            )
            mean = rows.mean(0)
            rows -= mean
            shift, total = mean - self.mean, self.count + len(rows)
            self._scatter += rows.T @ rows
            self._scatter += np.outer(shift, shift) * (self.count * len(rows) / total)
            self.mean = self.mean + shift * (len(rows) / total)
            self.count = total

    @property
    def covariance(self) -> np.ndarray:
        """E[(row - mean)^T (row - mean)], [D, D]."""
        return self._scatter / max(self.count, 1)


def observe_moments(
    calibration: Calibration, model: ir.Model, values: Sequence[ir.Value]
) -> tuple[Moments, Moments]:
    """Joint moments of `values` [..., D_i] side by side: of samples to fit on, of held-out ones.

    One sample in four is held out, whole: the rows of one sample are much alike.
    """
    parts: tuple[Moments, Moments] | None = None
    seen = 0
    for samples, arrays in zip(
        calibration.sizes(), calibration.observe(model, values), strict=True
    ):
        blocks = [array.reshape(-1, array.shape[-1]) for array in arrays]
        rows = len(blocks[0])
        # Row i belongs to sample i * samples // rows: every layout that keeps the batch in front.
        held = (seen + np.arange(rows) * samples // max(rows, 1)) % _HELD_OUT == _HELD_OUT - 1
        seen += samples
        if parts is None:
            width = sum(block.shape[1] for block in blocks)
            parts = Moments(width), Moments(width)
        parts[0].add(*(block[~held] for block in blocks))
        parts[1].add(*(block[held] for block in blocks))
    return parts or (Moments(0), Moments(0))


class SecondMoments:
    """E[row^T row], [K, K], of rows [M, K] that come in pieces, in float64: not centred."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self._sum = np.zeros((width, width))

    def add(self, rows: np.ndarray) -> None:
        """Take in rows [M, K]."""
        for start in range(0, len(rows), _CHUNK):
            piece = rows[start : start + _CHUNK].astype(np.float64)
            self._sum += piece.T @ piece
        self.count += len(rows)

    def merge(self, other: "SecondMoments") -> None:
        """Take in the rows that `other` has taken in."""
        self._sum += other.matrix * other.count
        self.count += other.count

    @property
    def matrix(self) -> np.ndarray:
        """E[row^T row]; zeros if no row came."""
        return self._sum / max(self.count, 1)


def observe_second_moments(
    observer: Observer,
    value: ir.Value,
    rows_of: Callable[[np.ndarray], np.ndarray],
    *,
    held_out: int | None = None,
) -> tuple[SecondMoments, SecondMoments]:
    """Second moments of one value's rows: of samples to fit on, and of held-out ones.

    Args:
        observer: Shows the value.
        value: Of the main graph.
        rows_of: Turns the value's array into [..., K], the samples in front.
        held_out: One sample in so many is held out, whole; None holds out none.
    """
    fitting = judging = SecondMoments(0)
    seen = 0
    for samples, (array,) in zip(observer.sizes(), observer.observe((value,)), strict=True):
        made = rows_of(array)
        rows = made.reshape(-1, made.shape[-1])
        if not seen:
            fitting, judging = (SecondMoments(rows.shape[1]) for _ in range(2))
        number = seen + np.arange(len(rows)) * samples // max(len(rows), 1)
        seen += samples
        held = np.zeros(len(rows), bool) if held_out is None else number % held_out == held_out - 1
        fitting.add(rows[~held])
        judging.add(rows[held])
    return fitting, judging
