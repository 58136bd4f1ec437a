"""Piecewise polynomial functions, compared exactly on every interval."""

from fractions import Fraction

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.ir._field.piecewise import Piecewise, exact
from addax.ir.proof import Proof, prove_piecewise

NUMBER = st.fractions(-4, 4, max_denominator=8)
FUNCTION = st.recursive(
    st.just(Piecewise.variable()) | NUMBER.map(Piecewise.constant),
    lambda f: (
        st.tuples(f, f).map(lambda p: p[0] + p[1])
        | st.tuples(f, NUMBER).map(lambda p: p[0] * Piecewise.constant(p[1]))
        | f.map(Piecewise.positive)
    ),
    max_leaves=6,
)


def value(f: Piecewise, x: Fraction) -> Fraction:
    piece = f.pieces[sum(cut < x for cut in f.cuts)]
    return sum((c * x**k for k, c in enumerate(piece)), Fraction(0))


@given(FUNCTION, FUNCTION, NUMBER)
def test_arithmetic_is_pointwise(f: Piecewise, g: Piecewise, x: Fraction) -> None:
    assert value(f + g, x) == value(f, x) + value(g, x)
    assert value(f - g, x) == value(f, x) - value(g, x)
    assert value(f * g, x) == value(f, x) * value(g, x)
    assert value(f.positive(), x) == max(value(f, x), 0)


@given(FUNCTION, FUNCTION)
def test_equality_is_an_identity_of_functions(f: Piecewise, g: Piecewise) -> None:
    assert (f + g - g).equals(f)[0]
    assert not (f + Piecewise.constant(1)).equals(f)[0]


def test_thirds_are_meant_exactly() -> None:
    assert exact(float(np.float32(1 / 6))) == Fraction(1, 6)
    assert exact(-1 / 3) == Fraction(-1, 3)
    assert exact(0.16) == Fraction(0.16)


def decide(before: str, after: str) -> Proof:
    bounds = "<float low={-1.5}, float high={-0.5}, float zero={0}, float six={6}, float top={inf}"
    bounds += ", float[3] many={1, 2, 3}>"
    header = '<ir_version: 10, opset_import: ["": 20]>'
    text = f"{header} g (float[3] x) => (float[3] y, float[3] z) {bounds} {{ {before} {after} }}"
    model = ir.serde.deserialize_model(onnx.parser.parse_model(text))
    nodes, (y, z) = list(model.graph), model.graph.outputs
    return prove_piecewise(nodes, nodes, (y, z), model.graph.inputs[0])


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ("a=Clip(x,low,high) y=Relu(a)", "z=Mul(x,zero)", "proved"),
        ("a=Clip(x,low,high) y=Relu(a)", "z=Clip(x,zero,high)", "refuted"),
        ("a=Clip(x,low) y=Relu(a)", "z=Relu(x)", "proved"),
        ("a=Relu(x) y=Relu(a)", "z=Abs(a)", "proved"),
        ("y=Clip(x,zero,top)", "z=Relu(x)", "proved"),
        ("y=HardSwish(x)", "a=Add(x,six) b=Neg(high) c=Div(a,six) z=Mul(x,c)", "refuted"),
        ("y=HardSwish(x)", "b=HardSigmoid<alpha=0.16666667,beta=0.5>(x) z=Mul(x,b)", "proved"),
        ("y=LeakyRelu<alpha=0.5>(x)", "a=Min(x,zero) b=Relu(x) c=Neg(high) d=Mul(a,c) z=Add(b,d)",
         "proved"),
        ("y=Max(x,low,high)", "z=Max(x,high)", "proved"),
        ("y=Pow(x,six)", "a=Mul(x,x) b=Mul(a,a) z=Mul(b,a)", "proved"),
    ],
)  # fmt: skip
def test_bounds_are_decided_in_every_order(before: str, after: str, verdict: str) -> None:
    proof = decide(before, after)
    assert proof.verdict == verdict, proof.detail
    assert proof.error_probability == (0 if verdict == "proved" else 1)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("y=Exp(x)", "Exp is no piecewise polynomial operator known here"),
        ("a=Mul(x,x) y=Relu(a)", "of a polynomial f of degree 2 is not decided exactly"),
        ("y=Div(six,x)", "the division by a variable is no polynomial"),
        ("y=Pow(x,low)", "the exponent -3/2 makes no polynomial known here"),
        ("y=Add(x,top)", "the constant inf is no rational number"),
        ("y=Add(x,many)", "is no function of the one input: expected elementwise operators"),
    ],
)
def test_what_is_not_piecewise_polynomial_is_unsupported(lines: str, reason: str) -> None:
    proof = decide(lines, "z=Neg(x)")
    assert (proof.verdict, reason in proof.detail) == ("unsupported", True), proof.detail
