"""From layers to codes: a job for each layer and format, and the format that serves best."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from addax.ir.numbers import BinaryCodes, pack_binary, pack_codebook, relative_error
from addax.ir.statistics import Layer, SecondMoments
from addax.passes._shift.lowering import Packed
from addax.passes._shift.moments import Moments
from addax.passes._shift.targets import Group, Target
from addax.passes.fit import FitOptions, Fitted, Format, Job, fit_all

_FEW_ROWS_DAMPING = 0.1
_DAMPINGS = (1, 10, 100)  # multiples of the damping, for what makes up for the layers before
# Least squares on inputs that are noise in part gives weights that are too small, by a layer a bit
# and by a network a lot. The logits of DeiT-Tiny at 3 bits are off by .529 with layers that make up
# for errors below this, by .546 below .15, .623 below .3, .641 at any error and .547 if none does.
_TOO_FAR = 0.1


@dataclass(frozen=True, eq=False)
class Trial:
    """A layer in one format.

    `offset` [N] is what its outputs lack in the mean, None where they have no bias; it and
    `output_error` are None without calibration data.
    """

    target: Target
    fitted: Fitted
    offset: np.ndarray | None
    output_error: float | None
    notes: tuple[str, ...]

    @property
    def error(self) -> float:
        """What trials of one layer are compared by."""
        return self.fitted.weight_error if self.output_error is None else self.output_error

    @property
    def packed(self) -> Packed:
        """The constants of the op."""
        codes = self.fitted.codes
        if isinstance(codes, BinaryCodes):
            return pack_binary(codes)
        return pack_codebook(codes)  # type: ignore[arg-type]  # formats without codes are refused

    @property
    def layer(self) -> Layer:
        """What the report says."""
        outputs, inner = self.target.size
        return Layer(
            self.target.name,
            outputs,
            inner,
            str(self.fitted.format),
            self.fitted.format.bits,
            relative_error(self.target.matrix(), self.fitted.decoded),
            self.output_error,
            self.target.stored_bytes,
            self.fitted.bytes,
            self.fitted.seconds,
        )


@dataclass(frozen=True, eq=False)
class _Look:
    """What calibration data says of the rows of a group."""

    fitting: SecondMoments | None = None
    judging: SecondMoments | None = None
    damping: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fitter:
    """Fits layers in formats.

    Attributes:
        moments: None if there is no calibration data.
        options: Of the fit.
        executor: Who fits; None for here.
        folder: Where results are kept, so that a run that ended early goes on; None for nowhere.
        tell: Called with what is done now.
    """

    moments: Moments | None
    options: FitOptions
    executor: Any = None
    folder: str | None = None
    tell: Callable[[str], None] = lambda _: None

    def trials(
        self, groups: Sequence[Group], formats: Mapping[str, Sequence[Format]]
    ) -> dict[Target, list[Trial]]:
        """Each layer in each of its formats; none of a layer whose rows are not finite."""
        looks: dict[Target, _Look] = {}
        made = fit_all(
            self._jobs(groups, formats, looks),
            executor=self.executor,
            folder=self.folder,
            progress=lambda _, fitted: self.tell(f"fitted {fitted.name}"),
        )
        found: dict[Target, list[Trial]] = {}
        for target, look in looks.items():
            fits = (made.get(_name(target, each)) for each in formats[target.name])
            found[target] = [_trial(target, fitted, look) for fitted in fits if fitted is not None]
        return found

    def _jobs(
        self,
        groups: Sequence[Group],
        formats: Mapping[str, Sequence[Format]],
        looks: dict[Target, _Look],
    ) -> Iterator[Job]:
        for group in groups:
            look = self._look(group)
            looks |= dict.fromkeys(group.targets, look)
            hessian = None if look.fitting is None else look.fitting.matrix
            if hessian is not None and not np.isfinite(hessian).all():
                continue
            options = dataclasses.replace(self.options, damping=look.damping)
            for target in group.targets:
                wanted = _wanted(target.matrix(), look)
                for each in formats[target.name]:
                    yield Job(_name(target, each), wanted, hessian, each, options)

    def _look(self, group: Group) -> _Look:
        damping = self.options.damping
        if self.moments is None:
            return _Look(damping=damping)
        fitting, judging = self.moments.of(group.sites)
        inner = group.targets[0].size[1]
        judge = judging if judging.count else fitting
        if fitting.count >= inner:
            return _Look(fitting, judge, damping)
        damping = max(damping, _FEW_ROWS_DAMPING)
        note = (
            f"{fitting.count} rows of calibration data cannot determine {inner} columns: damping "
            f"raised to {damping:g}; give more"
        )
        return _Look(fitting, judge, damping, (note,))


def _wanted(weights: np.ndarray, look: _Look) -> np.ndarray:
    """The weights that come nearest to x W^T when given x', what x has become.

    W + a W (C^T - H) (H + damping)^-1 with H = E[x'^T x'], C = E[x'^T x]: least squares, drawn
    towards W. The damping and the step a are those that serve best on the rows to judge by. W stays
    where x' W^T is far from x W^T.
    """
    if look.fitting is None or look.judging is None:
        return weights
    moments, judging = look.fitting.matrix, look.judging
    apart = look.fitting.cross.T - moments
    if not np.any(apart) or not np.isfinite(apart).all():
        return weights
    if _output_error(weights, weights, look.fitting) > _TOO_FAR:
        return weights
    missed = weights @ (judging.cross.T - judging.matrix)
    most, best = 0.0, weights
    for times in _DAMPINGS:
        damping = times * look.damping * float(np.diag(moments).mean())
        damped = moments + damping * np.eye(len(moments))
        change = np.linalg.solve(damped, (weights @ apart).T).T
        gain = float(np.sum(missed * change))
        price = float(np.sum((change @ judging.matrix) * change))
        step = min(max(gain, 0.0) / price, 1.0) if price > 0 else 0.0
        if (saved := 2 * step * gain - step**2 * price) > most:
            most, best = saved, weights + step * change
    return best


def _name(target: Target, each: Format) -> str:
    return f"{target.name} as {each}"


def _trial(target: Target, fitted: Fitted, look: _Look) -> Trial:
    """A fit with its offset and sqrt(E|x W^T - x' D^T - offset|^2 / E|x W^T|^2).

    x is what x' was at first; the error is on the rows to judge by.
    """
    if look.fitting is None or look.judging is None:
        return Trial(target, fitted, None, None, look.notes)
    weights, made, judging = target.matrix(), fitted.decoded, look.judging
    offset, moved = None, 0.0
    if all(site.has_bias for site in target.sites):
        offset = _missing(weights, made, look.fitting)
        moved = float(offset @ (offset - 2 * _missing(weights, made, judging)))
    error = _output_error(weights, made, judging, moved)
    return Trial(target, fitted, offset, error, look.notes)


def _output_error(
    weights: np.ndarray, made: np.ndarray, moments: SecondMoments, moved: float = 0.0
) -> float:
    """sqrt((E|x W^T - x' D^T|^2 + moved) / E|x W^T|^2) for D = made."""
    whole = float(np.sum((weights @ moments.original) * weights))
    shared = float(np.sum((made @ moments.cross) * weights))
    own = float(np.sum((made @ moments.matrix) * made))
    lost = max(whole - 2 * shared + own + moved, 0.0)
    return math.sqrt(lost / whole) if whole > 0 else 0.0


def _missing(weights: np.ndarray, made: np.ndarray, moments: SecondMoments) -> np.ndarray:
    """E[x W^T - x' D^T], [N]."""
    return weights @ moments.original_mean - made @ moments.mean
