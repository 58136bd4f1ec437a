"""Engines that agree are said to; one that lies is named, with the node where it begins."""

import numpy as np
import pytest

from addax.errors import InputError, OptionError
from addax.ir.equivalence import draw_feeds
from addax.ir.parser import parse_text
from addax.runtime import _engines
from addax.runtime.agreement import ENGINES, agreement

MODEL = """<opset_import: ["": 18]>
g (float[2,3] x) => (float[2,3] y) <float[3,3] w> {
  a = MatMul(x, w)
  b = Relu(a)
  c = Tanh(b)
  d = Softmax(c)
  y = Neg(d)
}"""
QUICK = ("judge", "onnxruntime-plain", "onnxruntime")


@pytest.fixture
def model():
    return parse_text(MODEL)


def planted(monkeypatch: pytest.MonkeyPatch, lies) -> None:
    """Put an engine `liar` beside the others, which changes some values of the judge's."""

    def liar(model, feeds):
        made = _engines.judge(model, feeds)
        return {k: v + 0.01 if k in lies(made) else v for k, v in made.items()}

    monkeypatch.setitem(_engines.ENGINES, "liar", liar)


def test_engines_agree(model):
    found = agreement(model, draw_feeds(model), QUICK, inside=True)
    assert found.holds
    assert found.first is None
    assert ["agrees"] * 3 == [verdict.state for verdict in found.verdicts]
    assert "of the bound" in str(found)


def test_torch_agrees(model):
    assert agreement(model, draw_feeds(model), ("judge", "torch")).holds


@pytest.mark.slow
def test_tvm_agrees_or_says_why_not(model):
    pytest.importorskip("tvm")
    assert agreement(model, draw_feeds(model), ENGINES).holds


def test_the_first_node_that_parts_is_named(model, monkeypatch):
    planted(monkeypatch, lambda made: {"c", "d", "y"})
    found = agreement(model, draw_feeds(model), (*QUICK, "liar"))
    assert found.parts
    assert not found.holds
    assert ("liar", "c") == (found.first.engine, found.first.value)
    assert found.first.node.startswith("Tanh")
    assert abs(found.first.actual - found.first.expected - 0.01) < 1e-6
    assert {"liar", *QUICK} == found.first.readings.keys()
    assert "liar parts at Tanh" in str(found)


def test_a_difference_of_fusion_is_found_by_cutting(model, monkeypatch):
    planted(monkeypatch, lambda made: {"d", "y"} if len(made) == 1 else set())
    found = agreement(model, draw_feeds(model), ("judge", "liar"))
    assert "d" == found.first.value
    assert "vanishes when the values inside are outputs" in found.first.note


def test_a_difference_inside_is_found_on_request(model, monkeypatch):
    planted(monkeypatch, lambda made: {"a"})
    feeds = draw_feeds(model)
    assert agreement(model, feeds, ("judge", "liar")).holds
    assert "a" == agreement(model, feeds, ("judge", "liar"), inside=True).first.value


def test_a_lone_nan_and_a_wrong_shape_part(model, monkeypatch):
    feeds = draw_feeds(model)

    def broken(change):
        return lambda m, f: {k: change(v) for k, v in _engines.judge(m, f).items()}

    monkeypatch.setitem(_engines.ENGINES, "liar", broken(lambda v: v * np.nan))
    assert agreement(model, feeds, ("judge", "liar")).parts
    monkeypatch.setitem(_engines.ENGINES, "liar", broken(lambda v: v[:1]))
    assert "it has shape (1, 3), not (2, 3)" in str(agreement(model, feeds, ("judge", "liar")))


def test_an_engine_that_cannot_run_is_no_difference(model, monkeypatch):
    def fails(m, f):
        raise RuntimeError("no such kernel\nsecond line")

    def missing(m, f):
        raise _engines.MissingEngineError("not installed: pip install it")

    monkeypatch.setitem(_engines.ENGINES, "fails", fails)
    monkeypatch.setitem(_engines.ENGINES, "missing", missing)
    found = agreement(model, draw_feeds(model), ("judge", "fails", "missing"))
    assert ["agrees", "cannot run", "not installed"] == [v.state for v in found.verdicts]
    assert "RuntimeError: no such kernel" == found.verdicts[1].detail
    assert not found.holds
    assert not found.parts


def test_bad_input_is_refused(model):
    with pytest.raises(OptionError, match=r"against='tensorrt' does not exist \(known: judge"):
        agreement(model, draw_feeds(model), ("tensorrt",))
    empty = parse_text("""<opset_import: ["": 18]> g (float[0] x) => (float[0] y) {y = Neg(x)}""")
    with pytest.raises(InputError, match="expected a model with a value to compare"):
        agreement(empty, {"x": np.zeros(0, np.float32)}, QUICK)
