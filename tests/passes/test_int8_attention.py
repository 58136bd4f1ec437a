"""Int8-attention: both products on integers, their errors as told, masks, and what stays."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import addax
from addax.errors import OptionError
from addax.ir.evaluate import evaluate
from addax.ir.ranges import Histograms
from addax.ir.statistics import CALIBRATION, HAS_KERNEL, IN_RUNTIME
from addax.passes._attention_products import CODED, SCORES, VALUES, find_products, find_source
from addax.passes._family import families
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.passes._static_codes import Codes
from addax.runtime.calibrate import Batches
from addax.testing.cases import build

HEAD = '<ir_version: 10, opset_import: ["": 20]> '
PLAIN = """g (float[N,2,9,16] q, float[N,2,16,9] k, float[N,2,9,16] v) => (float[N,2,9,16] y) {
    s = MatMul(q, k)
    p = Softmax(s)
    y = MatMul(p, v)
}"""
MASKED = """g (float[N,2,9,16] q, float[N,2,16,9] k, float[N,2,9,16] v, float[N,1,9,9] m)
    => (float[N,2,9,16] y) {
    s = MatMul(q, k)
    l = Log(m)
    t = Add(s, l)
    p = Softmax(t)
    y = MatMul(p, v)
}"""
PACKED = """g (float[N,9,96] x) => (float[N,9,32] y)
    <int64[4] heads = {0,9,2,16}, int64[3] flat = {0,9,32}, int64[3] parts = {32,32,32}> {
    q, k, v = Split<axis=2>(x, parts)
    q4 = Reshape(q, heads)
    k4 = Reshape(k, heads)
    v4 = Reshape(v, heads)
    qt = Transpose<perm=[0,2,1,3]>(q4)
    kt = Transpose<perm=[0,2,3,1]>(k4)
    vt = Transpose<perm=[0,2,1,3]>(v4)
    s = MatMul(qt, kt)
    p = Softmax(s)
    o = MatMul(p, vt)
    ot = Transpose<perm=[0,2,1,3]>(o)
    y = Reshape(ot, flat)
}"""
LINEAR = """g (float[N,2,9,16] q, float[N,2,16,9] k, float[N,2,9,16] v) => (float[N,2,9,16] y) {
    s = MatMul(q, k)
    p = Relu(s)
    y = MatMul(p, v)
}"""
ALLOW = "int8-attention"


def batch(seed: int = 0, size: int = 32, hidden: int | None = None) -> dict[str, np.ndarray]:
    """Inputs; with `hidden`, 0 for the places from there on, whose logarithm masks them."""
    random = np.random.default_rng(seed)
    shapes = {"q": (size, 2, 9, 16), "k": (size, 2, 16, 9), "v": (size, 2, 9, 16)}
    made = {n: random.normal(size=shape).astype(np.float32) for n, shape in shapes.items()}
    made["q"] /= 2
    if hidden is not None:
        row = np.where(np.arange(9) < hidden, 1, 0).astype(np.float32)
        made["m"] = np.broadcast_to(row, (size, 1, 9, 9)).copy()
    return made


def optimized(
    text: str, allow: str = ALLOW, data: dict[str, np.ndarray] | None = None
) -> tuple[ir.Model, addax.Optimized]:
    model = build(HEAD + text, [])
    batches = [batch(0) if data is None else data]
    return model, addax.optimize(model, target="portable", allow=(allow,), calibration=batches)


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def errors(made: addax.Optimized) -> list[float]:
    """What the report says of each product."""
    return [float(n.rpartition(" ")[2]) for n in made.report.notes if "MatMulIntegerToFloat" in n]


def test_both_products_become_integers_with_the_errors_that_the_report_says():
    model, made = optimized(PLAIN)
    assert [
        "QuantizeLinear", "QuantizeLinear", "MatMulIntegerToFloat", "Softmax",
        "QuantizeLinear", "QuantizeLinear", "MatMulIntegerToFloat",
    ] == operators(made.model)  # fmt: skip
    first, second, network = made.report.notes[:3]
    assert "queries of 8 bits in [" in first
    assert "keys of 8 bits in [" in first
    assert "softmax of 8 bits in [0, " in second
    assert "values of 8 bits in [" in second
    data = batch(0)
    error = relative(made.session.run(data)["y"], evaluate(model, data)["y"])
    assert float(network.rpartition(" ")[2]) == pytest.approx(error, rel=0.01)
    # Both errors are independent, and that of the scores is damped by the softmax.
    assert max(errors(made)) / 2 < error < sum(errors(made))
    assert "approximate" == made.report.exactness


def test_the_runtime_and_the_evaluator_agree_to_the_last_bits():
    _, made = optimized(PLAIN)
    data = batch(3)
    expected = evaluate(made.model, data)["y"]
    np.testing.assert_allclose(made.session.run(data)["y"], expected, rtol=0, atol=0.02)
    assert relative(made.session.run(data)["y"], expected) < 1e-3


def test_bytes_are_moved_and_not_floats():
    x = np.random.default_rng(0).normal(size=(16, 9, 96)).astype(np.float32)
    model, made = optimized(PACKED, data={"x": x})
    moved = [node for node in made.model.graph if node.op_type == "Transpose"]
    kinds = {node.inputs[0].dtype for node in moved if node.outputs[0].dtype != ir.DataType.FLOAT}
    assert {ir.DataType.UINT8, ir.DataType.INT8} == kinds
    assert 4 == len(moved)
    assert relative(made.session.run({"x": x})["y"], evaluate(model, {"x": x})["y"]) < 0.03


def test_masks_stay_and_rows_that_see_nothing_are_zeros():
    data = batch(0, hidden=5)
    model, made = optimized(MASKED, data=data)
    assert "Add" in operators(made.model)
    assert relative(made.session.run(data)["y"], evaluate(model, data)["y"]) < 0.03
    data["m"][0, 0, 3] = 0
    actual = made.session.run(data)["y"]
    assert np.isfinite(actual).all()
    np.testing.assert_array_equal(np.zeros((2, 16)), actual[0, :, 3])


def test_calibration_on_rows_that_see_nothing_is_as_good():
    data = batch(0, hidden=5)
    data["m"][:4] = 0
    _, made = optimized(MASKED, data=data)
    assert 2 == operators(made.model).count("MatMulIntegerToFloat")
    assert max(errors(made)) < 0.03


def test_softmax_relative_to_the_maximum_of_its_row_loses_less():
    data = batch(0)
    data["q"][:16] *= 30  # one token draws all
    data["q"][16:] /= 30  # all draw alike, for which 1 / 255 is coarse
    data["v"] = (data["v"] > 0).astype(np.float32)  # exact in codes
    model, plain = optimized(PLAIN, data=data)
    _, by_rows = optimized(PLAIN, f"{ALLOW}{{each_row=True}}", data)
    assert "softmax over the maximum of its row, of 8 bits in [0, 1]" in by_rows.report.notes[1]
    found = [errors(made)[1] for made in (plain, by_rows)]
    assert found[1] < 0.5 * found[0]
    exact = evaluate(model, data)["y"]
    assert relative(by_rows.session.run(data)["y"], exact) < 0.1
    added = [name for name in operators(by_rows.model) if name in {"ReduceMax", "Div", "Mul"}]
    assert ["ReduceMax", "Div", "Mul"] == added


def test_the_range_of_softmax_is_as_small_as_pays():
    data = batch(0)
    for scale, end in ((30, "[0, 1]"), (0.01, "[0, 0.25]")):
        _, made = optimized(PLAIN, data=data | {"q": data["q"] * np.float32(scale)})
        assert f"softmax of 8 bits in {end}" in made.report.notes[1]


def test_fewer_bits_lose_more_and_a_budget_keeps_products():
    found = [max(errors(optimized(PLAIN, f"{ALLOW}{{bits='w8a{b}'}}")[1])) for b in (8, 6, 4)]
    assert found == sorted(found)
    _, four = optimized(PLAIN, f"{ALLOW}{{bits='w4a4'}}")
    assert 3 == operators(four.model).count("Clip")  # softmax keeps its 8 bits
    _, kept = optimized(PLAIN, f"{ALLOW}{{max_error=1e-4}}")
    assert ["MatMul", "Softmax", "MatMul"] == operators(kept.model)
    assert "above 0.0001" in kept.report.notes[0]


def test_codes_of_few_bits_are_what_a_byte_holds_of_them():
    model, made = optimized(PLAIN, f"{ALLOW}{{bits='w4a4'}}")
    rounded = [n for n in made.model.graph if n.op_type == "QuantizeLinear"]
    clipped = [n.outputs[0] for n in rounded if n.inputs[0].producer() is not None]
    clipped = [v for v in clipped if v.producer().inputs[0].producer().op_type == "Clip"]
    probe = ir.Model(made.model.graph.clone(), ir_version=10)
    probe.opset_imports.update(made.model.opset_imports)
    probe.graph.outputs[:] = [
        next(v for n in probe.graph for v in n.outputs if v.name == c.name) for c in clipped
    ]
    far = {name: array * 5 for name, array in batch(1).items()}
    for array in evaluate(probe, far).values():
        assert 15 == int(array.max()) - int(array.min())
    assert evaluate(model, far)["y"].shape == made.session.run(far)["y"].shape


def test_processors_that_saturate_get_signed_codes_of_seven_bits():
    _, made = optimized(PLAIN, f"{ALLOW}{{reduce_range=True}}")
    assert "keys of 7 bits in" in made.report.notes[0]
    assert "values of 7 bits in" in made.report.notes[1]
    assert "queries of 8 bits in" in made.report.notes[0]


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (PLAIN.replace("float[", "float16["), None, "it multiplies FLOAT16, and integers replace"),
        (PLAIN, "few", "queries were seen on 288 numbers, and a range needs 4096"),
        (PLAIN, "zeros", "its keys are 0 on all calibration data"),
        (PLAIN, "wide", "its products are not finite"),
        (PLAIN, "skip", "skip= names it"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_stays_and_why(text, name, said):
    data = batch(0, size=1) if name == "few" else batch(0)
    if name == "zeros":
        data["k"] *= 0
    if name == "wide":
        data["q"] = data["q"] * np.float32(1e38)
    if "float16" in text:
        data = {key: array.astype(np.float16) for key, array in data.items()}
    allow = f"{ALLOW}{{skip=('*',)}}" if name == "skip" else ALLOW
    _, made = optimized(text, allow, data)
    assert any(said in note for note in made.report.notes), made.report.notes
    assert "MatMul" == operators(made.model)[0]


def test_values_that_are_not_finite_keep_their_product():
    data = batch(0)
    data["v"] = data["v"] * 0 + np.float32(3e38)
    text = PLAIN.replace("y = MatMul(p, v)", "w = Add(v, v)\n    y = MatMul(p, w)")
    with np.errstate(all="ignore"):
        _, made = optimized(text, data=data)
    assert any("its values are not finite on the calibration data" in n for n in made.report.notes)
    assert 1 == operators(made.model).count("MatMulIntegerToFloat")


def test_products_that_are_no_attention_stay_without_a_word():
    _, made = optimized(LINEAR)
    assert not [note for note in made.report.notes if note.startswith(ALLOW)]
    assert ["MatMul", "Relu", "MatMul"] == operators(made.model)


def served(allow: str) -> ir.Model:
    """With kernels for codes of attention, in the passes alone."""
    model = build(HEAD + PLAIN, [])
    facts = {
        HAS_KERNEL: lambda node: node.op_type == "LogCodeAttention",
        CALIBRATION: Batches(model, [batch()]),
    }
    run_pipeline(model, Pipeline.parse(allow), facts=facts)
    return model


def test_where_there_are_kernels_softmax_times_v_is_left_to_codes():
    made = served("log2-softmax,int8-attention")
    assert [
        "QuantizeLinear", "QuantizeLinear", "MatMulIntegerToFloat", "LogCodeAttention",
    ] == operators(made)  # fmt: skip
    few = served("log2-softmax,int8-attention{bits='w4a4'}")
    assert [
        "Clip", "QuantizeLinear", "Clip", "QuantizeLinear", "MatMulIntegerToFloat",
        "Clip", "QuantizeLinear", "DequantizeLinear", "LogCodeAttention",
    ] == operators(few)  # fmt: skip
    data, model = batch(5), build(HEAD + PLAIN, [])
    for each, most in ((made, 0.06), (few, 0.3)):
        assert relative(evaluate(each, data)["y"], evaluate(model, data)["y"]) < most


def test_a_target_without_onnx_runtime_keeps_its_products():
    model = build(HEAD + PLAIN, [])
    facts = {IN_RUNTIME: False, CALIBRATION: Batches(model, [batch()])}
    run_pipeline(model, Pipeline.parse(ALLOW), facts=facts)
    assert ["MatMul", "Softmax", "MatMul"] == operators(model)
    assert "ONNX Runtime does not run the model on this target" in facts["notes"][0]


def test_products_are_told_apart():
    model = served("log2-softmax")
    assert [SCORES, CODED] == [each.kind for each in find_products(model.graph)]
    plain = build(HEAD + PACKED, [])
    assert [SCORES, VALUES] == [each.kind for each in find_products(plain.graph)]
    first, _ = find_products(plain.graph)
    source, moves = find_source(first.right)
    assert ["Reshape", "Transpose"] == [node.op_type for node in moves]
    assert "Split" == source.producer().op_type


@given(st.integers(0, 9999), st.integers(2, 8), st.booleans(), st.floats(-3, 3), st.floats(0.01, 9))
@settings(max_examples=50)
def test_codes_are_off_by_half_a_step_within_their_range(seed, bits, signed, middle, spread):
    x = np.random.default_rng(seed).normal(middle, spread, (400, 1)).astype(np.float32)
    codes = Codes.of(float(x.min()), float(x.max()), bits, signed=signed)
    low, high = codes.bounds
    inside = np.clip(x, low, high)
    assert np.abs(codes.decoded(x) - inside).max() <= float(codes.scale) * 0.5001
    assert 0 == codes.decoded(np.zeros(1))[0]
    assert (-128 if signed else 0) <= int(codes.stored_zero) <= (127 if signed else 255)
    seen = Histograms(1)
    seen.add(x)
    best = Codes.best(seen, bits, signed=signed)

    def lost(made: Codes) -> float:
        return float(np.square(made.decoded(x) - x).mean())

    assert lost(best) <= lost(codes) * 1.1 + 1e-12


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{bits='w4a9'}", "int8-attention: bits='w4a9' asks for activations of 9 bits"),
        ("{bits=4}", "int8-attention: bits must be a text such as 'w8a8'"),
        ("{skip='head'}", r"skip must be a tuple of names, such as \('node_0',\); got 'head'"),
        ("{max_error=0}", "max_error must be a positive number or None; got 0"),
    ],
)
def test_options_are_validated(text, said):
    with pytest.raises(OptionError, match=said):
        optimized(PLAIN, ALLOW + text)


def test_no_data_is_refused_and_the_order_is_that_of_what_it_builds_on():
    with pytest.raises(OptionError, match="int8-attention needs calibration=batches"):
        run_pipeline(build(HEAD + PLAIN, []), Pipeline.parse(ALLOW))
    names = list(families())
    order = ["layernorm-reparam", "log2-softmax", "int8-attention", "int8", "integer-bias"]
    assert order == sorted(order, key=names.index)
