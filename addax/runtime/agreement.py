"""Whether engines that share no code agree on a model, and the first node at which they part.

Algebra     |engine - exact| <= E for every element of every value: E the forward bound of what
            rounding may do in the model's own formats, in any order; exact: the judge in float64
Source      Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., chapter 3

Two engines within E of the exact result are within 2 E of each other; so whichever of two parts
from the other is named, and not only the pair.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from addax.errors import InputError, OptionError, UnsupportedOpError
from addax.ir.model import clone
from addax.ir.origin import describe
from addax.ir.shapes import infer_shapes
from addax.ir.tolerance import Disagreement, bounds, judged
from addax.runtime._engines import ENGINES as _ENGINES
from addax.runtime._engines import Engine, Feeds, MissingEngineError

__all__ = ["ENGINES", "Agreement", "Parting", "Verdict", "agreement"]

ENGINES = tuple(_ENGINES)
"""What `against` may name."""

State = Literal["agrees", "parts", "cannot run", "not installed"]
Known = Mapping[str, tuple[Any, Any]]  # name: the value in float64, and its bound


@dataclass(frozen=True)
class Parting:
    """The first value of an engine that is further off than rounding can explain."""

    engine: str
    node: str
    value: str
    index: tuple[int, ...]
    expected: float
    actual: float
    allowed: float
    readings: dict[str, Any]
    note: str = ""

    def __str__(self) -> str:
        place = f"{self.value}[{', '.join(map(str, self.index))}]"
        others = ", ".join(f"{name} {reading}" for name, reading in self.readings.items())
        note = f"\n  {self.note}" if self.note else ""
        return (
            f"{self.engine} parts at {self.node}\n  {place} should be {self.expected} within "
            f"{self.allowed:.3g}, but is {self.actual}: {abs(self.actual - self.expected):.3g} "
            f"off\n  there: {others}{note}"
        )


@dataclass(frozen=True)
class Verdict:
    """One engine: what became of it, and its worst difference as a share of the bound."""

    engine: str
    state: State
    detail: str = ""
    worst: float = math.nan

    def __str__(self) -> str:
        share = "" if math.isnan(self.worst) else f"{self.worst:.2g} of the bound"
        return f"{self.engine:18} {self.state:13} {self.detail or share}"


@dataclass(frozen=True)
class Agreement:
    """What each engine gave, and the first node in the graph's order at which one parts."""

    verdicts: tuple[Verdict, ...]
    first: Parting | None

    @property
    def parts(self) -> bool:
        """Whether an engine parts from the others."""
        return any(verdict.state == "parts" for verdict in self.verdicts)

    @property
    def holds(self) -> bool:
        """Whether two engines or more ran, and all that ran agree."""
        return not self.parts and sum(v.state == "agrees" for v in self.verdicts) > 1

    def __str__(self) -> str:
        lines = [f"{'engine':18} {'verdict':13} worst difference", *map(str, self.verdicts)]
        if self.first is not None:
            lines += ["", str(self.first)]
        return "\n".join(lines)


def agreement(
    model: ir.Model,
    feeds: Feeds,
    against: Sequence[str] = ENGINES,
    *,
    inside: bool = False,
) -> Agreement:
    """Run a model in several engines and compare every element with its bound.

    Outputs are compared first. Where an engine parts, every value inside becomes an output, and
    the first that is off is named. If that makes the difference vanish, as it defeats an engine's
    fusions, the graph is cut shorter and shorter instead.

    Args:
        model: Well formed; it is not changed.
        feeds: An array for each input, by name.
        against: Engines, of `ENGINES`.
        inside: Compare the values inside also where the outputs agree.

    Raises:
        OptionError: There is no such engine.
        InputError: The feeds do not fit, or no value of the model can be compared.
        EvaluationError: A node fails on what it is given.
        UnsupportedOpError: An operator has no meaning for the judge, or no error analysis.
    """
    for name in against:
        if name not in _ENGINES:
            raise OptionError(f"against={name!r} does not exist (known: {', '.join(ENGINES)})")
    model = clone(model)
    infer_shapes(model)
    known = bounds(_exposed(model), feeds)
    if not any(np.size(value) for value, _ in known.values()):
        raise InputError("expected a model with a value to compare, got none with an element")
    chosen = {name: _ENGINES[name] for name in dict.fromkeys(against)}
    found = [_Trial(name, engine, model, feeds, known, inside) for name, engine in chosen.items()]
    order = {value.name: k for k, value in enumerate(_values(model))}
    partings = [trial.parting for trial in found if trial.parting is not None]
    first = min(partings, key=lambda p: order.get(p.value, len(order)), default=None)
    if first is not None:
        first.readings.update(_readings(first, model, feeds, chosen, found))
    return Agreement(tuple(trial.verdict for trial in found), first)


