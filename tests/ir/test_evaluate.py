"""What evaluating a model means: scopes, functions, precision, lifetimes, what it costs."""

import time
import weakref

import numpy as np
import onnx_ir as ir
import pytest

from addax.errors import InputError
from addax.ir.evaluate import Judge, evaluate

X = np.array([[-1.5, 0.0, 2.0], [3.0, -4.0, 0.5]], dtype=np.float32)


def model(text: str, opset: int = 20, more: str = "") -> ir.Model:
    head = f'<ir_version: 10, opset_import: ["": {opset}{more}]>'
    return ir.from_onnx_text(head + text)


def test_outputs_come_by_name_in_the_models_own_types():
    m = model("g (float[N,3] x) => (float[N,3] y, int64[2] s) { y = Relu(x)\n s = Shape(x) }")
    got = evaluate(m, {"x": X})
    assert list(got) == ["y", "s"]
    assert got["y"].dtype == np.float32
    assert np.array_equal(np.maximum(X, 0), got["y"])
    assert np.array_equal([2, 3], got["s"])


def test_a_judge_runs_many_times_and_feeds_stay_as_they_were():
    m = model("g (float[N,3] x) => (float[N,3] y) { t = Exp(x)\n y = Softmax(t) }")
    judge = Judge(m)
    kept = X.copy()
    first = judge.run({"x": X})["y"]
    assert np.array_equal(first, judge.run({"x": X})["y"])
    assert np.array_equal(kept, X)


def test_writing_to_an_output_changes_neither_feeds_nor_constants():
    m = model(
        "g (float[2,3] x) => (float[3,2] y, float[2,3] z, float[3] c) <float[3] w = {1, 2, 3}>"
        "{ s = Constant<value_ints = [3, 2]>()\n y = Reshape(x, s)\n z = Identity(x)\n"
        "  c = Identity(w) }"
    )
    judge, x = Judge(m), X.copy()
    for value in judge.run({"x": x}).values():
        value[...] = 7
    assert np.array_equal(X, x)
    assert np.array_equal([1, 2, 3], judge.run({"x": x})["c"])


@pytest.mark.parametrize("condition", [True, False])
def test_branches_read_values_of_the_scopes_around_them(condition):
    m = model(
        """g (bool c, float[N,3] x) => (float[N,3] y) <float[3] w = {1, 2, 3}> {
            a = Neg(x)
            y = If(c) <
                then_branch = t () => (float[N,3] r) {
                    r = If(c) <then_branch = tt () => (float[N,3] q) { q = Add(a, w) },
                               else_branch = te () => (float[N,3] q) { q = Identity(a) }>
                },
                else_branch = e () => (float[N,3] r) { r = Mul(x, w) }>
        }"""
    )
    got = evaluate(m, {"c": np.array(condition), "x": X})["y"]
    assert np.array_equal(-X + [1, 2, 3] if condition else X * [1, 2, 3], got)


LOOP = """g (int64 n, bool go, float[3] x) => (float[3] y, float[K,3] rows) {
    y, rows = Loop(n, go, x) <body = b (int64 i, bool c, float[3] s)
            => (bool again, float[3] t, float[3] row) {
        t = Add(s, x)
        row = Identity(s)
        limit = Constant<value_float = 5.0>()
        total = ReduceMax<keepdims = 0>(t)
        again = Less(total, limit)
    }>
}"""


@pytest.mark.parametrize(("trips", "go", "rows"), [(2, True, 2), (9, True, 4), (0, True, 0),
                                                   (3, False, 0)])  # fmt: skip
def test_loops_stop_at_their_trip_count_or_condition(trips, go, rows):
    x = np.array([1, 0, 0.5], dtype=np.float32)
    feeds = {"n": np.array(trips), "go": np.array(go), "x": x}
    got = evaluate(model(LOOP), feeds)
    assert (rows, 3) == got["rows"].shape
    assert np.array_equal(x * (rows + 1), got["y"])
    assert np.array_equal(x * np.arange(1, rows + 1, dtype=np.float32)[:, None], got["rows"])
    assert got["rows"].dtype == np.float32


