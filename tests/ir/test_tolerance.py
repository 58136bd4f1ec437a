"""The bound on rounding: it holds, it is not idle, and what it cannot judge it says."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.errors import EvaluationError, UnsupportedOpError
from addax.ir.evaluate import evaluate
from addax.ir.rule import Exact
from addax.ir.tolerance import bounds, disagreement, tolerance
from addax.testing.cases import build, draw
from addax.testing.strategies.arrays import Kind, feeds_for, kinds
from addax.testing.strategies.graphs import models

HEADER = '<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>\n'
# One operator of each analysis, on operands that make it say something.
OPERATORS = {
    "Add": "y = Add(x, w)",
    "Sub": "y = Sub(x, w)",
    "Mul": "a = Mul(x, w) y = Mul(a, x)",
    "Div": "y = Div(x, var)",
    "Pow": "a = Abs(x) y = Pow(a, w)",
    "Sqrt": "a = Abs(x) y = Sqrt(a)",
    "Exp": "a = Tanh(x) y = Exp(a)",
    "Log": "a = Abs(x) b = Add(a, var) y = Log(b)",
    "Reciprocal": "a = Abs(x) b = Add(a, var) y = Reciprocal(b)",
    "Gelu": "a = Mul(x, w) y = Gelu(a)",
    "Erf": "a = Mul(x, w) y = Erf(a)",
    "Tanh": "a = Mul(x, w) y = Tanh(a)",
    "Sigmoid": "a = Mul(x, w) y = Sigmoid(a)",
    "HardSwish": "a = Mul(x, w) y = HardSwish(a)",
    "Mish": "a = Mul(x, w) y = Mish(a)",
    "Softplus": "a = Mul(x, w) y = Softplus(a)",
    "PRelu": "a = Sub(x, w) y = PRelu(a, w)",
    "Clip": "lo = Constant <value_float=-0.5> () a = Mul(x, w) y = Clip(a, lo)",
    "Max": "a = Mul(x, w) y = Max(a, x, w)",
    "Where": "a = Mul(x, w) c = Greater(a, w) y = Where(c, a, x)",
    "Sum": "y = Sum(x, w, x)",
    "Mean": "y = Mean(x, w, x)",
    "MatMul": "a = MatMul(x, m) b = Add(a, w) y = MatMul(b, m)",
    "Gemm": "y = Gemm <alpha=-0.5, beta=2.0> (x, m, w)",
    "Einsum": 'y = Einsum <equation="ij,jk->ik"> (x, m)',
    "Conv": "y0 = Unsqueeze(x, zero) y1 = Unsqueeze(y0, zero) k0 = Unsqueeze(m, zero)"
    " k = Unsqueeze(k0, zero) y2 = Conv <pads=[2,2,2,2]> (y1, k) y = Flatten(y2)",
    "ReduceSum": "a = Mul(x, w) b = ReduceSum(a, one) y = Add(b, x)",
    "ReduceMean": "a = Mul(x, w) b = ReduceMean(a, one) y = Add(b, x)",
    "ReduceMax": "a = Mul(x, w) b = ReduceMax(a, one) y = Add(b, x)",
    "ReduceMin": "a = Mul(x, w) b = ReduceMin(a, one) y = Add(b, x)",
    "ReduceProd": "a = Mul(x, w) b = ReduceProd(a, one) y = Add(b, x)",
    "ReduceL2": "a = Mul(x, w) b = ReduceL2(a, one) y = Add(b, x)",
    "ReduceLogSumExp": "a = Tanh(x) b = ReduceLogSumExp(a, one) y = Add(b, x)",
    "CumSum": "a = Mul(x, w) i = Constant <value_int=1> () y = CumSum(a, i)",
    "Softmax": "a = Mul(x, w) y = Softmax(a)",
    "LogSoftmax": "a = Mul(x, w) y = LogSoftmax(a)",
    "LayerNormalization": "a = Add(x, w) y = LayerNormalization <epsilon=0.01> (a, w, w)",
    "BatchNormalization": "y = BatchNormalization(x, w, w, w, var)",
    "LpNormalization": "a = Add(x, var) y = LpNormalization(a)",
    "TopK": "k = Constant <value_ints=[4]> () a = Mul(x, w) y, i = TopK(a, k)",
    "Cast": "a = Mul(x, w) h = Cast <to=10> (a) y = Cast <to=1> (h)",
    "Gather": "a = Mul(x, w) y = Gather <axis=1> (a, four)",
    "BiasGelu": "y = com.microsoft.BiasGelu(x, w)",
    "SkipLayerNormalization": "x3 = Unsqueeze(x, zero) y3 = com.microsoft.SkipLayerNormalization "
    "<epsilon=0.01> (x3, x3, w, w) y = Squeeze(y3, zero)",
}
WEIGHTS = (
    "<float[4] w, float[4,4] m, float[4] var, int64[1] zero = {0}, int64[1] one = {1}, "
    "int64[4] four = {0, 1, 2, 3}>"
)


def model(body: str, kind: Kind = Kind.PLAIN, seed: int = 0, outputs: str = "float[3,4] y"):
    text = f"{HEADER}g (float[3,4] x) => ({outputs}) {WEIGHTS} {{ {body} }}"
    return draw(text, kind, seed)


@pytest.mark.parametrize("name", OPERATORS)
def test_float32_stays_within_the_bound_and_the_bound_is_tight(name):
    worst = 0.0
    for seed in range(8):
        kind = [Kind.PLAIN, Kind.MIXED][seed % 2]
        m = model(OPERATORS[name], kind, seed, "float[d,e] y" if name == "Conv" else "float[3,4] y")
        feeds = feeds_for(m.graph.inputs, Kind.PLAIN, seed)
        value, bound = bounds(m, feeds)["y"]
        with np.errstate(all="ignore"):
            error = np.abs(evaluate(m, feeds)["y"].astype(np.float64) - value)
        assert np.all((error <= bound) | np.isinf(bound)), f"{error} exceeds {bound}"
        known = np.isfinite(bound) & (bound > 0)
        worst = max(worst, float(np.max(error[known] / bound[known], initial=0)))
    # A bound that no error comes near would let mistakes pass.
    assert worst > 1e-3


@settings(max_examples=150)
@given(models(max_pieces=5), kinds(), st.integers(0, 9))
def test_random_models_stay_within_the_bound(m: ir.Model, kind: Kind, seed: int):
    feeds = feeds_for(m.graph.inputs, kind, seed)
    actual = evaluate(m, feeds)
    for name, (value, bound) in bounds(m, feeds).items():
        with np.errstate(all="ignore"):
            error = np.abs(actual[name].astype(np.float64) - value)
        fine = (error <= bound) | np.isinf(bound) | (np.isnan(actual[name]) & np.isnan(value))
        assert np.all(fine | (actual[name] == value)), name


def test_a_constant_that_was_rounded_counts_unless_it_was_given():
    m = model("y = Mul(x, w)")
    feeds = feeds_for(m.graph.inputs)
    plain = tolerance(m, feeds)["y"]
    np.testing.assert_array_equal(plain, tolerance(m, feeds, given=m)["y"])
    other = model("y = Mul(x, w)", seed=1)
    assert np.all(tolerance(m, feeds, given=other)["y"] > 1.9 * plain)


def test_half_precision_and_double_have_their_own_units():
    errors = {}
    for name, dtype in (("float16", np.float16), ("float", np.float32), ("double", np.float64)):
        m = build(f"{HEADER}g ({name}[2] x) => ({name}[2] y) {{ y = Mul(x, x) }}", [])
        errors[name] = tolerance(m, {"x": np.array([1.5, 3], dtype)})["y"][0] / 2.25
    assert errors["float16"] == pytest.approx(2**-11, rel=1e-2)
    assert errors["float"] == pytest.approx(2**-24, rel=1e-6)
    assert errors["double"] == pytest.approx(2**-53, rel=1e-6)


def test_numbers_beyond_the_format_have_no_bound():
    m = build(f"{HEADER}g (float16[1] x) => (float16[1] y) {{ y = Mul(x, x) }}", [])
    assert np.isinf(tolerance(m, {"x": np.array([1000], np.float16)})["y"])


def test_cancellation_is_known():
    m = model("a = Add(x, w) y = Sub(a, w)", Kind.LARGE)
    feeds = feeds_for(m.graph.inputs, Kind.SMALL)
    value, bound = bounds(m, feeds)["y"]
    assert np.median(bound / np.abs(value)) > 1


@pytest.mark.parametrize("factor", [1.0001, 1.01, -1.0, 0.0])
def test_a_wrong_weight_is_seen(factor):
    before = model("y = MatMul(x, m)")
    after = model("y = MatMul(x, m)")
    wrong = after.graph.initializers["m"]
    wrong.const_value = ir.tensor(wrong.const_value.numpy() * np.float32(factor), name="m")
    found = disagreement(before, after, feeds_for(before.graph.inputs), Exact.REASSOCIATED)
    assert found is not None
    assert found.output == "y"
    assert "became" in str(found)
    assert "which may differ by" in str(found)


def test_bitwise_takes_the_models_own_formats():
    before, after = model("y = Mul(x, w)"), model("a = Mul(w, x) y = Identity(a)")
    feeds = feeds_for(before.graph.inputs)
    assert disagreement(before, after, feeds, Exact.BITWISE) is None
    apart = model("a = Mul(w, w) b = Mul(x, w) y = Add(a, b)")
    assert disagreement(before, apart, feeds, Exact.BITWISE) is not None


def test_nan_and_infinities_must_stay():
    before, after = model("y = Sub(x, x)"), model("y = Mul(x, x)")
    feeds = {"x": np.full((3, 4), np.inf, np.float32)}
    assert disagreement(before, before, feeds, Exact.BITWISE) is None
    assert disagreement(before, after, feeds, Exact.BITWISE) is not None


def test_another_shape_is_a_disagreement():
    wide = "float[a,b] y"
    before = model("y = Relu(x)", outputs=wide)
    after = model("y = Transpose(x)", outputs=wide)
    for exact in (Exact.BITWISE, Exact.REASSOCIATED):
        found = disagreement(before, after, feeds_for(before.graph.inputs), exact)
        assert (found.before, found.after) == ((3, 4), (4, 3))


def test_a_choice_that_rounding_decides_is_not_judged():
    body = "a = Mul(x, w) b = Div(a, w) c = {}(b, x) y = Where(c, x, w)"
    before, after = model(body.format("Greater")), model(body.format("GreaterOrEqual"))
    feeds = feeds_for(before.graph.inputs)
    assert disagreement(before, after, feeds, Exact.REASSOCIATED) is None


def test_an_operator_without_analysis_is_named():
    m = model("y = Det(x)", outputs="float y")
    m.graph.inputs[0].shape = ir.Shape([3, 3])
    with pytest.raises(UnsupportedOpError, match="nobody has analysed the rounding errors"):
        tolerance(m, {"x": np.eye(3, dtype=np.float32)})


def test_sequences_have_no_analysis():
    proto = onnx.parser.parse_model(
        f"{HEADER}g (float[2] x) => (float[2] y) {{ s = SequenceConstruct(x) "
        "i = Constant <value_int=0> () y = SequenceAt(s, i) }"
    )
    with pytest.raises(UnsupportedOpError, match="sequences have no error analysis"):
        tolerance(ir.from_proto(proto), {"x": np.ones(2, np.float32)})


def test_a_node_that_fails_is_named():
    m = model("y = MatMul(x, x)", outputs="float[a,b] y")
    with pytest.raises(EvaluationError, match=r"MatMul node.* failed: ValueError"):
        tolerance(m, {"x": np.ones((3, 4), np.float32)})


def test_a_value_from_nowhere_is_named():
    m = model("y = Relu(x)")
    m.graph[0].replace_input_with(0, ir.Value(name="nowhere"))
    with pytest.raises(EvaluationError, match="'nowhere' is read before anything makes it"):
        tolerance(m, {"x": np.ones((3, 4), np.float32)})


def test_loops_are_followed_and_endless_ones_refused():
    text = (
        '<ir_version: 10, opset_import: ["": 18]> g (float[2] x) => (float[2] y) '
        "<int64 n = {%d}, bool go = {1}> { y = Loop (n, go, x) <body = b (int64 i, bool c, float[2]"
        " s) => (bool d, float[2] t) { d = Identity(c) t = Mul(s, x) }> }"
    )
    feeds = {"x": np.array([1.1, 0.9], np.float32)}
    few, many = (tolerance(build(text % n, []), feeds)["y"] for n in (1, 20))
    assert np.all(many > few)
    with pytest.raises(UnsupportedOpError, match="runs more than 10000 times"):
        tolerance(build(text % 20_000, []), feeds)


def test_string_constants_are_refused():
    text = '<ir_version: 10, opset_import: ["": 18]> g (float[2] x) => (float[2] y) '
    m = build(text + '{ s = Constant <value_string="a"> () y = Relu(x) }', [])
    with pytest.raises(UnsupportedOpError, match="constant value_string has no error analysis"):
        tolerance(m, {"x": np.ones(2, np.float32)})
