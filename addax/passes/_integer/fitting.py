"""One layer: a quantizer for its inputs, integers for its weights, and what both lose."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from addax.ir.ranges import Histograms
from addax.ir.statistics import Observer, SecondMoments
from addax.passes._int8 import IntegerWeights
from addax.passes._int8_bits import MOST, Widths
from addax.passes._integer.inputs import Inputs
from addax.passes._integer.quantizers import BINS, fit_quantizer
from addax.passes._integer.weights import (
    compensated_weights,
    ends,
    nearest_weights,
)
from addax.passes._shift.targets import Target

_ENOUGH = 64  # samples, of which some can be held out
_HELD_OUT = 8  # one sample in so many
_JUDGED = 2048  # rows on which the error is measured
_USEFUL = 16  # rows for each column; more say nothing new of second moments
_FEW_ROWS_DAMPING = 1.0
# Below which share of the error of even levels a codebook is taken: kernels look entries up at
# little cost, ONNX Runtime's Gather takes longer than the product.
_WORTH_A_TABLE, _WORTH_A_GATHER = 0.97, 0.7


@dataclass(frozen=True)
class Wanted:
    """What a layer is to become.

    Attributes:
        widths: Bits.
        static: Whether the range of activations is to be known beforehand.
        codebooks: Whether a quantizer may have entries that are not even.
        compensate: Whether weights make up for each other's errors.
        damping: Of the second moments, a share of their mean.
        reduce_range: Whether weights of 8 bits stay within +-63.
    """

    widths: Widths
    static: bool
    codebooks: bool
    compensate: bool
    damping: float
    reduce_range: bool = False


@dataclass(frozen=True, eq=False)
class Fit:
    """A layer on integers.

    Attributes:
        inputs: How its activations are rounded.
        weights: Its weights.
        offset: What is to be added to each output, [N]; None for nothing.
        error: sqrt(sum |y - y'|^2 / sum |y|^2) on calibration data, held out if there is enough.
        reach: The largest magnitude of its inputs.
        rows: On how many rows it was seen.
        notes: What the user should know.
    """

    inputs: Inputs
    weights: IntegerWeights
    offset: np.ndarray | None
    error: float
    reach: float
    rows: int
    notes: tuple[str, ...] = ()


class NotFiniteError(ArithmeticError):
    """Activations hold NaN or infinities."""


def fit_layer(
    target: Target, observer: Observer, wanted: Wanted, *, by_rows: bool, has_bias: bool
) -> Fit:
    """Fit a layer on what it is given now.

    Raises:
        NotFiniteError: If activations are not finite.
    """
    inputs, reach, count = _inputs(target, observer, wanted, by_rows)
    matrix = target.matrix()
    look = _look(target, observer, inputs, count, wanted)
    weights, notes = _weights(target.name, matrix, look, wanted, centred=has_bias)
    made = weights.decode()
    offset = None
    if inputs.quantizer is not None and inputs.quantizer.offset:
        offset = made.sum(1) * (inputs.quantizer.offset * inputs.quantizer.step)
    lacking = np.zeros(len(matrix))
    if look.moments is not None and has_bias:
        lacking = matrix @ look.mean - made @ look.moments.mean
        offset = lacking if offset is None else offset + lacking
    exact = look.judging @ matrix.T
    missed = inputs.rounded(look.judging).astype(np.float64) @ made.T + lacking - exact
    error = float(np.linalg.norm(missed) / (np.linalg.norm(exact) or 1.0))
    return Fit(inputs, weights, offset, error, reach, count, notes)


@dataclass(frozen=True, eq=False)
class _Look:
    """Second moments of rounded rows, if wanted; the mean of the originals; rows to judge by."""

    moments: SecondMoments | None
    mean: np.ndarray
    judging: np.ndarray


def _weights(
    name: str, matrix: np.ndarray, look: _Look, wanted: Wanted, *, centred: bool
) -> tuple[IntegerWeights, tuple[str, ...]]:
    low, high = ends(wanted.widths.weights, reduce_range=wanted.reduce_range)
    moments = look.moments
    if moments is None:
        return nearest_weights(matrix, low, high), ()
    width, damping = matrix.shape[1], wanted.damping
    notes: tuple[str, ...] = ()
    if moments.count < width:
        damping = max(damping, _FEW_ROWS_DAMPING)
        notes = (
            f"{moments.count} rows of calibration data cannot determine {width} columns: damping "
            f"raised to {damping:g}; give more",
        )
    moment = moments.matrix
    if centred:  # the bias makes up for the mean, so that weights need not
        moment = moment - np.outer(moments.mean, moments.mean)
        np.fill_diagonal(moment, np.maximum(np.diagonal(moment), 0))
    weights, told = compensated_weights(name, matrix, low, high, moment, damping)
    return weights, notes + told


def _inputs(
    target: Target, observer: Observer, wanted: Wanted, by_rows: bool
) -> tuple[Inputs, float, int]:
    """How activations are rounded, their largest magnitude, and the number of rows."""
    seen = Histograms(1, BINS)
    rows = 0
    for array, _ in _parts(target, observer, None):
        seen.add(array.reshape(-1, 1))
        rows += len(array)
    if not seen.is_finite:
        raise NotFiniteError
    reach = float(max(abs(seen.low[0]), abs(seen.high[0])))
    if not wanted.static:
        return Inputs(by_rows), reach, rows
    bits = MOST if target.sites[0].view.kernel else wanted.widths.activations
    share = (_WORTH_A_TABLE if by_rows else _WORTH_A_GATHER) if wanted.codebooks else 0.0
    quantizer = fit_quantizer(seen, bits, share)
    return Inputs(by_rows, quantizer), reach, rows


def _look(target: Target, observer: Observer, inputs: Inputs, count: int, wanted: Wanted) -> _Look:
    width = target.size[1]
    moments = SecondMoments(width) if wanted.compensate else None
    held_out = _HELD_OUT if sum(observer.sizes()) >= _ENOUGH else None
    every = max(1, count // max(_USEFUL * width, 8 * _JUDGED))
    judging_every = max(1, count // ((held_out or 1) * _JUDGED))
    judging: list[np.ndarray] = []
    total = np.zeros(width)
    for rows, held in _parts(target, observer, held_out):
        judging.append((rows if held_out is None else rows[held])[::judging_every])
        if moments is not None:
            fitting = rows[~held][::every]
            moments.add(inputs.rounded(fitting))
            total += fitting.sum(0, dtype=np.float64)
    mean = total / max(0 if moments is None else moments.count, 1)
    return _Look(moments, mean, np.concatenate(judging).astype(np.float64))


def _parts(
    target: Target, observer: Observer, held_out: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows [M, K] of each batch, and which belong to samples that are held out."""
    for site in target.sites:
        first = 0
        arrays = observer.observe((site.x,))
        for samples, (array,) in zip(observer.sizes(), arrays, strict=True):
            rows = site.view.rows(array)
            rows = rows.reshape(-1, rows.shape[-1])
            # Rows of one sample are much alike, so samples are held out whole.
            number = first + np.arange(len(rows)) * samples // max(len(rows), 1)
            first += samples
            held = np.zeros(len(rows), bool)
            if held_out is not None:
                held = number % held_out == held_out - 1
            yield rows, held