class _Trial:
    """One engine on one model."""

    def __init__(
        self, name: str, engine: Engine, model: ir.Model, feeds: Feeds, known: Known, inside: bool
    ) -> None:
        self.name, self.engine, self.model, self.feeds = name, engine, model, feeds
        self.known = known
        self.parting: Parting | None = None
        self.verdict = self._tried(inside)

    def _tried(self, inside: bool) -> Verdict:
        try:
            made = self.engine(self.model, self.feeds)
        except MissingEngineError as error:
            return Verdict(self.name, "not installed", str(error))
        except Exception as error:  # an engine says in its own errors what it does not take
            return Verdict(self.name, "cannot run", _brief(error))
        off, worst = self._compared(made)
        if off is None and not inside:
            return Verdict(self.name, "agrees", "", worst)
        self.parting = self._first_inside() or (self._first_of_cuts(off) if off else None)
        if self.parting is None:
            return Verdict(self.name, "agrees", "", worst)
        return Verdict(self.name, "parts", f"at {self.parting.node}")

    def _compared(self, made: Mapping[str, Any]) -> tuple[Parting | None, float]:
        """The first value in the graph's order that is off, and the worst share of a bound."""
        worst = 0.0
        for value in _values(self.model):
            name = str(value.name)
            if name not in made or name not in self.known:
                continue
            expected, allowed = self.known[name]
            margins = judged({name: expected}, {name: made[name]}, {name: allowed})
            if apart := margins.disagreement or margins.lone_nan:
                return self._parting(value, apart), math.inf
            worst = max(worst, margins.worst)
        return None, worst

    def _parting(self, value: ir.Value, apart: Disagreement) -> Parting:
        node = value.producer()
        where = "an input" if node is None else describe(node)
        is_number = np.ndim(apart.before) == 0
        note = "" if is_number else f"it has shape {apart.after}, not {apart.before}"
        before, after = (apart.before, apart.after) if is_number else (math.nan, math.nan)
        return Parting(
            self.name,
            where,
            str(value.name),
            apart.index,
            float(before),
            float(after),
            apart.allowed,
            {},
            note,
        )

    def _first_inside(self) -> Parting | None:
        try:
            made = self.engine(_exposed(self.model), self.feeds)
        except Exception:  # some values may not be outputs for this engine; the cuts will tell
            return None
        return self._compared(made)[0]

    def _first_of_cuts(self, last: Parting) -> Parting:
        """The shortest graph that is off: the engine fuses what is before its only output."""
        values = [value for value in _values(self.model) if value.name in self.known]
        names = [value.name for value in values]
        good, bad, found = -1, names.index(last.value), last
        while bad - good > 1:
            middle = (good + bad) // 2
            off = self._cut(values[middle])
            if off is None:
                good = middle
            else:
                bad, found = middle, off
        note = (
            "the difference vanishes when the values inside are outputs: it comes from what the "
            "engine fuses up to here"
        )
        return replace(found, note=note)

    def _cut(self, value: ir.Value) -> Parting | None:
        try:
            made = self.engine(_with_outputs(self.model, {str(value.name)}), self.feeds)
        except Exception:  # what cannot be cut here is no evidence
            return None
        return self._compared(made)[0]


def _readings(
    first: Parting,
    model: ir.Model,
    feeds: Feeds,
    engines: Mapping[str, Engine],
    trials: Sequence[_Trial],
) -> dict[str, Any]:
    """What every engine that runs has at the element that parts."""
    readings: dict[str, Any] = {}
    cut = _with_outputs(model, {first.value})
    ran = {t.name for t in trials if t.verdict.state in {"agrees", "parts"}}
    for name, engine in engines.items():
        if name == first.engine or name not in ran:
            continue
        try:
            made = np.asarray(engine(cut, feeds)[first.value])
            readings[name] = (
                made[first.index].item() if first.index or not made.ndim else made.shape
            )
        except Exception as error:  # told in the place of the number
            readings[name] = f"({_brief(error)})"
    return {first.engine: first.actual, **readings}


def _values(model: ir.Model) -> list[ir.Value]:
    """Every named value that a node of the main graph makes, and those that it returns."""
    made = [value for node in model.graph for value in node.outputs if value.name]
    return [*made, *(value for value in model.graph.outputs if value.producer() is None)]


def _exposed(model: ir.Model) -> ir.Model:
    """The model with every tensor inside as an output."""
    names = {
        str(value.name)
        for value in _values(model)
        if value.dtype is not None and isinstance(value.type, ir.TensorType)
    }
    return _with_outputs(model, names | {str(value.name) for value in model.graph.outputs})


def _with_outputs(model: ir.Model, names: set[str]) -> ir.Model:
    made = clone(model)
    chosen = [value for value in _values(made) if value.name in names]
    made.graph.outputs.clear()
    made.graph.outputs.extend(dict.fromkeys(chosen))
    return made


def _brief(error: BaseException) -> str:
    text = str(error).strip().splitlines() or [""]
    kind = "" if isinstance(error, UnsupportedOpError) else f"{type(error).__name__}: "
    return f"{kind}{text[0][:200]}"
