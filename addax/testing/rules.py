"""The laws asked of one rule, on cases that its author writes and on random models."""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from addax.errors import ConvergenceError, InputError
from addax.ir.model import clone
from addax.ir.query import shape
from addax.ir.rule import Exact, Rule
from addax.passes._statistics import Statistics
from addax.testing.cases import Case, draw, read_file, read_text
from addax.testing.laws import (
    Prover,
    agrees,
    changes,
    does_as_said,
    run_rule,
    settles,
    well_formed,
)
from addax.testing.strategies.arrays import FINITE, Kind, feeds_for
from addax.testing.strategies.graphs import assemble

__all__ = ["check_rule"]

_SIZES = (2, 3, 1, 4)
_RANDOM_PIECES = 4


def check_rule(
    rule: Rule,
    *,
    cases: str | Path | Sequence[Case] | None = None,
    random_models: int = 50,
    budget: int = 1000,
) -> int:
    """Require the laws of `addax.testing.laws` of a rule; returns how often it fired.

    Args:
        rule: What `@rule(...)` made.
        cases: ONNX text in blocks that begin with `# fires: why` or `# declines: the reason that
            the guard gives`, or the path of a file `<family>.<rule>.txt` of them. Initializers
            without a literal are drawn: whole, normal, small, large, mixed and with zeros.
        random_models: On how many random models it is run as well.
        budget: How many rewrites may take place on one model before it counts as endless.

    Raises:
        AssertionError: A law is broken; with the rule, the case and a program that shows it.
        InputError: The rule is no rule, or the cases are no cases.
    """
    if not isinstance(rule, Rule):
        raise InputError(
            f"expected a rule, as the decorator addax.ir.rule.rule makes, got {rule!r}"
        )
    fired = 0
    for case in _cases(rule, cases):
        fired += _check_case(rule, case, budget)
    for seed in range(random_models):
        fired += _check_random(rule, seed, budget)
    if not fired:
        raise AssertionError(
            f"{rule.name} ({rule.where}) fired on no case and on none of {random_models} random "
            "models, so nothing was tested: give a case that it fires on, as "
            "check_rule(rule, cases='# fires: ...')"
        )
    return fired


def _cases(rule: Rule, cases: str | Path | Sequence[Case] | None) -> Sequence[Case]:
    if cases is None:
        return []
    if isinstance(cases, Path):
        return read_file(cases)
    if isinstance(cases, str):
        return read_text(cases, rule.name)
    return cases


def _check_case(rule: Rule, case: Case, budget: int) -> int:
    at = f"case {case.line}, `# {case.verb}: {case.heading}`"
    again = f"cases='''# {case.verb}: {case.heading}\n{case.text.strip()}\n''', random_models=0"
    models = [(f"{at}, {kind.value}", draw(case.text, kind, seed), kind, seed)
              for seed, kind in enumerate(FINITE)]  # fmt: skip
    fired = 0
    for where, model, kind, seed in models:
        fail = _Failure(rule, where, again)
        after, statistics, prover = _run(rule, model, budget, fail)
        if seed == 0:
            fail.unless("it fires or declines as said", does_as_said(case, statistics))
        _check_proofs(rule, prover, fail)
        if changes(statistics):
            fired += changes(statistics)
            _check_result(rule, model, after, _feeds(model, rule, kind, seed), budget, fail)
    return fired


def _check_random(rule: Rule, seed: int, budget: int) -> int:
    drawn = random.Random(seed)  # noqa: S311 - models, not secrets
    header, pieces = drawn.randbytes(16), [drawn.randbytes(16) for _ in range(_RANDOM_PIECES)]
    model = assemble(header, pieces)
    fail = _Failure(rule, f"random model {seed}", f"random_models={seed + 1}")
    after, statistics, prover = _run(rule, model, budget, fail)
    _check_proofs(rule, prover, fail)
    if changes(statistics):
        _check_result(rule, model, after, _feeds(model, rule, Kind.PLAIN, seed), budget, fail)
    return changes(statistics)


def _feeds(model: ir.Model, rule: Rule, kind: Kind, seed: int) -> Iterator[dict[str, Any]]:
    """Inputs of several kinds and sizes; infinities and NaN where every bit must stay."""
    names = {d for v in model.graph.inputs for d in shape(v) or () if isinstance(d, str)}
    kinds = [Kind.PLAIN, kind, *[Kind.SPECIAL] * (rule.exact is Exact.BITWISE)]
    for number, inputs in enumerate(kinds):
        size = _SIZES[(seed + number) % len(_SIZES)]
        yield feeds_for(model.graph.inputs, inputs, seed, dict.fromkeys(names, size))


class _Failure:
    """Raises what a broken law says, with where it was broken and a program that shows it."""

    def __init__(self, rule: Rule, where: str, again: str) -> None:
        self._rule, self._where, self._again = rule, where, again

    def unless(self, law: str, said: str | None) -> None:
        """Raise, unless nothing was said."""
        if said is None:
            return
        build = self._rule.build
        name = getattr(build, "__name__", "rule")
        raise AssertionError(
            f"{self._rule.name} ({self._rule.where}) breaks the law that {law}, on {self._where}:\n"
            f"{said}\n\nTo see it again:\n\n"
            f"from {build.__module__} import {name}\n"
            "from addax.testing import check_rule\n\n"
            f"check_rule({name}, {self._again})\n"
        )


def _run(
    rule: Rule, model: ir.Model, budget: int, fail: _Failure
) -> tuple[ir.Model, Statistics, Prover]:
    """Rewrite a copy, each rewrite proved where it can be."""
    after = clone(model)
    prover = Prover(after)
    try:
        statistics = run_rule(rule, after, budget=budget, instrument=prover)
    except ConvergenceError as error:
        fail.unless("it ends", str(error))
        raise
    return after, statistics, prover


def _check_proofs(rule: Rule, prover: Prover, fail: _Failure) -> None:
    if prover.refuted and rule.exact is not Exact.APPROXIMATE:
        fail.unless("no rewrite is refuted", prover.refuted[0])


def _check_result(
    rule: Rule,
    before: ir.Model,
    after: ir.Model,
    feeds: Iterator[Mapping[str, Any]],
    budget: int,
    fail: _Failure,
) -> None:
    fail.unless("the result is well formed with the same interface", well_formed(before, after))
    fail.unless(
        "a second run changes nothing",
        settles(after, lambda model: run_rule(rule, model, budget=budget)),
    )
    if rule.exact is Exact.APPROXIMATE:
        return
    for fed in feeds:
        fail.unless("the numbers agree", agrees(before, after, fed, rule.exact))
