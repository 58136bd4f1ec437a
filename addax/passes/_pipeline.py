"""Pipelines: which families run, in which order, written as text that round-trips.

    canonicalize,cleanup,fold-affine,shift-weights{bits=3,group=128}

Families of one phase run together to a joint fixed point, and the exact families of earlier
phases with them, since a later rewrite may make room for an earlier one.
"""

import ast
import difflib
import functools
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from addax.errors import OptionError
from addax.ir import collector
from addax.ir.match import RuleSet
from addax.ir.rewriter import Rewriter
from addax.ir.rule import Rule
from addax.ir.shapes import infer_shapes
from addax.passes._driver import Driver, Limits
from addax.passes._family import Context, Family, Phase, families, make_options
from addax.passes._instrument import DumpEach, Instrument, Instruments
from addax.passes._statistics import Statistics

_STEP = re.compile(r"\s*([a-z0-9-]+)\s*(?:\{((?:[^{}]|\{[^{}]*\})*)\})?\s*(,|$)")
_BUDGET_A_NODE = 50
_BUDGET_AT_LEAST = 10_000


@dataclass(frozen=True)
class Step:
    """One family in a pipeline, with its options as written."""

    family: Family
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        if not self.options:
            return self.family.name
        return f"{self.family.name}{{{','.join(f'{k}={v!r}' for k, v in self.options)}}}"


@dataclass(frozen=True)
class Pipeline:
    """An ordered list of families. `str(pipeline)` parses to an equal pipeline."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.steps))

    @staticmethod
    def exact() -> "Pipeline":
        """Every exact family: what runs by default."""
        return Pipeline(tuple(Step(f) for f in families().values() if f.is_exact))

    @staticmethod
    def parse(text: str) -> "Pipeline":
        """Read a pipeline.

        Raises:
            OptionError: If it is malformed, or names a pass or an option that does not exist.
        """
        steps: list[Step] = []
        position = 0
        while position < len(text.rstrip()):
            found = _STEP.match(text, position)
            if found is None:
                raise OptionError(
                    f"expected `pass{{option=value,...}},pass,...` but found "
                    f"{text[position:]!r} at column {position} of the pipeline {text!r}"
                )
            steps.append(Step(_family(found[1]), _options(found[1], found[2] or "")))
            make_options(steps[-1].family, dict(steps[-1].options))
            position = found.end()
        return Pipeline(tuple(steps))


def _family(name: str) -> Family:
    known = families()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"there is no pass {name!r}{hint} (passes: {', '.join(known)})")
    return known[name]


def _options(name: str, text: str) -> tuple[tuple[str, Any], ...]:
    """Options as written: `bits=3,layout='row'`; the values are Python literals."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
            raise ValueError(text)
        return tuple((str(k.arg), ast.literal_eval(k.value)) for k in call.keywords)
    except (SyntaxError, ValueError) as error:
        raise OptionError(
            f"expected `option=value` pairs in {name}{{{text}}}, with values such as 3, 0.5, "
            f"'text' or True"
        ) from error


def _rules(steps: Iterable[Step]) -> RuleSet:
    return _indexed(tuple(rule for step in steps for rule in step.family.rules))


@functools.lru_cache(maxsize=64)
def _indexed(rules: tuple[Rule, ...]) -> RuleSet:
    """The rules' index, kept between runs: on a small model, making it takes the most time."""
    return RuleSet(rules)


def run_pipeline(
    model: ir.Model,
    pipeline: Pipeline | None = None,
    *,
    statistics: Statistics | None = None,
    fuel: int | None = None,
    budget: int | None = None,
    instruments: Sequence[Instrument] = (),
    facts: dict[str, Any] | None = None,
) -> Statistics:
    """Run a pipeline (by default every exact family) on `model`, in place.

    Args:
        model: Well formed; changed in place.
        pipeline: What to run.
        statistics: Where to count; new by default.
        fuel: Stop quietly after this many rewrites.
        budget: Raise after this many rewrites; by default in proportion to the model's size.
        instruments: Who hears of every pass and rewrite; `ADDAX_DUMP=folder` adds a dump.
        facts: Plain data for the families: calibration statistics, cost tables.

    Raises:
        ConvergenceError: If the budget is used up before the fixed point.
    """
    pipeline = Pipeline.exact() if pipeline is None else pipeline
    statistics = Statistics() if statistics is None else statistics
    if folder := os.environ.get("ADDAX_DUMP"):
        instruments = [*instruments, DumpEach(Path(folder))]
    instrument = Instruments(instruments) if instruments else None
    if budget is None:
        budget = _BUDGET_AT_LEAST + _BUDGET_A_NODE * sum(map(len, model.graphs()))
    with collector.paused():
        infer_shapes(model)
        rewriter = Rewriter(model)
        rewriter.lift_constants()
        limits = Limits(budget, fuel)
        stage = _Stage(
            model, rewriter, statistics, limits, instrument, {} if facts is None else facts
        )
        settled: list[Step] = []
        for phase in Phase:
            steps = [step for step in pipeline.steps if step.family.phase == phase]
            if steps:
                stage.run(phase.name.lower(), settled, steps)
                settled += [step for step in steps if step.family.is_exact]
        rewriter.prune()
    return statistics


@dataclass
class _Stage:
    """The joint fixed point of some families."""

    model: ir.Model
    rewriter: Rewriter
    statistics: Statistics
    limits: Limits
    instrument: Instrument | None
    facts: dict[str, Any]

    def run(self, name: str, settled: list[Step], steps: list[Step]) -> None:
        """Local rules to their fixed point, then each whole-graph pass, until nothing changes.

        Args:
            name: The phase, for instruments.
            settled: Families of earlier phases, which have had their fixed point.
            steps: Families of this phase.
        """
        fresh = _rules(steps)
        rules = _rules([*settled, *steps])
        steps = [*settled, *steps]
        driver = Driver(self.rewriter, rules, self.statistics, self.limits, self.instrument)
        self._watched(f"{name}-rules", lambda: driver.run(fresh) > 0)
        whole = [step for step in steps if step.family.run is not None]
        idle: dict[str, int] = {}  # the count of rewrites at which a pass found nothing to do
        while not self.limits.is_out_of_fuel:
            due = [step for step in whole if idle.get(step.family.name) != self.limits.spent]
            if not due:
                return
            if self._run_whole(due[0], driver):
                self._watched(f"{name}-rules", lambda: driver.resume() > 0)
            else:
                idle[due[0].family.name] = self.limits.spent

    def _run_whole(self, step: Step, driver: Driver) -> bool:
        run = step.family.run
        context = Context(
            driver,
            make_options(step.family, dict(step.options)),
            self.statistics,
            self.limits,
            self.instrument,
            self.facts,
            self.model,
        )
        return run is not None and self._watched(step.family.name, lambda: run(self.model, context))

    def _watched(self, name: str, act: Any) -> bool:
        """Run one pass between the instruments' hooks."""
        if self.instrument is not None:
            self.instrument.before_pass(name, self.model)
        try:
            changed: bool = act()
        except Exception as error:
            if self.instrument is not None:
                self.instrument.on_failure(name, self.model, error)
            raise
        self.rewriter.flush()
        self.statistics.passes[name] += changed
        if self.instrument is not None:
            self.instrument.after_pass(name, self.model, changed=changed)
        return changed
