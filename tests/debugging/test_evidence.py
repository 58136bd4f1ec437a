"""What bisect and reduce show is tested: numbers of rewrites, the case alone, inputs that fit."""

import numpy as np
import pytest

from addax.debugging import Crashes, Differs, bisect, reduce
from addax.debugging.faults import ask, optimized, optimizing
from addax.ir.equivalence import draw_feeds
from addax.ir.parser import parse_text
from addax.passes._pipeline import Pipeline
from addax.testing.cases import read_file
from tests.debugging.planted import crash, plant, wrong_sign

__all__ = ["plant"]

BODY = """<opset_import: ["": 20]>
g (float[6,8] x, float[6,8] z) => (float[6,8] y) <float[8,8] w, float[8,8] v, float one = {1}> {
    a = MatMul(x, w)
    b = Mul(a, one)
    e = Sub(b, z)
    f = Tanh(e)
    h = MatMul(f, v)
    y = Sigmoid(h)
}"""

# Equal constants are shared by a whole-graph pass: a rewrite that is announced by another hook.
SHARED = """<opset_import: ["": 20]>
g (float[2] x, float[2] z) => (float[2] y, float[2] u, float[2] s) <
  float[2] p = {1.5, 2.5}, float[2] q = {1.5, 2.5}
> { a = Mul(x, p) b = Sin(a) c = Mul(z, q) u = Cos(c) e = Sub(b, z) y = Tanh(e) s = Add(p, x) }"""


@pytest.fixture
def model():
    return parse_text(BODY)


def test_a_case_shows_the_fault_alone_and_is_written_once(plant, model, tmp_path):
    plant(wrong_sign)
    found = bisect(model, Differs())
    assert found.is_confirmed
    assert found.is_monotone
    assert f"good after {found.number - 1} rewrites, bad after {found.number}" in str(found)
    path = found.save_case(tmp_path)
    assert path == found.save_case(tmp_path)
    (case,) = read_file(path)
    assert "cleanup/wrong-sign" == case.rule


@pytest.mark.parametrize("text", [BODY, SHARED])
def test_the_number_is_that_of_the_fuel(plant, text):
    plant(wrong_sign)
    model = parse_text(text)
    found = bisect(model, Differs())
    assert "cleanup/wrong-sign" == found.rule
    assert ask(Differs(), model, found.number - 1) is None
    assert ask(Differs(), model, found.number) is not None


def test_a_fault_that_comes_and_goes_is_said_to(model):
    total = 20
    bad = {4, 5, *range(12, total + 1)}
    asked = []

    def fault(_, fuel):
        asked.append(fuel)
        return "bad" if fuel is None or fuel in bad else None

    deep = "x" + "".join(f" a{k} = Mul({'x' if k == 0 else f'a{k - 1}'}, one)" for k in range(20))
    text = f"""<opset_import: ["": 20]> g (float[2] x) => (float[2] y) <float one = {{1}}> {{
      {deep[2:]} y = Relu(a19) }}"""
    found = bisect(parse_text(text), fault, Pipeline.parse("cleanup"))
    assert not found.is_monotone
    assert found.number in {4, 12}
    assert {found.number - 1, found.number} <= set(asked)
    assert "it comes and goes" in str(found)


def test_reduce_shrinks_sizes_and_keeps_inputs_that_show_the_fault(plant, model):
    plant(wrong_sign)
    given = draw_feeds(model)
    found = reduce(model, Differs(feeds=[given]))
    assert ["Sub", "Tanh"] == [node.op_type for node in found.model.graph]
    assert {(1, 1)} == {array.shape for array in found.feeds.values()}
    assert Differs(feeds=[found.feeds])(found.model, None) is not None


def test_reduce_saves_both(plant, model, tmp_path):
    plant(wrong_sign)
    found = reduce(model, Differs())
    data = found.save(tmp_path / "small.onnx")
    with np.load(data) as arrays:
        assert found.feeds.keys() == set(arrays.files)


def test_reduce_is_deterministic(plant, model):
    plant(crash)
    first, second = (reduce(model, optimizing(model)) for _ in range(2))
    assert (first.nodes, first.tried) == (second.nodes, second.tried)


def test_what_optimizing_does_wrong_is_seen(plant, model):
    assert Differs() == optimizing(model)
    plant(crash)
    assert Crashes(None, ZeroDivisionError) == optimizing(model)
    with pytest.raises(ZeroDivisionError):
        optimized(model, None, None)
