"""The small models that other optimizers get wrong, break or crash on, by name.

Each goes through every exact pass and must come out well formed, equal in meaning, runnable and
at a fixed point (`tests.soundness.check`); most must also come out optimized.
"""

import numpy as np
import onnx_ir as ir
import pytest

from addax.ir.parser import parse_text
from addax.passes._pipeline import run_pipeline
from addax.testing.cases import draw
from addax.testing.strategies.arrays import Kind, feeds_for
from tests.soundness import check


def model(body: str, opset: int = 20) -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["": {opset}]>\ng {body}'
    return draw(text, Kind.PLAIN, 7)


def optimized(body: str, opset: int = 20, **sizes: int) -> ir.Model:
    before = model(body, opset)
    feeds = feeds_for(before.graph.inputs, Kind.PLAIN, 3, sizes)
    return check(before, feeds)


def operators(m: ir.Model) -> list[str]:
    return [node.op_type for node in m.graph]


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("shape", ["1", "1,1,1", "3,1,1", "1,3,1,1"])
def test_conv_followed_by_mul_keeps_the_batch(batch: int, shape: str):
    """onnxslim folds it to batch 1."""
    m = optimized(
        f"(float[{batch},2,5,5] x) => (float[{batch},3,3,3] y)"
        f" <float[3,2,3,3] w, float[3] b, float[{shape}] s> {{ a = Conv(x, w, b) y = Mul(a, s) }}"
    )
    assert operators(m) == ["Conv"]


@pytest.mark.parametrize("batch", [1, 3])
def test_conv_transpose_followed_by_mul_keeps_the_batch(batch: int):
    m = optimized(
        f"(float[{batch},2,3,3] x) => (float[{batch},3,5,5] y)"
        " <float[2,3,3,3] w, float[3,1,1] s> { a = ConvTranspose(x, w) y = Mul(a, s) }"
    )
    assert operators(m) == ["ConvTranspose"]


def test_conv_followed_by_mul_with_a_whole_image_is_no_scale():
    m = optimized(
        "(float[2,2,3,3] x) => (float[2,3,3,3] y) <float[3,2,1,1] w, float[3,3] s>"
        " { a = Conv(x, w) y = Mul(a, s) }"
    )
    assert operators(m) == ["Conv", "Mul"]


@pytest.mark.parametrize("n", [1, 3])
def test_a_dynamic_dimension_that_broadcasts(n: int):
    optimized(
        "(float[N,1] x, float[1,3] z) => (float[N,3] y) <float[1,1] one = {1}>"
        " { a = Mul(x, one) y = Add(a, z) }",
        N=n,
    )


def test_a_dynamic_dimension_may_be_enlarged_by_ones():
    """Mul(x[N,3], ones[4,3]) is x only where N is 4: it may be 1."""
    before = model(
        "(float[N,3] x) => (float[4,3] y) <float[4,3] ones = {1,1,1, 1,1,1, 1,1,1, 1,1,1}>"
        " { y = Mul(x, ones) }"
    )
    for n in (1, 4):
        check(before, feeds_for(before.graph.inputs, Kind.PLAIN, 0, {"N": n}))


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax"])
@pytest.mark.parametrize("inner", [0, 1])
@pytest.mark.parametrize("outer", [0, 1])
def test_reduce_of_reduce_with_keepdims(op: str, inner: int, outer: int):
    """onnxsim merges the axes as if the inner one had been kept."""
    rank = 3 - (1 - inner) - (1 - outer)
    out = ",".join("abc"[:rank])
    optimized(
        f"(float[2,3,4] x) => (float[{out}] y) <int64[1] one = {{1}}>"
        f" {{ a = {op}<keepdims={inner}>(x, one) y = {op}<keepdims={outer}>(a, one) }}"
    )


def test_transpose_of_split():
    """onnxsim crashes."""
    optimized(
        "(float[2,4,3] x) => (float[3,2,2] y, float[2,2,3] z) {"
        " a, b = Split<axis=1, num_outputs=2>(x)"
        " y = Transpose<perm=[2,0,1]>(a) z = Transpose<perm=[0,1,2]>(b) }"
    )


def test_log_softmax_of_large_numbers():
    """onnxsim makes NaN of it."""
    before = model("(float[2,3] x) => (float[2,3] y) { a = Softmax<axis=1>(x) y = Log(a) }")
    check(before, {"x": np.float32([[0, 1, 2], [5, -5, 0]])})
    check(before, {"x": np.float32([[0, 200, -200], [1e4, 1e4, -1e4]])})
    check(model("(float[2,3] x) => (float[2,3] y) { y = LogSoftmax<axis=1>(x) }"),
          {"x": np.float32([[0, 200, -200], [1e4, 1e4, -1e4]])})  # fmt: skip


