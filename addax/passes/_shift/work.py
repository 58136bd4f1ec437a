"""The work of shift-add: which formats, in which order, on which activations."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import onnx_ir as ir

from addax.ir.statistics import CALIBRATION, EXECUTOR, TELL, TRIALS, Calibration
from addax.passes._shift.fitting import Fitter, Trial
from addax.passes._shift.moments import Moments
from addax.passes._shift.planning import all_formats, formats_of, plan_formats
from addax.passes._shift.targets import Group, Target, grouped
from addax.passes.fit import FitOptions, Format

_AHEAD = 8  # groups that are fitted together where none waits for another
_UNCOMPENSATED = (
    "shift-add: without calibration data weights are rounded one by one, and no output error is "
    "known; calibration=batches makes up for most of the error"
)


class Options(Protocol):
    """What is read of the family's options; see there."""

    @property
    def bits(self) -> float | str: ...
    @property
    def max_bytes(self) -> int | None: ...
    @property
    def max_error(self) -> float | None: ...
    @property
    def formats(self) -> tuple[tuple[str, str], ...] | None: ...
    @property
    def compensate(self) -> bool: ...
    @property
    def sequential(self) -> bool: ...
    @property
    def damping(self) -> float: ...
    @property
    def folder(self) -> str | None: ...


class Work:
    """Fits the layers of a model while it is being rewritten."""

    def __init__(self, model: ir.Model, facts: Mapping[str, Any], options: Options) -> None:
        self._model, self._facts, self._options = model, facts, options
        self._calibration: Calibration | None = facts.get(CALIBRATION)

    def trials(self, targets: Sequence[Target], notes: list[str]) -> Iterator[Trial]:
        """Each layer in the format that serves it best; to be rewritten before the next is asked.

        Args:
            targets: In the order in which they run.
            notes: Where to put what the user must know.
        """
        options = self._options
        if (known := self._fitted_before(targets)) is not None:
            yield from known
            return
        if self._calibration is None:
            notes.append(_UNCOMPENSATED)
        asked = dict(options.formats or ())
        groups = grouped([t for t in targets if t.name in asked or self._is_smaller(t, notes)])
        formats = self._formats(groups, notes)
        fitter = self._fitter(sequential=options.sequential)
        ahead = 1 if options.sequential else _AHEAD
        for start in range(0, len(groups), ahead):
            fresh = [group.refreshed() for group in groups[start : start + ahead]]
            made = fitter.trials([group for group in fresh if group.targets], formats)
            for target, trials in made.items():
                trial = min(trials, key=lambda each: each.error, default=None)
                where = f"shift-add, {target.name}"
                if trial is None:
                    notes.append(f"{where}: unchanged: its activations are not finite")
                else:
                    notes += [f"{where}: {said}" for said in (*trial.notes, *trial.fitted.notes)]
                    yield trial

    def _fitted_before(self, targets: Sequence[Target]) -> Iterator[Trial] | None:
        """The trials that were made when formats were chosen; None if not all are there."""
        asked, made = dict(self._options.formats or ()), self._facts.get(TRIALS, {})
        if not asked or not asked.items() <= made.keys():
            return None
        found = ((target, made[target.name, asked[target.name]]) for target in targets)
        return (dataclasses.replace(trial, target=t.refreshed()) for t, trial in found)

    def _fitter(self, *, sequential: bool) -> Fitter:
        options, known = self._options, self._calibration
        return Fitter(
            None if known is None else Moments(self._model, known, sequential=sequential),
            FitOptions(compensate=options.compensate, damping=options.damping),
            self._facts.get(EXECUTOR),
            options.folder,
            self._facts.get(TELL, lambda _: None),
        )

    def _is_smaller(self, target: Target, notes: list[str]) -> bool:
        """Whether codes of a layer take less than its weights; a note if they do not."""
        if _smaller(target, self._options.bits):
            return True
        notes.append(
            f"shift-add, {target.name}: unchanged: {target.size[0]} outputs in tiles of 64 would "
            f"take more than the {target.stored_bytes:,} bytes that its weights take"
        )
        return False

    def _formats(self, groups: Sequence[Group], notes: list[str]) -> dict[str, Sequence[Format]]:
        """The formats that each layer is tried in."""
        options, targets = self._options, [target for group in groups for target in group.targets]
        if options.formats is not None:
            return {name: (Format.parse(text),) for name, text in options.formats}
        if formats_of(options.bits) is not None:
            return {target.name: _smaller(target, options.bits) for target in targets}
        budget = None
        if options.max_bytes is not None:
            others = _read_bytes(self._model) - sum(target.stored_bytes for target in targets)
            budget = max(options.max_bytes - others, 0)
        chosen, reason = plan_formats(
            groups,
            {target.name: _smaller(target, options.bits) for target in targets},
            self._fitter(sequential=False),
            mean_bits=None if isinstance(options.bits, str) else float(options.bits),
            max_bytes=budget,
            max_error=options.max_error,
        )
        if reason:
            notes.append(f"shift-add: {reason}; this is the nearest that can be done")
        return {target.name: (chosen[target],) if target in chosen else () for target in targets}


def _smaller(target: Target, bits: float | str) -> tuple[Format, ...]:
    """The formats in question in which a layer takes fewer bytes than it does now."""
    tried = formats_of(bits) or all_formats()
    return tuple(f for f in tried if f.packed_bytes(*target.size) < target.stored_bytes)


def _read_bytes(model: ir.Model) -> int:
    """Bytes of all weights that somebody reads."""
    return sum(
        value.const_value.nbytes
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None and (value.uses() or value.is_graph_output())
    )
