"""An excerpt computes what the part computed in the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.errors import InvalidGraphError
from addax.ir.evaluate import evaluate
from addax.ir.excerpt import excerpt
from addax.ir.parser import parse_text
from addax.ir.shapes import infer_shapes
from addax.ir.verify import verify

MODEL = """<opset_import: ["": 18]>
g (float[2,3] x, bool c) => (float[2,3] y, float[2,3] z) <float[3,3] w, float[3] b> {
  m = MatMul(x, w)
  a = Add(m, b)
  r = Relu(a)
  i = If(c) <then_branch = t () => (float[2,3] p) { p = Tanh(a) },
             else_branch = e () => (float[2,3] q) { q = Neg(r) }>
  s = Sub(i, x)
  y = Mul(s, r)
  z = Neg(s)
}"""


def whole():
    model = parse_text(MODEL)
    infer_shapes(model)
    return model


FEEDS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3) / 7 - 0.4, "c": np.array(True)}


@given(st.sets(st.integers(0, 6), min_size=1))
def test_any_part_computes_what_it_did(kept):
    model = whole()
    seen = dict(FEEDS)
    evaluate(model, FEEDS, watch=lambda v, array: seen.__setitem__(v.name, np.array(array)))
    places = {node: k for k, node in enumerate(model.graph)}
    part = excerpt(model, lambda node: places[node] in kept)
    verify(part)
    assert len(kept) == len(part.graph)
    made = evaluate(part, {str(v.name): seen[str(v.name)] for v in part.graph.inputs})
    assert made
    for name, array in made.items():
        np.testing.assert_array_equal(array, seen[name])
    assert 7 == len(model.graph)
    verify(model)


def test_outputs_may_be_chosen():
    part = excerpt(whole(), lambda node: node.op_type != "Neg", outputs={"r"})
    assert ["r"] == [value.name for value in part.graph.outputs]


def test_nothing_is_no_excerpt():
    with pytest.raises(InvalidGraphError, match="expected an excerpt of one node or more"):
        excerpt(whole(), lambda node: False)


def test_a_cut_through_an_unknown_type_is_refused():
    model = parse_text(
        '<opset_import: ["": 18, "own": 1]> g (float x) => (float y) '
        "{ a = own.Odd(x) y = own.Odd(a) }"
    )
    nodes = list(model.graph)
    with pytest.raises(InvalidGraphError, match="value 'a' has no known type"):
        excerpt(model, lambda node: node is nodes[1])
