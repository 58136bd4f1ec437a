"""The laws that every rule obeys (`addax.testing.laws`), on every case of its case file.

1. It fires, or declines for the reason in the heading.
2. A second run makes no rewrite.
3. The result is well formed, and the interface is what it was.
4. The numbers agree within what the rule promises.
5. The text after is the golden's.
6. Every rule has a case that fires, and every guard a case that it declines.
"""

import ast
import functools
import importlib
import inspect
import re
from collections import defaultdict
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.ir.model import clone
from addax.ir.query import store_once
from addax.ir.rule import Exact, Rule
from addax.ir.text import to_text
from addax.ir.verify import verify
from addax.passes._family import Family, families
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.passes._statistics import Statistics
from addax.testing.cases import Case, draw, read_cases
from addax.testing.laws import (
    agrees,
    does_as_said,
    reasons,
    run_rule,
    settles,
    well_formed,
)
from addax.testing.strategies.arrays import Kind, feeds_for, kinds

CASES = read_cases(Path(__file__).parent / "cases")
FIRING = [case for case in CASES if case.verb == "fires"]
RULES = {rule.name: rule for family in families().values() for rule in family.rules}
EXACT = {name: rule for name, rule in RULES.items() if rule.exact is not Exact.APPROXIMATE}

each_case = pytest.mark.parametrize("case", CASES, ids=str)


def model_of(case: Case, kind: Kind = Kind.WHOLE, seed: int = 0) -> ir.Model:
    """The case's model with drawn initializers."""
    return draw(case.text, kind, seed)


def run(case: Case, model: ir.Model) -> Statistics:
    """Run the case's rule alone; a family that is no set of rules, as a whole."""
    rule = RULES.get(case.rule)
    if rule is None:
        return run_pipeline(model, Pipeline.parse(case.family), budget=1000)
    return run_rule(rule, model)


@functools.cache
def outcome(case: Case) -> tuple[ir.Model, Statistics]:
    """The case's model after its rule, and what the driver counted. Not to be changed."""
    model = model_of(case)
    return model, run(case, model)


def declined(case: Case) -> set[str]:
    """The reasons that the case's rule gave."""
    return reasons(outcome(case)[1])


@each_case
def test_the_model_of_a_case_is_valid(case: Case) -> None:
    verify(model_of(case))
    onnx.checker.check_model(ir.to_proto(model_of(case)))


@each_case
def test_it_fires_or_declines_as_the_heading_says(case: Case) -> None:
    assert does_as_said(case, outcome(case)[1]) is None
    if case.verb == "declines" and not declined(case):
        guards = [] if case.family not in families() else guards_of(families()[case.family])
        assert not any(re.fullmatch(guard, case.heading) for guard in guards), (
            "the pattern does not match here, so the guard in the heading was not asked"
        )


@pytest.mark.parametrize("case", FIRING, ids=str)
def test_a_second_run_makes_no_rewrite(case: Case) -> None:
    assert settles(outcome(case)[0], lambda model: run(case, model)) is None


@pytest.mark.parametrize("case", FIRING, ids=str)
def test_the_result_is_well_formed_and_keeps_its_interface(case: Case) -> None:
    assert well_formed(model_of(case), outcome(case)[0]) is None


