"""Int8 with few bits and ranges known beforehand: both forms, the report, what is refused."""

import numpy as np
import onnx_ir as ir
import pytest

import addax
from addax.errors import InputError, OptionError
from addax.ir.dialect import install, operators
from addax.ir.evaluate import evaluate
from addax.ir.statistics import CALIBRATION, HAS_KERNEL
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.plan import make_plan
from addax.runtime.calibrate import Batches
from addax.testing.cases import build

HEAD = '<ir_version: 10, opset_import: ["": 20]> '
LAYERS = """g (float[N,9,96] x) => (float[N,9,48] y) <float[96,80] w, float[80] b, float[48,80] v> {
    m = MatMul(x, w)
    h = Add(m, b)
    r = Gelu(h)
    t = Transpose<perm=[1,0]>(v)
    y = MatMul(r, t)
}"""


def model() -> ir.Model:
    random = np.random.default_rng(0)
    return build(
        HEAD + LAYERS,
        [
            (0.1 * random.normal(size=shape)).astype(np.float32)
            for shape in ((96, 80), (80,), (48, 80))
        ],
    )


def samples(seed: int = 1, count: int = 20) -> np.ndarray:
    """Channels of 40 sources: what one layer loses in a channel, another may make up for."""
    mix = np.random.default_rng(0).normal(size=(40, 96)) / 6
    drawn = np.random.default_rng(seed).normal(size=(count, 9, 40))
    return (drawn @ mix).astype(np.float32)


def lowered(options: str, *, serves: bool) -> tuple[ir.Model, list[str]]:
    """With kernels or without; and the notes."""
    made = model()
    facts = {HAS_KERNEL: lambda _: serves, CALIBRATION: Batches(made, [samples()])}
    run_pipeline(made, Pipeline.parse(f"cleanup,int8{{smallest=1,{options}}}"), facts=facts)
    return made, facts["notes"]


def error(made: ir.Model, x: np.ndarray) -> float:
    expected = evaluate(model(), {"x": x})["y"]
    actual = evaluate(made, {"x": x})["y"]
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def count(made: ir.Model, op_type: str) -> int:
    return sum(node.op_type == op_type for node in made.graph)


@pytest.mark.parametrize(
    ("bits", "most"), [("w8a8", 0.02), ("w6a6", 0.07), ("w4a8", 0.16), ("w4a4", 0.27)]
)
def test_both_forms_have_the_error_that_their_bits_have(bits, most):
    for serves in (True, False):
        made, _ = lowered(f"bits='{bits}',static=True", serves=serves)
        assert 2 == count(made, "StaticInt8MatMul" if serves else "MatMulIntegerToFloat")
        assert error(made, samples(7)) < most


def test_with_even_levels_both_forms_are_the_same_function():
    x = samples(3)
    kernels, _ = lowered("bits='w4a4',codebooks=False", serves=True)
    native, _ = lowered("bits='w4a4',codebooks=False", serves=False)
    first, second = (evaluate(made, {"x": x})["y"] for made in (kernels, native))
    assert np.abs(first - second).max() < 1e-4 * np.abs(first).max()
    assert 2 == count(native, "QuantizeLinear") == count(native, "Clip")


def test_a_codebook_behind_a_gelu_is_a_table_in_kernels_and_a_gather_elsewhere():
    kernels, told = lowered("bits='w4a4'", serves=True)
    native, _ = lowered("bits='w4a4'", serves=False)
    even, _ = lowered("bits='w4a4',codebooks=False", serves=True)
    assert any("16 entries anywhere, StaticInt8MatMul" in note for note in told)
    assert 1 == count(native, "Gather")
    x = samples(4)
    assert error(kernels, x) < error(even, x)


def test_the_report_names_quantizer_range_error_and_code_path():
    data = [samples(1), samples(2)]
    allow = ("int8{smallest=1,codebooks=False}",)
    made = addax.optimize(
        model(), target="portable", allow=allow, bits="w4a4", calibration=data, progress=False
    )
    first = made.report.notes[0]
    assert first.startswith("int8, w: weights of 4 bits, activations up to ")
    assert "16 even levels, QuantizeLinear and MatMulIntegerToFloat, output error 0." in first
    assert [("w4a4", 4)] * 2 == [(layer.format, layer.bits) for layer in made.report.layers]
    x = samples(9)
    expected = evaluate(model(), {"x": x})["y"]
    missed = np.linalg.norm(made.session.run({"x": x})["y"] - expected)
    assert 0 < missed / np.linalg.norm(expected) < 0.27