def test_scans_go_along_any_axis_in_any_direction():
    m = model(
        """g (float[3] s, float[2,T,3] x) => (float[3] last, float[3,T] sums) {
            last, sums = Scan<num_scan_inputs = 1, scan_input_axes = [1],
                scan_input_directions = [1], scan_output_axes = [1],
                scan_output_directions = [1], body = b (float[3] a, float[2,3] row)
                => (float[3] c, float[3] d) {
                axes = Constant<value_ints = [0]>()
                r = ReduceSum<keepdims = 0>(row, axes)
                c = Add(a, r)
                d = Identity(c)
            }>(s, x)
        }"""
    )
    x = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    got = evaluate(m, {"s": np.zeros(3, np.float32), "x": x})
    expected = np.cumsum(x.sum(axis=0)[::-1], axis=0)
    assert np.array_equal(expected[-1], got["last"])
    assert np.array_equal(expected[::-1].T, got["sums"])


FUNCTIONS = """g (float[N,3] x) => (float[N,3] y) { y = f.Outer<slope = 0.5>(x) }
<domain: "f", opset_import: ["": 20, "f": 1]>
Outer <slope, shift: float = 2.0> (x) => (y) {
    a = f.Inner<alpha: float = @slope>(x)
    b = Constant<value_float: float = @shift>()
    y = Add(a, b)
}
<domain: "f", opset_import: ["": 20]>
Inner <alpha, unused> (x, extra) => (y) {
    t = LeakyRelu<alpha: float = @alpha>(x)
    y = Elu<alpha: float = @unused>(t)
}"""


def test_functions_bind_attributes_defaults_and_absent_inputs():
    got = evaluate(model(FUNCTIONS, more=', "f": 1'), {"x": X})["y"]
    leaky = np.where(X < 0, 0.5 * X, X)
    expected = np.where(leaky < 0, np.expm1(leaky), leaky) + 2
    np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(np.float32).eps)


def test_a_function_of_the_model_goes_before_a_kernel():
    m = model(
        """g (float[N,3] x) => (float[N,3] y) { y = com.microsoft.Gelu(x) }
        <domain: "com.microsoft", opset_import: ["": 20]> Gelu (x) => (y) { y = Neg(x) }""",
        more=', "com.microsoft": 1',
    )
    assert np.array_equal(-X, evaluate(m, {"x": X})["y"])


def test_a_body_in_the_schema_is_as_good_as_a_class():
    m = model("g (float[N,3] x) => (float[N,3] y) {y = MeanVarianceNormalization<axes = [1]>(x)}")
    got = evaluate(m, {"x": X}, precision=np.float64)["y"]
    x = X.astype(np.float64)
    expected = (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-9)
    np.testing.assert_allclose(got, expected, rtol=1e-14)


def test_a_fed_input_replaces_its_default():
    m = model("g (float[N,3] x, float[3] w) => (float[N,3] y) <float[3] w = {1, 2, 3}>"
              "{ y = Mul(x, w) }")  # fmt: skip
    assert np.array_equal(X * [1, 2, 3], evaluate(m, {"x": X})["y"])
    w = np.zeros(3, np.float32)
    assert np.array_equal(X * 0, evaluate(m, {"x": X, "w": w})["y"])


PROMOTED = """g (float[N,3] x, float16[3] h) => (float16[N,3] y, float[2] z, float[1] o) {
    a = Cast<to = 10>(x)
    b = CastLike(a, h)
    c = Mul(b, h)
    third = Constant<value = float16[1] {13653}>()
    y = Mul(c, third)
    s = Constant<value_ints = [2]>()
    z = ConstantOfShape(s)
    scale = Constant<value_float = 0.1>()
    code = Constant<value = uint8[1] {3}>()
    o = DequantizeLinear(code, scale)
}"""


def test_in_float64_no_float_is_rounded_to_anything_less():
    h = np.array([0.1, 0.2, 0.3], dtype=np.float16)
    got = evaluate(model(PROMOTED), {"x": X / 3, "h": h}, precision=np.float64)
    assert {v.dtype for v in got.values()} == {np.dtype(np.float64)}
    third = np.array(13653, dtype=np.uint16).view(np.float16).astype(np.float64)
    expected = (X / np.float32(3)).astype(np.float64) * h.astype(np.float64) * third
    assert np.array_equal(expected, got["y"])
    assert got["o"][0] == 3 * float(np.float32(0.1))