@pytest.mark.parametrize("case", FIRING, ids=str)
def test_the_numbers_agree_within_the_promise(case: Case) -> None:
    exact = promise(case)
    if exact is Exact.APPROXIMATE:
        pytest.skip("an approximation is measured by its family's own tests")

    @settings(max_examples=settings.default.max_examples // 6)
    @given(
        st.integers(0, 999),
        kinds(),
        kinds(special=exact is Exact.BITWISE),
        st.dictionaries(st.sampled_from(symbols(case) or ["N"]), st.integers(1, 4)),
    )
    def check(seed: int, weights: Kind, inputs: Kind, sizes: dict[str, int]) -> None:
        model = model_of(case, weights, seed)
        feeds = feeds_for(model.graph.inputs, inputs, seed, sizes)
        after = clone(model)
        run(case, after)
        assert agrees(model, after, feeds, exact) is None

    check()


def promise(case: Case) -> Exact:
    """What the case's rule promises, or the least that the rules of its whole-graph pass do."""
    if case.rule in RULES:
        return RULES[case.rule].exact
    applied = [entry.rule.exact for entry in outcome(case)[1].values() if entry.applied]
    least = (Exact.APPROXIMATE, Exact.REASSOCIATED, Exact.BITWISE)
    return next((exact for exact in least if exact in applied), Exact.REASSOCIATED)


def symbols(case: Case) -> list[str]:
    """The symbolic dimensions of a case's inputs."""
    dims = [d for v in model_of(case).graph.inputs for d in v.shape or ()]
    return sorted({str(d.value) for d in dims if not isinstance(d, int) and d.value})


@pytest.mark.parametrize("name", sorted({f"{c.family}.{c.variant}" for c in FIRING}))
def test_the_text_after_is_the_golden(name: str, golden) -> None:
    blocks = [
        f"# {case.verb}: {case.heading}\n{to_text(outcome(case)[0])}"
        for case in FIRING
        if f"{case.family}.{case.variant}" == name
    ]
    golden(f"passes/{name}.txt", "\n".join(blocks))


@pytest.mark.parametrize("name", sorted(EXACT))
def test_every_rule_has_a_case_that_fires(name: str) -> None:
    assert any(case.rule == name for case in FIRING), (
        f"write tests/passes/cases/{name.replace('/', '.')}.txt with a `# fires: ...` block"
    )


@pytest.mark.parametrize("name", sorted({case.rule for case in CASES}))
def test_every_case_file_belongs_to_a_rule(name: str) -> None:
    family = families().get(name.partition("/")[0])
    assert name in RULES or (family is not None and family.run is not None)


@pytest.mark.parametrize(
    "family", [f for f in families().values() if f.rules], ids=lambda f: f.name
)
def test_every_guard_declines_some_case(family: Family) -> None:
    seen = {
        reason
        for case in CASES
        if case.family == family.name and case.verb == "declines"
        for reason in declined(case)
    }
    missing = [
        guard for guard in guards_of(family) if not any(re.fullmatch(guard, s) for s in seen)
    ]
    assert not missing, f"no `# declines:` case reaches {missing}"


@functools.cache
def guards_of(family: Family) -> tuple[str, ...]:
    """A pattern for each reason in the family's own source: those of require, decline, const."""
    found: dict[str, None] = {}
    modules = {inspect.getmodule(rule.build) for rule in family.rules}
    modules.add(importlib.import_module(f"addax.passes.{family.name.replace('-', '_')}"))
    for module in sorted(filter(None, modules), key=lambda m: m.__name__):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                found.update(dict.fromkeys(_reasons(node, node.func.id)))
    return tuple(found)


@functools.cache
def _reasons_of_store_once() -> list[str]:
    """The reasons of the guard that families share, from its own source."""
    calls = ast.walk(ast.parse(inspect.getsource(store_once)))
    return [
        reason
        for call in calls
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        for reason in _reasons(call, call.func.id)
    ]


def _reasons(call: ast.Call, name: str) -> list[str]:
    if name in {"const", "const_ints"}:
        what = [*call.args[1:2], *(k.value for k in call.keywords)]
        return [f"{_pattern(what[0]) if what else 'operand'} is not constant"]
    if name == "store_once":
        return _reasons_of_store_once()
    position = {"require": 1, "decline": 0}.get(name)
    if position is None or len(call.args) <= position:
        return []
    return [_pattern(call.args[position])]


def _pattern(node: ast.expr) -> str:
    """A regular expression for what a string expression may say."""
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_pattern, node.values))
    return ".*"


def test_guards_are_read_from_source() -> None:
    source = "require(x, f'{a} differs', v); decline('no'); const(w); const_ints(w, 'axes')"
    calls = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
    found = [reason for call in calls for reason in _reasons(call, call.func.id)]
    assert found == [".*\\ differs", "no", "operand is not constant", "axes is not constant"]


def test_names_are_unique_over_all_families() -> None:
    owners: dict[str, list[str]] = defaultdict(list)
    rules: list[Rule] = [rule for family in families().values() for rule in family.rules]
    for rule in rules:
        owners[rule.name].append(rule.where)
    assert {name: where for name, where in owners.items() if len(where) > 1} == {}