def test_one_batch_does_not_change_what_another_gives():
    made, _ = lowered("bits='w4a4'", serves=False)
    x = samples(5)
    loud = np.concatenate([x, 100 * samples(6)])
    assert np.array_equal(evaluate(made, {"x": x})["y"], evaluate(made, {"x": loud})["y"][: len(x)])


def test_weights_of_4_bits_on_activations_as_they_come():
    made, told = lowered("bits='w4a8'", serves=True)
    assert 2 == count(made, "Int8MatMul")
    assert any("weights of 4 bits" in note and "a scale for each row" in note for note in told)
    plain, _ = lowered("bits='w4a8',compensate=False", serves=True)
    x = samples(8)
    assert 0 < error(made, x) < error(plain, x)


def test_few_rows_are_said_or_refused():
    few = [samples(count=5)[:, :1]]
    made = build(HEAD + LAYERS.replace("N,9", "N,R"), [v.const_value.numpy() for v in weights()])
    facts: dict[str, object] = {CALIBRATION: Batches(made, few)}
    with pytest.raises(InputError, match=r"at least 32 rows .* and w was seen on 5: .* say rows="):
        run_pipeline(made, Pipeline.parse("int8{smallest=1,bits='w4a4'}"), facts=facts)
    made = build(HEAD + LAYERS.replace("N,9", "N,R"), [v.const_value.numpy() for v in weights()])
    facts = {CALIBRATION: Batches(made, few)}
    run_pipeline(made, Pipeline.parse("int8{smallest=1,bits='w4a4',rows=5}"), facts=facts)
    assert any(
        "5 rows of calibration data cannot determine 96 columns: damping raised to 1; give more"
        in note
        for note in facts["notes"]
    )


def weights() -> list[ir.Value]:
    return list(model().graph.initializers.values())


def test_activations_that_are_constant_or_not_finite():
    made, data = model(), samples()
    data[0, 0] = 3e38
    facts = {CALIBRATION: Batches(made, [data])}
    with np.errstate(all="ignore"):
        run_pipeline(made, Pipeline.parse("int8{smallest=1,bits='w4a4'}"), facts=facts)
    assert any("its activations are not finite" in note for note in facts["notes"])
    for value in (0.0, 1.5):
        made, x = model(), np.full((8, 9, 96), value, np.float32)
        facts = {CALIBRATION: Batches(made, [x])}
        run_pipeline(made, Pipeline.parse("int8{smallest=1,bits='w4a4'}"), facts=facts)
        assert 2 == count(made, "StaticInt8MatMul")
        install(made, operators()["StaticInt8MatMul"])
        assert error(made, x) < 0.1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("bits='w4a9'", "asks for activations of 9 bits, which no container holds"),
        (
            "bits='w4a4',static=False",
            "activations of 4 bits have ranges that are known beforehand; "
            "leave out static=False, or say bits='w4a8'",
        ),
        ("rows=0", "rows must be a whole number, 1 or more; got 0"),
        ("damping=0", "damping must be a positive number; got 0"),
    ],
)
def test_options_are_validated(options, said):
    with pytest.raises(OptionError, match=said):
        lowered(options, serves=True)


def plan(*allow: str, bits: str) -> dict[str, dict]:
    """The options that each allowed family is run with."""
    made = make_plan(allow, [samples()], None, None, {"bits": bits})
    return {step.family.name: dict(step.options) for step in made.steps}


def test_bits_go_to_all_who_quantize():
    found = plan("layernorm-reparam", "int8{smallest=512}", "int8-attention", bits="w4a6")
    assert {"bits": 6, "share": "best"} == found["layernorm-reparam"]
    assert {"smallest": 512, "bits": "w4a6"} == found["int8"]
    assert {"bits": "w4a6"} == found["int8-attention"]
    whole = plan("layernorm-reparam{share=1.0}", "int8", bits="w8a8")
    assert {"share": 1.0} == whole["layernorm-reparam"]
    both = plan("int8", "shift-add", bits="fitted4")
    assert {"bits": "fitted4"} == both["shift-add"]
    assert {} == both["int8"]


@pytest.mark.parametrize(
    ("allow", "bits", "said"),
    [
        (("int8",), "w1a4", "asks for weights of 1 bits, which no container holds"),
        (("int8",), "fitted4", "bits must be a text such as 'w8a8' or 'w4a4'.* got 'fitted4'"),
        (("int8{bits='w4a4'}",), "w4a4", "bits of int8 is given twice"),
        (("log2-softmax",), "w4a4", "bits= is an option of .*shift-add.*, which is not allowed"),
    ],
)
def test_bits_that_nobody_takes(allow, bits, said):
    with pytest.raises(OptionError, match=said):
        plan(*allow, bits=bits)
