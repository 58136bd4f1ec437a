"""Int8: linear layers on integers, their error as reported, both operators, and what stays."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

import addax
from addax.backends.ort import form_of
from addax.errors import OptionError
from addax.ir.evaluate import evaluate
from addax.ir.statistics import CALIBRATION, HAS_KERNEL
from addax.passes._family import families
from addax.passes._int8 import IntegerWeights, by_tensor, by_token, sampled
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.runtime.calibrate import Batches
from addax.testing.cases import build

HEAD = '<ir_version: 10, opset_import: ["": 20]> '
LAYERS = """g (float[N,9,96] x) => (float[N,9,48] y) <float[96,80] w, float[80] b, float[48,80] v> {
    m = MatMul(x, w)
    h = Add(m, b)
    r = Relu(h)
    t = Transpose<perm=[1,0]>(v)
    y = MatMul(r, t)
}"""
PATCHES = """g (float[N,3,32,32] x) => (float[N,80,4,4] y) <float[80,3,8,8] w> {
    y = Conv<strides=[8,8]>(x, w)
}"""
HALVES = """g (float16[N,96] x) => (float16[N,80] y) <float16[96,80] w> { y = MatMul(x, w) }"""


def model() -> ir.Model:
    random = np.random.default_rng(0)
    shapes = [(96, 80), (80,), (48, 80)]
    return build(HEAD + LAYERS, [random.normal(size=s).astype(np.float32) for s in shapes])


def samples(seed: int = 1, count: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 9, 96)).astype(np.float32)


def optimized(text: str = "int8{smallest=1}", target: str = "portable") -> addax.Optimized:
    data = [samples(1), samples(2)]
    return addax.optimize(model(), target=target, allow=(text,), calibration=data)


def lowered(serves: bool) -> ir.Model:
    """With kernels or without, in the pass alone."""
    made = model()
    facts = {HAS_KERNEL: lambda _: serves, CALIBRATION: Batches(made, [samples()])}
    run_pipeline(made, Pipeline.parse("cleanup,int8{smallest=1}"), facts=facts)
    return made


def operators(made: ir.Model) -> list[str]:
    return [node.op_type for node in made.graph]


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def test_stock_onnx_runtime_gets_its_own_operator_with_the_error_that_the_report_says():
    made = optimized()
    assert 2 == operators(made.model).count("DynamicQuantizeMatMul")
    x = samples(1)
    error = relative(made.session.run({"x": x})["y"], evaluate(model(), {"x": x})["y"])
    assert 0 < error < 0.03
    first, second, network = made.report.notes[:3]
    assert "activations up to" in first
    assert "one scale for a tensor, DynamicQuantizeMatMul, output error 0.0" in second
    assert "relative error of the outputs on 16 calibration samples" in network
    assert [("int8", 8)] * 2 == [(layer.format, layer.bits) for layer in made.report.layers]
    assert all(3 * each.bytes_after < each.bytes_before for each in made.report.layers)
    assert "approximate" == made.report.exactness


def test_where_there_is_a_kernel_the_op_of_the_dialect_comes():
    made = lowered(True)
    # What the mean of the outputs lacks goes to the bias, where there is one.
    assert ["Int8MatMul", "Add", "Add", "Relu", "Int8MatMul"] == operators(made)
    assert ["Int8MatMul"] == [name for _, name, _ in made.functions]
    x = samples(3)
    error = relative(evaluate(made, {"x": x})["y"], evaluate(model(), {"x": x})["y"])
    assert error < 0.01  # weights alone: the body leaves activations as they are


def test_the_kernel_is_asked_for_by_a_node_like_the_one_that_comes():
    asked = []
    made = model()
    facts = {
        HAS_KERNEL: lambda node: bool(asked.append(node)),
        CALIBRATION: Batches(made, [samples()]),
    }
    run_pipeline(made, Pipeline.parse("cleanup,int8{smallest=1}"), facts=facts)
    shapes = [[tuple(v.shape)[-2:] for v in node.inputs[1:2]] for node in asked]
    assert [[(64, 4)], [(64, 4)]] == shapes
    assert 96 == asked[0].inputs[0].shape[-1]
    assert ["int8", "int8"] == [form_of(node) for node in asked]


def test_convolutions_and_halves_stay_unless_asked_for():
    random = np.random.default_rng(0)
    patches = build(HEAD + PATCHES, [random.normal(size=(80, 3, 8, 8)).astype(np.float32)])
    data = [random.normal(size=(2, 3, 32, 32)).astype(np.float32)]
    left, done = (
        addax.optimize(patches, target="portable", allow=(text,), calibration=data)
        for text in ("int8", "int8{convolutions=True}")
    )
    assert "DynamicQuantizeMatMul" not in operators(left.model)
    assert "DynamicQuantizeMatMul" in operators(done.model)
    expected = evaluate(patches, {"x": data[0]})["y"]
    assert relative(done.session.run({"x": data[0]})["y"], expected) < 0.03
    halves = build(HEAD + HALVES, [random.normal(size=(96, 80)).astype(np.float16)])
    data = [random.normal(size=(4, 96)).astype(np.float16)]
    made = addax.optimize(halves, target="portable", allow=("int8",), calibration=data)
    assert any("integers replace float32" in note for note in made.report.notes)


def test_a_budget_and_names_keep_layers():
    tight = optimized("int8{smallest=1,max_error=1e-6}")
    assert "above 1e-06" in tight.report.notes[0]
    assert "DynamicQuantizeMatMul" not in operators(tight.model)
    kept = optimized("int8{smallest=1,skip=('w',)}")
    assert 1 == operators(kept.model).count("DynamicQuantizeMatMul")
    assert any(note.startswith("int8, unchanged: w: skip= names it") for note in kept.report.notes)


def test_activations_that_are_not_finite_keep_their_layer():
    made, data = model(), samples()
    data[0, 0] = 3e38
    facts = {CALIBRATION: Batches(made, [data])}
    with np.errstate(all="ignore"):
        run_pipeline(made, Pipeline.parse("int8{smallest=1}"), facts=facts)
    assert any("its activations are not finite" in note for note in facts["notes"])


@given(st.integers(0, 9999), st.sampled_from([63, 127]))
def test_integers_are_the_nearest_within_their_range(seed, largest):
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(5, 7)) * np.exp2(random.integers(-40, 40, (5, 1)))
    matrix[random.integers(5)] = 0
    made = IntegerWeights.of(matrix, largest)
    assert np.abs(made.integers).max() <= largest
    half = made.scale[:, None] * (0.5 + 1e-4)
    assert np.all(np.abs(made.decode() - matrix) <= half)


@given(st.integers(0, 9999))
def test_activations_are_off_by_half_a_step(seed):
    rows = np.random.default_rng(seed).standard_t(3, (6, 9))
    rows[0] = 0
    step = np.abs(rows).max(1, keepdims=True) / 127
    assert np.all(np.abs(by_token(rows) - rows) <= step * 0.501)
    span = max(rows.max(), 0) - min(rows.min(), 0)
    assert np.all(np.abs(by_tensor(rows) - rows) <= span / 255 * 1.01)
    assert 0 == np.abs(by_tensor(rows * 0)).max()


def test_errors_are_measured_on_some_rows_of_every_batch():
    assert 2 * 1024 >= len(sampled(np.zeros((100_000, 2)), 2)) > 1000
    assert 5 == len(sampled(np.zeros((5, 2)), 40))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("int8{smallest=0}", "smallest must be a whole number, 1 or more; got 0"),
        ("int8{skip='head'}", r"skip must be a tuple of names, such as \('head',\); got 'head'"),
        ("int8{max_error=-1}", "max_error must be a positive number or None; got -1"),
        ("int8{bits=4}", "bits must be a text such as 'w8a8' or 'w4a4'"),
    ],
)
def test_options_are_validated(text, said):
    with pytest.raises(OptionError, match=said):
        optimized(text)


def test_no_data_is_refused_and_the_order_is_that_of_the_fold_first():
    with pytest.raises(OptionError, match="int8 needs calibration=batches"):
        run_pipeline(model(), Pipeline.parse("int8"))
    names = list(families())
    assert names.index("layernorm-reparam") < names.index("int8")


def test_only_names_the_layers_that_are_treated():
    made = optimized("int8{smallest=1,only=('w',)}")
    assert ["w"] == [layer.name for layer in made.report.layers]
    with pytest.raises(OptionError, match=r"only must be a tuple of names of layers, such as"):
        optimized("int8{only='v'}")


def test_a_batch_may_be_one_sample_that_is_held_out():
    data = list(samples(1, count=64)[:, None].reshape(64, 1, 9, 96))
    made = addax.optimize(model(), target="portable", allow=("int8{smallest=1}",), calibration=data)
    assert 2 == operators(made.model).count("DynamicQuantizeMatMul")
    assert (0, 96) == by_tensor(np.zeros((0, 96))).shape