@pytest.mark.parametrize("low", [-1.5, 0.0, 0.5])
@pytest.mark.parametrize("high", [-0.5, 0.0, 1.0])
def test_relu_of_clip_with_negative_bounds(low: float, high: float):
    """onnxscript makes Clip(x, 0, -0.5) of Relu(Clip(x, -1.5, -0.5))."""
    bounds = f"<float low = {{{low}}}, float high = {{{high}}}>"
    optimized(f"(float[8] x) => (float[8] y) {bounds} {{ a = Clip(x, low, high) y = Relu(a) }}")
    optimized(f"(float[8] x) => (float[8] y) {bounds} {{ a = Relu(x) y = Clip(a, low, high) }}")


def test_two_clips_that_share_an_input():
    """onnxscript crashes."""
    optimized(
        "(float[8] x) => (float[8] y) <float low = {-1}, float high = {0.5}, float z = {0}>"
        " { a = Clip(x, low, high) b = Clip(a, z, high) c = Clip(a, low, z) y = Add(b, c) }"
    )


def test_two_clips_of_one_another():
    bounds = "<float a = {-1}, float b = {1}, float c = {-2}, float d = {0.5}>"
    m = optimized(
        f"(float[8] x) => (float[8] y) {bounds} {{ u = Clip(x, a, b) y = Clip(u, c, d) }}"
    )
    assert operators(m) == ["Clip"]


def test_a_decomposed_layer_norm_whose_intermediate_nobody_uses():
    """ONNX Runtime leaves a dangling input."""
    optimized(
        "(float[2,4] x) => (float[2,4] y) <int64[1] axes = {-1}, float two = {2.0},"
        " float eps = {1e-5}, float[4] g, float[4] b> {"
        " m = ReduceMean(x, axes) d = Sub(x, m) p = Pow(d, two) v = ReduceMean(p, axes)"
        " unused = Neg(v) e = Add(v, eps) s = Sqrt(e) q = Div(d, s) h = Mul(q, g) y = Add(h, b) }"
    )


def test_a_decomposed_layer_norm_whose_intermediate_is_an_output():
    m = optimized(
        "(float[2,4] x) => (float[2,4] y, float[2,1] v) <int64[1] axes = {-1}, float two = {2.0},"
        " float eps = {1e-5}, float[4] g, float[4] b> {"
        " m = ReduceMean(x, axes) d = Sub(x, m) p = Pow(d, two) v = ReduceMean(p, axes)"
        " e = Add(v, eps) s = Sqrt(e) q = Div(d, s) h = Mul(q, g) y = Add(h, b) }"
    )
    assert [v.name for v in m.graph.outputs] == ["y", "v"]


def test_reshapes_that_share_one_target():
    """A pass that edits the target of one edits it for both."""
    optimized(
        "(float[2,3,4] x, float[4,6] z) => (float[a,b] y, float[c,d] u) <int64[2] t = {2, -1}>"
        " { p = Reshape(x, t) y = Relu(p) q = Reshape(z, t) u = Neg(q) }"
    )


def test_shared_minus_one_constants():
    optimized(
        "(float[2,3,4] x) => (float[24] y, float[2,3] z) <int64[1] t = {-1}>"
        " { y = Reshape(x, t) z = ReduceSum<keepdims=0>(x, t) }"
    )


@pytest.mark.parametrize("condition", [True, False])
def test_an_if_that_captures_an_outer_value(condition: bool):
    """The captured value must survive whatever becomes of its maker and of the branch."""
    before = model("""(bool c, float[2] x) => (float[2] y) <float[2] zero = {0, 0}> {
        a = Identity(x)
        b = Add(a, zero)
        y = If (c) <
            then_branch = t () => (float[2] p) { n = Neg(b) p = Neg(n) },
            else_branch = e () => (float[2] q) { q = Identity(a) }
        >
    }""")
    check(before, {"c": np.array(condition), "x": np.float32([1, -2])})


def test_an_if_that_nobody_reads():
    """Its dead bodies must not keep alive, or be left reading, what is outside."""
    m = optimized("""(bool c, float[2] x) => (float[2] y) {
        a = Exp(x)
        dead = If (c) <
            then_branch = t () => (float[2] p) { p = Neg(a) },
            else_branch = e () => (float[2] q) { q = Relu(a) }
        >
        y = Tanh(x)
    }""")
    assert operators(m) == ["Tanh"]


def test_an_if_of_a_constant_inside_a_loop_that_captures():
    optimized("""(float[2] x) => (float[2] y) <int64 n = {2}, bool yes = {1}> {
        a = Exp(x)
        y = Loop (n, yes, x) <body = b (int64 i, bool c, float[2] s) => (bool d, float[2] r) {
            d = Identity(c)
            r = If (yes) <
                then_branch = t () => (float[2] p) { p = Add(s, a) },
                else_branch = e () => (float[2] q) { q = Sub(s, a) }
            >
        }>
    }""")


@pytest.mark.parametrize("exponent", [1.0, 2.0, 0.5, 3.0])
def test_pow_that_raises_the_rank(exponent: float):
    m = optimized(
        f"(float[3] x) => (float[1,1,3] y) <float[1,1,1] e = {{{exponent}}}>"
        " { a = Abs(x) y = Pow(a, e) }"
    )
    assert m.graph.outputs[0].shape.rank() == 3