def test_a_promoted_input_may_be_fed_more_exactly_than_it_is_declared():
    m = model("g (float[1] x) => (float[1] y) { y = Identity(x) }")
    exact = np.array([1 / 3])
    assert np.array_equal(exact, evaluate(m, {"x": exact}, precision=np.float64)["y"])
    with pytest.raises(InputError, match=r"convert it with \.astype"):
        evaluate(m, {"x": exact})


def test_float32_is_a_precision_too():
    m = model("g (double[1] x) => (double[1] y) { y = Exp(x) }")
    x = np.array([0.1])
    got = evaluate(m, {"x": x}, precision=np.float32)["y"]
    assert np.array_equal(np.exp(x.astype(np.float32)), got)


def test_strings_and_sequences_and_optionals_flow_through():
    m = model(
        """g (string[N] s, float[N,3] x) => (bool[N] same, seq(float[3]) rows, bool has) {
            key = Constant<value_string = "b">()
            same = Equal(s, key)
            rows = SplitToSequence<axis = 0, keepdims = 0>(x)
            nothing = Optional<type = float[3]>()
            has = OptionalHasElement(nothing)
        }"""
    )
    got = evaluate(m, {"s": np.array(["a", "b"]), "x": X})
    assert got["same"].tolist() == [False, True]
    assert [row.tolist() for row in got["rows"]] == X.tolist()
    assert not got["has"]


def test_watch_sees_feeds_and_values_of_every_scope_in_order():
    m = model(
        """g (float[N,3] x) => (float[N,3] y) {
            a = f.Twice(x)
            one = Constant<value_int = 1>()
            c = Cast<to = 9>(one)
            y = If(c) <then_branch = t () => (float[N,3] r) { r = Neg(a) },
                       else_branch = e () => (float[N,3] r) { r = Abs(a) }>
        }
        <domain: "f", opset_import: ["": 20]> Twice (v) => (w) { w = Add(v, v) }""",
        more=', "f": 1',
    )
    seen = []
    evaluate(m, {"x": X}, watch=lambda value, array: seen.append((value.name, array)))
    assert [name for name, _ in seen] == ["x", "w", "a", "c", "r", "y"]
    assert np.array_equal(-2 * X, seen[-1][1])
    assert next(iter(m.graph)).outputs[0].name == "a"


def test_a_value_is_freed_after_its_last_use():
    m = model("g (float[N,3] x) => (float[N,3] y) "
              "{ a = Exp(x)\n b = Neg(a)\n dead = Abs(b)\n c = Neg(b)\n y = Neg(c) }")  # fmt: skip
    alive, peaks = {}, {}

    def watch(value, array):
        alive[value.name] = weakref.ref(array)
        peaks[value.name] = {name for name, ref in alive.items() if ref() is not None} - {"x"}

    evaluate(m, {"x": X}, watch=watch)
    assert peaks["y"] <= {"c", "y"}


def test_reruns_of_a_scope_do_not_remember_the_last_one():
    judge = Judge(model(LOOP))
    feeds = {"go": np.array(True), "x": np.ones(3, np.float32)}
    first = judge.run({"n": np.array(3), **feeds})
    judge.run({"n": np.array(0), **feeds})
    again = judge.run({"n": np.array(3), **feeds})
    assert all(np.array_equal(first[k], again[k]) for k in first)


def test_a_small_graph_costs_far_less_than_a_millisecond():
    m = model(
        "g (float[N,3] x) => (float[N,3] y) <float[3] w = {1, 2, 3}>"
        "{ a = Add(x, w)\n b = Mul(a, w)\n c = Relu(b)\n d = Sub(c, x)\n y = Softmax(d) }"
    )
    evaluate(m, {"x": X})

    def cost(call):
        start = time.thread_time()
        for _ in range(50):
            call()
        return (time.thread_time() - start) / 50

    assert min(cost(lambda: evaluate(m, {"x": X})) for _ in range(5)) < 1e-3
    judge = Judge(m)
    assert min(cost(lambda: judge.run({"x": X})) for _ in range(5)) < 1e-4
