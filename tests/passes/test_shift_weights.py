"""Shift-weights: powers of two become codes without loss, wherever a layer keeps its weights."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import addax
from addax.ir.evaluate import evaluate
from addax.passes._family import families
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.passes._shift.powers import encode_powers
from addax.testing.cases import build

HEAD = '<ir_version: 10, opset_import: ["": 20]> '
MATMUL = "g (float[N,3,96] x) => (float[N,3,80] y) <float[96,80] w> { y = MatMul(x, w) }"
GEMM = """g (float[N,48] x) => (float[N,80] y) <float[80,48] w, float[80] b> {
    y = Gemm<transB=1,alpha=0.5,beta=2.0>(x, w, b)
}"""
PATCHES = """g (float[N,3,33,32] x) => (float[N,80,8,8] y) <float[80,3,4,4] w, float[80] b> {
    y = Conv<strides=[4,4]>(x, w, b)
}"""
POINTWISE = """g (float[N,48,7,6] x) => (float[N,80,P,Q] y) <float[80,48,1,1] w> {
    y = Conv<strides=[2,1]>(x, w)
}"""
LINE = """g (float[N,8,20] x) => (float[N,80,5] y) <float[80,8,4] w> {
    y = Conv<strides=[4]>(x, w)
}"""
STRAIGHT_THROUGH = """g (float[N,3,96] x) => (float[N,3,80] y)
    <float[96,80] w, float c = {1.442695}, float low = {-6}, float high = {0}, float two = {2}> {
    a = Abs(w)
    l = Log(a)
    m = Mul(l, c)
    r = Round(m)
    e = Clip(r, low, high)
    p = Pow(two, e)
    s = Sign(w)
    q = Mul(p, s)
    d = Sub(q, w)
    t = Add(d, w)
    y = MatMul(x, t)
}"""


def powers(shape: tuple[int, ...], low: int = -6, high: int = 0, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    signs = random.choice([-1.0, 1.0, 0.0], size=shape, p=[0.45, 0.45, 0.1])
    return np.ldexp(signs, random.integers(low, high + 1, shape)).astype(np.float32)


def treated(text: str, *arrays: np.ndarray) -> tuple[ir.Model, ir.Model, list[str]]:
    """The model, what became of it, and the notes."""
    model, facts = build(HEAD + text, arrays), {}
    made = ir.from_proto(ir.to_proto(model))
    run_pipeline(made, Pipeline.parse("cleanup,shift-weights"), facts=facts)
    return model, made, facts.get("notes", [])


def assert_same(model: ir.Model, made: ir.Model) -> None:
    """The same numbers; on whole inputs all sums of powers of two are exact."""
    dims = [d if isinstance(d, int) else 2 for d in model.graph.inputs[0].shape or ()]
    x = np.random.default_rng(3).integers(-8, 9, dims).astype(np.float32)
    expected, actual = (evaluate(each, {"x": x})["y"] for each in (model, made))
    np.testing.assert_array_equal(expected, actual)


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize(
    ("text", "shapes", "expected"),
    [
        (MATMUL, [(96, 80)], ["CodebookMatMul"]),
        (GEMM, [(80, 48), (80,)], ["CodebookMatMul", "Add"]),
        (
            PATCHES,
            [(80, 3, 4, 4), (80,)],
            ["Slice", "Reshape", "Transpose", "Reshape", "CodebookMatMul", "Add", "Transpose"],
        ),
        (POINTWISE, [(80, 48, 1, 1)], ["Slice", "Transpose", "CodebookMatMul", "Transpose"]),
        (LINE, [(80, 8, 4)], ["Reshape", "Transpose", "Reshape", "CodebookMatMul", "Transpose"]),
    ],
    ids=["matmul", "gemm", "patches", "pointwise", "one axis"],
)
def test_layers_of_every_kind_keep_their_numbers(text, shapes, expected):
    model, made, notes = treated(text, *(powers(shape) for shape in shapes))
    assert (expected, []) == (operators(made), notes)
    assert_same(model, made)


def test_signs_alone_take_two_bits_and_a_long_range_two_parts():
    _, signs, _ = treated(MATMUL, powers((96, 80), 0, 0))
    assert 2 == signs.graph.node(0).attributes["bits"].value
    model, two, _ = treated(MATMUL, powers((96, 80), -12, 0))
    assert ["CodebookMatMul", "CodebookMatMul", "Add"] == operators(two)
    assert_same(model, two)


def test_a_range_beyond_two_parts_is_declined_with_the_figure():
    model, made, notes = treated(MATMUL, powers((96, 80), -30, 0))
    assert ["MatMul"] == operators(made)
    assert "reach over 31 exponents in a group of 96 weights, more than 2 tables of 7" in notes[0]
    assert_same(model, made)


def test_the_residue_of_a_straight_through_estimator_goes():
    weights = np.random.default_rng(0).normal(size=(96, 80)).astype(np.float32)
    model = build(HEAD + STRAIGHT_THROUGH, [weights])
    made = addax.optimize(model, allow=("shift-weights",), target="portable", verify=True)
    assert ["CodebookMatMul"] == operators(made.model)
    assert "reassociated" == made.report.exactness
    assert made.certificate is not None
    x = np.random.default_rng(1).integers(-8, 9, (2, 3, 96)).astype(np.float32)
    expected = evaluate(model, {"x": x})["y"]
    np.testing.assert_allclose(made.session.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-4)


def test_a_gain_that_would_be_folded_into_the_weights_stays_out_of_them():
    text = """g (float[N,3,96] x) => (float[N,3,80] y) <float[96,80] w, float[96] gain> {
        s = Mul(x, gain)
        y = MatMul(s, w)
    }"""
    gain = np.arange(1, 97, dtype=np.float32)
    made = addax.optimize(build(HEAD + text, [powers((96, 80)), gain]), allow=("shift-weights",))
    assert ["Mul", "CodebookMatMul"] == operators(made.model)


@pytest.mark.parametrize(
    ("text", "arrays", "said"),
    [
        (MATMUL, [np.linspace(1, 2, 96 * 80).reshape(96, 80)], None),
        (MATMUL, [np.zeros((96, 80))], None),
        (
            "g (float[N,96] x, int64[N] i) => (float[N,80] y, float[N,80] v) <float[96,80] w> "
            "{ y = MatMul(x, w) v = Gather(w, i) }",
            [powers((96, 80))],
            "something else reads them too",
        ),
        (
            "g (float[N,96] x) => (float[N,3] y) <float[96,3] w> { y = MatMul(x, w) }",
            [powers((96, 3))],
            "its codes take 3,",
        ),
        (
            MATMUL,
            [powers((96, 80)) * np.float32(2.0**-140)],
            "its rows' factors do not fit float32",
        ),
    ],
    ids=["no powers", "zeros", "embedding", "few outputs", "tiny"],
)
def test_what_stays_and_why(text, arrays, said):
    _, made, notes = treated(text, *(np.asarray(a, np.float32) for a in arrays))
    if said is not None:
        assert "CodebookMatMul" not in operators(made)
        assert said in notes[0]
    else:
        assert (["MatMul"], []) == (operators(made), notes)


def test_it_runs_only_when_asked_for():
    assert not families()["shift-weights"].is_exact
    made = addax.optimize(build(HEAD + MATMUL, [powers((96, 80))]))
    assert ["MatMul"] == operators(made.model)


@given(
    st.integers(1, 70),
    st.integers(1, 300),
    st.integers(-8, 0),
    st.sampled_from([np.float32(1), np.float32(0.7), np.float32(3e-5)]),
    st.integers(0, 99),
)
@settings(max_examples=40)
def test_codes_are_the_weights(rows, columns, low, factor, seed):
    random = np.random.default_rng(seed)
    matrix = powers((rows, columns), low, 0, seed) * factor
    matrix *= np.exp2(random.integers(-2, 3, (rows, 1)))
    found = encode_powers(matrix.astype(np.float64))
    if not np.any(matrix):
        assert found is None
    else:
        assert isinstance(found, tuple)
        np.testing.assert_array_equal(matrix, sum(part.decode() for part in found))
