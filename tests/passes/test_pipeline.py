"""Pipelines as text, families as files, and the instruments that watch them."""

import dataclasses
import re
from types import ModuleType

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.errors import InvalidGraphError, OptionError, VerificationError
from addax.ir.parser import parse_text
from addax.ir.rule import Exact, rule
from addax.passes import _pipeline
from addax.passes._checking import CheckEach
from addax.passes._family import Phase, families, family_of, make_options
from addax.passes._instrument import DumpEach, Instrument, VerifyEach
from addax.passes._pipeline import Pipeline, Step, run_pipeline

MODEL = """<ir_version: 10, opset_import: ["": 20]>
g (float[2] x) => (float[2] y) { a = Neg(x) b = Neg(a) y = Relu(b) }"""


@rule("planted/wrong", match=lambda op, x: op.Relu(x), exact=Exact.BITWISE)
def wrong(op, x):
    """Relu(x) -> Tanh(x), which is no such thing."""
    return op.Tanh(x)


def module(name: str, **members: object) -> ModuleType:
    made = ModuleType(f"addax.passes.{name}", "A planted pass: for tests.")
    vars(made).update(members)
    return made


@dataclasses.dataclass(frozen=True)
class Options:
    bits: int = 4
    layout: str = "row"


OPTIONED = family_of(module("planted", RULES=(wrong,), Options=Options, PHASE=Phase.FOLD))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A family `planted` with options and a wrong rule, beside the real ones."""
    known = {**families(), "planted": OPTIONED}
    monkeypatch.setattr(_pipeline, "families", lambda: known)


# Text


def test_the_default_pipeline_round_trips():
    pipeline = Pipeline.exact()
    assert Pipeline.parse(str(pipeline)) == pipeline
    assert str(Pipeline.parse(str(pipeline))) == str(pipeline)
    assert all(step.family.is_exact for step in pipeline.steps)


@given(st.lists(st.sampled_from(sorted(families())), max_size=6))
def test_every_list_of_families_round_trips(names):
    text = ",".join(names)
    assert str(Pipeline.parse(text)) == text
    assert str(Pipeline.parse(" , ".join(names))) == text


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    "text", ["planted{bits=3}", "planted{bits=3,layout='col'}", "cleanup,planted{layout='a b'}"]
)
def test_options_round_trip(text):
    pipeline = Pipeline.parse(text)
    assert str(pipeline) == text
    assert Pipeline.parse(str(pipeline)) == pipeline


@pytest.mark.usefixtures("planted")
def test_options_reach_the_family_as_its_own_class():
    (step,) = Pipeline.parse("planted{bits=3}").steps
    assert make_options(step.family, dict(step.options)) == Options(bits=3)


def test_an_empty_text_is_an_empty_pipeline():
    assert Pipeline.parse("") == Pipeline(())
    model = parse_text(MODEL)
    assert run_pipeline(model, Pipeline(())).applied == 0


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cleanpu", "there is no pass 'cleanpu'; did you mean 'cleanup'? (passes: "),
        ("nothing-like-it", "there is no pass 'nothing-like-it' (passes: "),
        (
            "cleanup;movement",
            "found 'cleanup;movement' at column 0 of the pipeline 'cleanup;movement'",
        ),
        ("Cleanup", "expected `pass{option=value,...},pass,...` but found 'Cleanup'"),
        ("planted{bits}", "expected `option=value` pairs in planted{bits}"),
        ("planted{bits=many}", "with values such as 3, 0.5, 'text' or True"),
        ("planted{bits=}", "expected `option=value` pairs in planted{bits=}"),
        ("planted{**x}", "expected `option=value` pairs in planted{**x}"),
        ("planted{width=3}", "pass 'planted' has no option width; it has bits, layout"),
        ("cleanup{bits=3}", "pass 'cleanup' has no option bits; it has none"),
    ],
)
def test_a_malformed_pipeline_says_what_is_wrong(text, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        Pipeline.parse(text)


# Families


def test_a_family_reads_its_file():
    family = families()["cleanup"]
    assert (family.name, family.phase) == ("cleanup", Phase.CANONICAL)
    assert family.summary.startswith("Cleanup:")
    assert family.is_exact


@pytest.mark.parametrize("name", sorted(families()))
def test_every_family_states_algebra_source_exactness_and_cost(name):
    heads = re.findall(r"^(Algebra|Source|Exactness|Cost)\s", families()[name].doc, re.MULTILINE)
    assert heads == ["Algebra", "Source", "Exactness", "Cost"]


@pytest.mark.parametrize("name", sorted(families()))
def test_every_rule_says_its_equation(name):
    missing = [r.name for r in families()[name].rules if "->" not in r.summary]
    assert missing == []


def test_a_file_without_rules_is_no_family():
    message = "pass 'empty' exports neither RULES nor run(model, context)"
    with pytest.raises(InvalidGraphError, match=re.escape(message)):
        family_of(module("empty"))


def test_a_misnamed_rule_is_refused():
    message = "rules of pass 'other' must be called 'other/...', but it has ['planted/wrong']"
    with pytest.raises(InvalidGraphError, match=re.escape(message)):
        family_of(module("other", RULES=(wrong,)))


def test_passes_that_wait_for_each_other_are_refused(monkeypatch: pytest.MonkeyPatch):
    import addax.passes._family as family_module

    def run(model, context):
        return False

    circle = {
        "a": module("a", run=run, AFTER=("b",)),
        "b": module("b", run=run, AFTER=("a",)),
    }

    class Info:
        def __init__(self, name: str) -> None:
            self.name, self.ispkg = name, False

    monkeypatch.setattr(
        family_module.pkgutil, "iter_modules", lambda path: [Info(name) for name in circle]
    )
    monkeypatch.setattr(
        family_module.importlib, "import_module", lambda name: circle[name.rpartition(".")[2]]
    )
    with pytest.raises(InvalidGraphError, match="passes that each ask to run after another: a, b"):
        families.__wrapped__()


# Running


class Log(Instrument):
    def __init__(self) -> None:
        self.events: list[str] = []

    def before_pass(self, name, model):
        self.events.append(f"before {name}")

    def after_pass(self, name, model, *, changed):
        self.events.append(f"after {name} {changed}")

    def on_rewrite(self, rewrite):
        assert rewrite.root.graph is not None
        self.events.append(f"rewrite {rewrite.matcher.rule.name}")

    def on_decline(self, matcher, node, decline):
        self.events.append(f"decline {matcher.rule.name}: {decline.reason}")

    def on_failure(self, name, model, error):
        self.events.append(f"failure {name}: {error}")


def test_instruments_hear_of_passes_and_rewrites_in_order():
    log = Log()
    run_pipeline(parse_text(MODEL), Pipeline.parse("cleanup"), instruments=[log])
    assert log.events == [
        "before canonical-rules",
        "rewrite cleanup/involution",
        "after canonical-rules True",
    ]


def test_instruments_hear_of_declines():
    log = Log()
    text = MODEL.replace("float[2] y", "double[2] y").replace("Relu(b)", "Cast<to=11>(b)")
    run_pipeline(parse_text(text), Pipeline.parse("cleanup"), instruments=[log])
    assert "decline cleanup/cast: changes the type" in log.events


def test_instruments_hear_of_failures():
    @rule("planted/broken", match=lambda op, x: op.Relu(x), exact=Exact.BITWISE)
    def broken(op, x):
        """Relu(x) -> an error."""
        raise KeyError("planted")

    family = family_of(module("planted", RULES=(broken,)))
    log = Log()
    with pytest.raises(KeyError):
        run_pipeline(parse_text(MODEL), Pipeline((Step(family),)), instruments=[log])
    assert log.events[-1] == "failure fold-rules: 'planted'"


def test_statistics_count_passes_that_changed_something():
    statistics = run_pipeline(parse_text(MODEL), Pipeline.parse("cleanup"))
    assert statistics.passes == {"canonical-rules": 1}
    assert statistics["cleanup/involution"].applied == 1
    assert len(statistics) == len(list(statistics))


def test_a_dump_is_numbered_and_holds_what_changed(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ADDAX_DUMP", str(tmp_path / "dump"))
    run_pipeline(parse_text(MODEL), Pipeline.parse("cleanup"))
    names = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert names == ["00-input.txt", "01-canonical-rules.txt"]
    texts = [(tmp_path / "dump" / name).read_text("utf-8") for name in names]
    assert ["Neg" in text for text in texts] == [True, False]
    for text in texts:
        assert isinstance(parse_text(text), ir.Model)


def test_a_dump_of_nothing_changed_is_the_input(tmp_path):
    model = parse_text(MODEL.replace("Neg", "Exp"))
    run_pipeline(model, Pipeline.parse("cleanup"), instruments=[DumpEach(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["00-input.txt"]


def test_verification_names_the_pass_that_broke_the_graph():
    def run(model, context):
        model.graph[0].outputs[0].name = model.graph[1].outputs[0].name
        return True

    family = family_of(module("planted", run=run))
    with pytest.raises(InvalidGraphError, match="duplicate-value"):
        run_pipeline(parse_text(MODEL), Pipeline((Step(family),)), instruments=[VerifyEach()])


def test_checking_names_the_pass_that_changed_the_numbers():
    model = parse_text(MODEL)
    feeds = {"x": np.float32([0.5, -0.5])}
    check = CheckEach(model, feeds)
    with pytest.raises(VerificationError, match="pass 'fold-rules' changed the outputs"):
        run_pipeline(model, Pipeline((Step(OPTIONED),)), instruments=[check])


def test_checking_accepts_what_keeps_its_promise():
    model = parse_text(MODEL)
    run_pipeline(model, instruments=[CheckEach(model, {"x": np.float32([0.5, -0.5])})])