@pytest.mark.parametrize("op", ["Add", "Mul", "Sub", "Div"])
def test_a_neutral_element_that_raises_the_rank(op: str):
    neutral = 1 if op in {"Mul", "Div"} else 0
    m = optimized(
        f"(float[3] x) => (float[1,3] y) <float[1,1] e = {{{neutral}}}> {{ y = {op}(x, e) }}"
    )
    assert m.graph.outputs[0].shape.rank() == 2


def test_a_replacement_that_is_a_graph_input():
    """Others rename the input of the model, or its output."""
    m = optimized("(float[2] x) => (float[2] y) { a = Neg(x) y = Neg(a) }")
    assert [v.name for v in m.graph.inputs] == ["x"]
    assert [v.name for v in m.graph.outputs] == ["y"]
    assert operators(m) == ["Identity"]


def test_a_replacement_that_is_an_initializer():
    m = optimized(
        "(float[2] x) => (float[2] y, float[2] z) <float[2] c> { y = Neg(x) z = Relu(c) }"
    )
    assert [v.name for v in m.graph.outputs] == ["y", "z"]


def test_one_value_that_becomes_two_outputs():
    m = optimized(
        "(float[2] x) => (float[2] y, float[2] z) { a = Relu(x) y = Identity(a) z = Identity(a) }"
    )
    assert [v.name for v in m.graph.outputs] == ["y", "z"]
    assert len({id(v) for v in m.graph.outputs}) == 2


def test_equal_nodes_that_are_both_outputs():
    m = optimized("(float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Relu(x) }")
    assert [v.name for v in m.graph.outputs] == ["y", "z"]


def test_an_input_that_is_an_output():
    before = parse_text(
        '<ir_version: 10, opset_import: ["": 20]> g (float[2] x) => (float[2] y) { y = Neg(x) }'
    )
    before.graph.outputs.append(before.graph.inputs[0])
    m = check(before, feeds_for(before.graph.inputs))
    assert [v.name for v in m.graph.outputs] == ["y", "x"]


def test_products_of_one_value_of_which_one_needs_the_other():
    """A pattern with two roots that are joined must not make a cycle."""
    optimized(
        "(float[2,3] x) => (float[2,3] y) <float[3,3] w, float[3,3] v> {"
        " a = MatMul(x, w) s = ReduceSum(a) u = Add(x, s) b = MatMul(u, v) y = Add(a, b) }"
    )


@pytest.mark.parametrize("tiny", [9e-9, 1e-10, 1e-38])
@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_a_tiny_number_is_not_zero(op: str, tiny: float):
    """onnxscript matches constants within an absolute 1e-8."""
    before = model(f"(float[2] x) => (float[2] y) <float c = {{{tiny}}}> {{ y = {op}(x, c) }}")
    check(before, {"x": np.float32([1e-9, -1e-38])})


def test_a_number_near_one_is_not_one():
    before = model("(float[2] x) => (float[2] y) <float c = {1.000001}> { y = Mul(x, c) }")
    m = check(before, {"x": np.float32([1, -2])})
    assert operators(m) == ["Mul"]


def test_a_constant_that_the_caller_may_override_is_none():
    before = model(
        "(float[2] x, float[2] c) => (float[2] y) <float[2] c = {0, 0}> { y = Add(x, c) }"
    )
    check(before, {"x": np.float32([1, 2]), "c": np.float32([3, 4])})


def test_weights_of_two_convolutions_are_scaled_for_one():
    optimized(
        "(float[2,2,3,3] x) => (float[2,2,3,3] y, float[2,2,3,3] z)"
        " <float[2,2,1,1] w, float[2,1,1] s> { a = Conv(x, w) y = Mul(a, s) z = Conv(x, w) }"
    )


@pytest.mark.parametrize("reverse", [False, True])
def test_the_result_does_not_depend_on_the_order_of_independent_nodes(reverse: bool):
    lines = ["a = Neg(x)", "b = Neg(a)", "c = Neg(z)", "d = Neg(c)", "y = Add(b, d)"]
    if reverse:
        lines = ["c = Neg(z)", "d = Neg(c)", "a = Neg(x)", "b = Neg(a)", "y = Add(b, d)"]
    m = model(f"(float[2] x, float[2] z) => (float[2] y) {{ {' '.join(lines)} }}")
    run_pipeline(m)
    assert operators(m) == ["Add"]


def test_layers_that_merge_below_layers_that_merge():
    """What the first merger replaces is what the second one reads."""
    optimized(
        "(float[2,2] x) => (float[2,2] y, float[2,2] z) <float[2,2] a, float[2,2] b,"
        " float[2,2] c, float[2,2] d> { u = MatMul(x, a) v = MatMul(x, b)"
        " p = MatMul(u, c) q = MatMul(u, d) y = Mul(p, v) z = Tanh(q) }"
    )
