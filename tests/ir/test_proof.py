"""Proofs over a finite field: what is equal is proved, what is not is not."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.errors import InputError
from addax.ir.evaluate import evaluate
from addax.ir.model import clone
from addax.ir.parser import parse_text
from addax.ir.proof import prove_equal, rounding_ulps
from addax.testing.strategies.arrays import feeds_for
from addax.testing.strategies.graphs import models

HEADER = '<ir_version: 10, opset_import: ["": {opset}, "com.microsoft": 1]>\n'


def model(graph: str, opset: int = 20, **arrays: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(HEADER.format(opset=opset) + graph)
    for name, array in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return ir.serde.deserialize_model(proto)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def body(interface: str, *lines: str, opset: int = 20, **arrays: np.ndarray) -> ir.Model:
    return model(f"g {interface} {{ {' '.join(lines)} }}", opset, **arrays)


def verdict(interface: str, before: str, after: str, opset: int = 20, **arrays: np.ndarray) -> str:
    sides = [body(interface, lines, opset=opset, **arrays) for lines in (before, after)]
    return prove_equal(*sides).verdict


X = "(float[2,6] x) => (float[2,6] y)"
CUBE = "(float[2,3,6] x) => (float[N,M,K] y)"

TRUE = {
    "lora": (X, "a=MatMul(x,w) b=MatMul(x,u) c=MatMul(b,v) y=Add(a,c)",
             "p=MatMul(u,v) q=Add(w,p) y=MatMul(x,q)"),
    "distributive": (X, "a=Add(x,s) y=Mul(a,s)", "a=Mul(x,s) b=Mul(s,s) y=Add(a,b)"),
    "transposes": (CUBE, "a=Transpose<perm=[1,2,0]>(x) y=Transpose<perm=[1,2,0]>(a)",
                   "y=Transpose<perm=[2,0,1]>(x)"),
    "layer norm": (X, "y=LayerNormalization(x,s,t)",
                   "m=ReduceMean(x,last) d=Sub(x,m) e=Mul(d,d) va=ReduceMean(e,last) "
                   "vv=Add(va,eps) r=Sqrt(vv) q=Div(d,r) z=Mul(q,s) y=Add(z,t)"),
    "rms norm": (X, "y=com.microsoft.SimplifiedLayerNormalization(x,s)",
                 "e=Mul(x,x) va=ReduceMean(e,last) vv=Add(va,eps) r=Sqrt(vv) q=Reciprocal(r) "
                 "z=Mul(x,q) y=Mul(z,s)"),
    "gelu": (X, "y=Gelu(x)", "a=Mul(x,half_root) b=Erf(a) c=Add(b,one) d=Mul(x,c) y=Mul(d,half)"),
    "sigmoid": (X, "y=Sigmoid(x)", "a=Neg(x) b=Exp(a) c=Add(b,one) y=Div(one,c)"),
    "softmax": (X, "y=Softmax(x)", "a=Exp(x) b=ReduceSum(a,last) y=Div(a,b)"),
    "odd": (X, "a=Neg(x) b=Tanh(a) y=Neg(b)", "y=Tanh(x)"),
    "maximum": (X, "y=Max(x,s)", "a=Sub(s,x) b=Relu(a) y=Add(x,b)"),
    "leaky": (X, "y=LeakyRelu<alpha=0.5>(x)",
              "a=Relu(x) b=Neg(x) c=Relu(b) d=Mul(c,half) y=Sub(a,d)"),
    "choice": (X, "c=Less(x,s) y=Where(c,x,s)", "c=GreaterOrEqual(x,s) y=Where(c,s,x)"),
    "pool of padded": ("(float[1,1,5,5] x) => (float[A,B,C,D] y)",
                       "y=AveragePool<kernel_shape=[3,3],pads=[1,1,1,1],count_include_pad=1>(x)",
                       "p=Pad(x,pads) y=AveragePool<kernel_shape=[3,3]>(p)"),
    "scanned": ("(float[2,6] x) => (float[2,2,6] y)",
                "h,y=Loop(two,,x) <body=b (int64 i, bool c, float[2,6] h) => "
                "(bool d, float[2,6] k, float[2,6] l) { d=Identity(c) k=Neg(h) l=Tanh(h) }>",
                "a=Tanh(x) b=Neg(a) e=Unsqueeze(a,first) f=Unsqueeze(b,first) "
                "y=Concat<axis=0>(e,f)"),
    "loop": (X, "y=Loop(two,,x) <body=b (int64 i, bool c, float[2,6] h) => (bool d, float[2,6] k) "
             "{ d=Identity(c) k=Add(h,s) }>", "a=Add(x,s) y=Add(a,s)"),
}  # fmt: skip

FALSE = {
    "difference": (X, "a=MatMul(x,w) b=MatMul(x,w2) y=Add(a,b)", "c=Sub(w,w2) y=MatMul(x,c)"),
    "one percent": (X, "y=Mul(x,s)", "a=Mul(x,s) y=Mul(a,percent)"),
    "sign": (X, "y=Neg(x)", "y=Identity(x)"),
    "softmax axis": (X, "y=Softmax<axis=0>(x)", "y=Softmax<axis=1>(x)"),
    "relu of clip": (X, "a=Clip(x,low,high) y=Relu(a)", "y=Clip(x,zero,high)"),
    "strictness": (X, "c=Less(x,s) y=Where(c,x,s)", "c=Greater(x,s) y=Where(c,x,s)"),
    "mean or sum": (X, "y=ReduceMean(x,last)", "y=ReduceSum(x,last)"),
    "smallest": (X, "y=ReduceMin(x,last)", "y=ReduceMax(x,last)"),
    "misspelt": (X, "y=LayerNormalization<epsion=0.5>(x,s)",
                 "y=LayerNormalization<epsilon=0.5>(x,s)"),
    "zero": (X, "z=Sub(x,x) y=Div(one,z)", "y=Mul(x,zero)"),
    "reciprocal": (X, "y=Mul(x,six)", "y=Div(x,one)"),
}  # fmt: skip

ARRAYS = {
    "w": weights(6, 6), "w2": weights(6, 6, seed=1), "u": weights(6, 2), "v": weights(2, 6),
    "s": weights(6, seed=2), "t": weights(6, seed=3), "last": np.array([-1]),
    "eps": np.array(1e-5, np.float32), "half": np.array(0.5, np.float32),
    "half_root": np.array(0.5**0.5, np.float32), "one": np.array(1, np.float32),
    "zero": np.array(0, np.float32), "low": np.array(-1.5, np.float32),
    "high": np.array(-0.5, np.float32), "percent": np.array(1.01, np.float32),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "two": np.array(2), "first": np.array([0]),
    "six": np.array(1 / 6, np.float32),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUE)
def test_what_is_equal_is_proved(name: str) -> None:
    assert verdict(*TRUE[name], **ARRAYS) == "proved"


@pytest.mark.parametrize("name", FALSE)
def test_what_is_not_equal_is_not_proved(name: str) -> None:
    assert verdict(*FALSE[name], **ARRAYS) in {"refuted", "unproved"}


def test_a_rational_difference_is_a_refutation_and_another_is_not() -> None:
    assert verdict(*FALSE["difference"], **ARRAYS) == "refuted"
    assert verdict(*FALSE["softmax axis"], **ARRAYS) == "unproved"


BLOCK = """(float[1,N,8] x) => (float[1,N,8] y)"""
LINES = """n=LayerNormalization(x,g,b) q=MatMul(n,wq) k=MatMul(n,wk) v=MatMul(n,wv)
t=Transpose<perm=[0,2,1]>(k) a=MatMul(q,t) c=Mul(a,half) p=Softmax(c) o=MatMul(p,v)
f=MatMul(o,wo) h=Add(x,f) m=MatMul(h,w1) e=Gelu(m) r=MatMul(e,w2) y=Add(h,r)"""


def block() -> ir.Model:
    names = ("wq", "wk", "wv", "wo", "w1", "w2")
    arrays = {name: weights(8, 8, seed=k) for k, name in enumerate(names)}
    arrays |= {"g": weights(8, seed=8), "b": weights(8, seed=9), "half": ARRAYS["half"]}
    return body(BLOCK, LINES, **arrays)


@pytest.mark.parametrize("name", ["wq", "wk", "wv", "wo", "w1", "w2", "g", "b"])
def test_one_ulp_in_one_weight_of_a_transformer_is_seen(name: str) -> None:
    before, after = block(), block()
    assert prove_equal(before, after).verdict == "proved"
    value = after.graph.initializers[name]
    array = value.const_value.numpy().copy()
    array.flat[3] = np.nextafter(array.flat[3], np.float32(9))
    value.const_value = ir.Tensor(array)
    found = prove_equal(before, after)
    assert found.verdict == "unproved"
    assert "output 'y' differs" in found.detail


def test_a_proof_states_its_chance_of_error() -> None:
    proof = prove_equal(block(), block())
    assert 0 < proof.error_probability < 1e-12
    assert prove_equal(block(), block(), seeds=(1, 2, 3)).error_probability < 1e-20
    assert proof.seconds > 0


def shuffled(original: ir.Model, swaps: list[int]) -> ir.Model:
    """A clone whose nodes stand in another order that is also one of evaluation."""
    made = clone(original)
    nodes = list(made.graph)
    for place in swaps:
        k = place % max(len(nodes) - 1, 1)
        pair = nodes[k : k + 2]
        plain = not any(
            a.type == ir.AttributeType.GRAPH for n in pair for a in n.attributes.values()
        )
        if len(pair) == 2 and plain and not set(pair[0].outputs) & set(pair[1].inputs):
            nodes[k : k + 2] = pair[::-1]
    made.graph.remove(nodes)
    made.graph.extend(nodes)
    return made


@settings(max_examples=60)
@given(models(), st.lists(st.integers(0, 50), max_size=20))
def test_random_graphs_equal_their_clones_in_any_order(
    original: ir.Model, swaps: list[int]
) -> None:
    proof = prove_equal(original, shuffled(original, swaps))
    assert proof.verdict in {"proved", "unsupported"}, proof.detail


UNSUPPORTED = {
    "n=NonZero(x) c=Cast<to=1>(n) y=ReduceSum(c)":
        " has no meaning over a field; compare the models by evaluation instead",
    "y=Dropout(x,half,yes)": "Dropout in training is random",
    "a=ReduceSum(x) c=Cast<to=9>(a) y=If(c) <then_branch=p () => (float[2,6] q) "
    "{ q=Identity(x) }, else_branch=r () => (float[2,6] s2) { s2=Neg(x) }>":
        "depends on a computed floating value",
    "a=Cast<to=17>(x) y=Cast<to=1>(a)": "the rounding to FLOAT8E4M3FN has no meaning over a field",
    "a=Cast<to=7>(x) b=Add(a,a) y=Cast<to=1>(b)": "arithmetic on integers or conditions",
    "s2,y=Loop(two,,half) <body=b (int64 i, bool c, float h) => (bool c, float k, float h) "
    "{ k=ReduceSum<keepdims=0>(x) }>": " stacks computed values beside constants",
    "s2,t=Loop(two,,half) <body=b (int64 i, bool c, float h) => (bool c, float k, float h) "
    "{ k=ReduceSum<keepdims=0>(x) }> y=Neg(t)": "a loop stacks computed values beside constants",
    "y=Scan<num_scan_inputs=1,body=b (float[6] r) => (float[6] q) { q=Neg(r) }>(x)":
        "Scan has no meaning over a field",
    "y=ScatterElements<reduction=\"mul\">(x,at,x)": "reduction 'mul' has no meaning over a field",
    "c=Less(x,half) y=Concat<axis=0>(c,x)": "mixes conditions and numbers",
    "y=Einsum<equation=\"ab,ab,ab->ab\">(x,x,x)": "Einsum of 3 operands is not known here",
    "a=Cast<to=7>(x) y=CastLike(x,a)": "which integer type a computed integer has is not known",
    "y=BatchNormalization<training_mode=1>(x,s,s,s,s)":
        "BatchNormalization in training is not known here",
    "y=ArgMax<select_last_index=1>(x)": "which of equal elements comes last is not known here",
    "a=Unsqueeze(x,first) b,y=MaxPool<kernel_shape=[2]>(a)":
        "the places of largest elements are not known here",
    "y=SequenceConstruct(x)": "output 'y' is a sequence",
    "y=com.microsoft.Gelu<shape=3>(x)": "has no meaning over a field; known for this op",
}  # fmt: skip


@pytest.mark.parametrize("lines", UNSUPPORTED)
def test_what_has_no_meaning_is_unsupported(lines: str) -> None:
    arrays = {name: ARRAYS[name] for name in ("half", "two", "s", "first")}
    arrays |= {"yes": np.array(True), "at": np.zeros((2, 6), np.int64)}
    one = body(X, lines, **arrays)
    proof = prove_equal(one, clone(one))
    assert proof.verdict == "unsupported"
    assert UNSUPPORTED[lines] in proof.detail


@pytest.mark.parametrize(
    ("interface", "lines", "opset", "reason"),
    [
        (X, "y=Add<broadcast=1>(x,s)", 6, "broadcasting of opset 6 and older is not known here"),
        ("(string[2] x) => (string[2] y)", "y=Identity(x)", 20, "of type STRING cannot be drawn"),
        ("(seq(float[2]) x) => (int64 y)", "y=SequenceLength(x)", 20, "nothing can be drawn for"),
    ],
)
def test_what_cannot_be_drawn_is_unsupported(
    interface: str, lines: str, opset: int, reason: str
) -> None:
    one = body(interface, lines, opset=opset, s=ARRAYS["s"])
    proof = prove_equal(one, clone(one))
    assert (proof.verdict, reason in proof.detail) == ("unsupported", True)


def nudged(original: ir.Model, choice: int) -> ir.Model:
    """A clone with one element of one floating initializer raised by a quarter."""
    made = clone(original)
    values = [v for v in made.graph.initializers.values() if v.dtype == ir.DataType.FLOAT]
    values = [v for v in values if v.const_value.size and not v.is_graph_input()]
    if values:
        value = values[choice % len(values)]
        array = value.const_value.numpy().copy()
        array.flat[choice % array.size] += 0.25
        value.const_value = ir.Tensor(array)
    return made


@settings(max_examples=60)
@given(models(), st.integers(0, 1000))
def test_nothing_is_proved_that_evaluation_contradicts(original: ir.Model, choice: int) -> None:
    changed = nudged(original, choice)
    if prove_equal(original, changed).verdict != "proved":
        return
    feeds = feeds_for(original.graph.inputs)
    pair = [evaluate(m, feeds, precision=np.float64) for m in (original, changed)]
    for name, expected in pair[0].items():
        if not isinstance(expected, list):
            actual = pair[1][name]
            # A proof is about points where everything is defined: 0 * sqrt(-1) is 0 in the field.
            undefined = np.isnan(expected) | np.isnan(actual)
            near = np.isclose(actual, expected, rtol=1e-9, atol=1e-9)
            assert np.all(near | undefined), name


def test_models_with_other_interfaces_are_refused() -> None:
    one, other = body(X, "y=Neg(x)"), body("(float[2,6] z) => (float[2,6] y)", "y=Neg(z)")
    with pytest.raises(InputError, match="expected models with the same inputs"):
        prove_equal(one, other)
    with pytest.raises(InputError, match="at least one seed"):
        prove_equal(one, one, seeds=())


def test_sizes_that_must_agree_are_found_or_given() -> None:
    one = body("(float[A,3] x, float[B,3] z) => (float[A,3] y)", "y=Add(x,z)")
    assert prove_equal(one, clone(one)).verdict == "proved"
    assert prove_equal(one, clone(one), sizes={"A": 4, "B": 4}).verdict == "proved"
    assert prove_equal(one, clone(one), sizes={"A": 4, "B": 3}).verdict == "unsupported"


def test_rounding_is_measured_in_ulps() -> None:
    exact = np.array([0.1, 1.0, -3.3])
    assert rounding_ulps(exact.astype(np.float32), exact) <= 0.5
    assert rounding_ulps(np.array([1 + 2**-22], np.float32), np.array([1.0])) == 2
    assert rounding_ulps(np.array([np.inf], np.float32), np.array([1.0])) == np.inf
    assert rounding_ulps(np.array([np.nan], np.float32), np.array([np.nan])) == 0
    assert rounding_ulps(np.empty(0, np.float32), np.empty(0)) == 0


def test_a_result_is_looked_up_only_for_the_same_computation() -> None:
    # Large enough that results are kept; the two differ in one attribute, or in one weight.
    text = """<ir_version: 10, opset_import: ["": 20]>
        g (float[70,70] x) => (float[70,70] y) <float[70,70] w = {FILL}> {
            a = MatMul(x, w)
            y = Gelu <approximate = "MODE"> (a)
        }"""

    def model(mode: str, last: str) -> ir.Model:
        weights = ", ".join(["1"] * 4899 + [last])
        return parse_text(text.replace("FILL", weights).replace("MODE", mode))

    assert prove_equal(model("tanh", "1"), model("tanh", "1")).verdict == "proved"
    assert prove_equal(model("tanh", "1"), model("none", "1")).verdict == "unproved"
    assert prove_equal(model("tanh", "1"), model("tanh", "1.0000001")).verdict == "unproved"
