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
PLACES = "places"  # for each of these, the nodes that multiply by its codes
TRIALS = "trials"  # layers in formats that were fitted before, by the names of both
IN_RUNTIME = "in runtime"  # whether ONNX Runtime runs the model, with operators of its own
HAS_KERNEL = "has kernel"  # says of a node of the dialect whether the target has a kernel for it
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
        rows: Of its input in one evaluation of the model, in all places that read its weights; a
            dimension that is known only at run time counts as 1. None if nobody asked.
        code_path: The instruction set of the kernel that computes it, or "bodies"; None if nobody
            asked.
        predicted_before, predicted_after: Microseconds on one thread that a table of the
            processor's rates gives; None where there is no such table.
        measured_before, measured_after: Microseconds of one thread of this machine; None where
            they were not measured.
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
    rows: int | None = None
    code_path: str | None = None
    predicted_before: float | None = None
    predicted_after: float | None = None
    measured_before: float | None = None
    measured_after: float | None = None


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
    """E[row^T row], [K, K], and E[row], [K], of rows [M, K] that come in pieces, in float64.

    Where rows have originals, which they have come to differ from, with E[row^T original] and
    those of originals; where they have none, they are their own.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self._sums = np.zeros((1, width, width))
        self._totals = np.zeros((1, width))

    def add(self, rows: np.ndarray, originals: np.ndarray | None = None) -> None:
        """Take in rows [M, K], and what they were, always or never."""
        if originals is not None and len(self._sums) == 1:
            width = self._totals.shape[1]
            self._sums, self._totals = np.zeros((3, width, width)), np.zeros((2, width))
        for start in range(0, len(rows), _CHUNK):
            piece = rows[start : start + _CHUNK].astype(np.float64)
            self._sums[0] += piece.T @ piece
            self._totals[0] += piece.sum(0)
            if originals is not None:
                before = originals[start : start + _CHUNK].astype(np.float64)
                self._sums[1] += piece.T @ before
                self._sums[2] += before.T @ before
                self._totals[1] += before.sum(0)
        self.count += len(rows)

    @property
    def mean(self) -> np.ndarray:
        """E[row]."""
        return np.asarray(self._totals[0] / max(self.count, 1))

    @property
    def original_mean(self) -> np.ndarray:
        """E[original]."""
        return np.asarray(self._totals[-1] / max(self.count, 1))

    @property
    def matrix(self) -> np.ndarray:
        """E[row^T row]; zeros if no row came."""
        return np.asarray(self._sums[0] / max(self.count, 1))

    @property
    def cross(self) -> np.ndarray:
        """E[row^T original]."""
        return np.asarray(self._sums[len(self._sums) // 2] / max(self.count, 1))

    @property
    def original(self) -> np.ndarray:
        """E[original^T original]."""
        return np.asarray(self._sums[-1] / max(self.count, 1))


Rows = Callable[[np.ndarray], np.ndarray]


def observe_second_moments(
    seen: Sequence[tuple[Observer, ir.Value]],
    rows_of: Rows,
    *,
    originals: Sequence[tuple[Observer, ir.Value]] = (),
    held_out: int | None = None,
) -> tuple[SecondMoments, SecondMoments]:
    """Second moments of the rows of values: of samples to fit on, and of held-out ones.

    Args:
        seen: Values of main graphs, and who shows them.
        rows_of: Turns a value's array into [..., K], the samples in front.
        originals: For each value what it was before it came to differ; or none.
        held_out: One sample in so many is held out, whole; None holds out none.
    """
    fitting = judging = SecondMoments(0)
    for place, (observer, value) in enumerate(seen):
        sizes, arrays = observer.sizes(), observer.observe((value,))
        before = _arrays(originals[place]) if originals else iter([None] * len(sizes))
        first = 0
        for samples, (array,), old in zip(sizes, arrays, before, strict=True):
            rows = _flat(rows_of(array))
            if not fitting.count + judging.count:
                fitting, judging = (SecondMoments(rows.shape[1]) for _ in range(2))
            number = first + np.arange(len(rows)) * samples // max(len(rows), 1)
            first += samples
            held = np.zeros(len(rows), bool)
            if held_out is not None:
                held = number % held_out == held_out - 1
            was = None if old is None else _flat(rows_of(old))
            for moments, chosen in ((fitting, ~held), (judging, held)):
                moments.add(rows[chosen], None if was is None else was[chosen])
    return fitting, judging


def _arrays(shown: tuple[Observer, ir.Value]) -> Iterator[np.ndarray | None]:
    return (array for (array,) in shown[0].observe((shown[1],)))


def _flat(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(-1, rows.shape[-1])
