"""Layernorm-reparam: one range for all channels, the same function, and what is refused."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

import addax
from addax.errors import InputError, OptionError
from addax.ir.evaluate import evaluate
from addax.passes._family import families
from addax.passes._reparam.ratios import CAP, ratios_of
from addax.testing.cases import build

HEAD = '<ir_version: 10, opset_import: ["": 20]> '
LAYERS = """g (float[N,64,6] x) => (float[N,64,4] y, float[N,64,5] z)
    <float[6] g, float[6] b, float[6,4] w, float[4] c, float[6,5] v> {
    n = LayerNormalization(x, g, b)
    p = MatMul(n, w)
    y = Add(p, c)
    z = MatMul(n, v)
}"""
GAIN = np.array([1, -0.1, 20, 3, 0.5, 1], np.float32)
OFFSET = np.array([0, 1, -7, 0.3, 40, 0], np.float32)
ALLOW = ("layernorm-reparam",)


def model(gain: np.ndarray = GAIN, offset: np.ndarray = OFFSET) -> ir.Model:
    random = np.random.default_rng(0)
    shapes = [(6, 4), (4,), (6, 5)]
    weights = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    return build(HEAD + LAYERS, [gain, offset, *weights])


def samples(count: int = 80, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 64, 6)).astype(np.float32)


def behind_the_norm(made: ir.Model, x: np.ndarray) -> np.ndarray:
    """The norm's output as rows [M, 6]."""
    norms = [node for node in made.graph if node.op_type == "LayerNormalization"]
    assert 1 == len(norms)
    inner = ir.from_proto(ir.to_proto(made))
    (norm,) = (node for node in inner.graph if node.op_type == "LayerNormalization")
    inner.graph.outputs.append(norm.outputs[0])
    return evaluate(inner, {"x": x})[str(norm.outputs[0].name)].reshape(-1, 6)


@pytest.fixture(scope="module")
def folded() -> addax.Optimized:
    return addax.optimize(model(), allow=ALLOW, calibration=[samples()], target="portable")


def test_all_channels_have_one_range_with_zero_in_its_middle(folded):
    rows = behind_the_norm(folded.model, samples())
    width = np.ptp(rows, 0)
    np.testing.assert_allclose(width, width.mean(), rtol=1e-4)
    step = width.mean() / 255
    assert np.all(np.abs(rows.min(0) + 128 * step) <= 0.51 * step)


def test_the_function_is_the_same_and_the_report_says_what_was_done(folded):
    x = samples(seed=5)
    before, after = (evaluate(each, {"x": x}) for each in (model(), folded.model))
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-4)
    assert "reassociated" == folded.report.exactness
    said, network = folded.report.notes[:2]
    assert "ranges of 6 channels" in said
    assert "on 5,120 rows, are the same now" in said
    assert "relative error of the outputs" in network


def test_it_is_proved_step_by_step():
    made = addax.optimize(model(), pipeline="layernorm-reparam", target="portable", verify=True)
    assert made.certificate is not None
    assert [("layernorm-reparam/fold", "proved")] * 2 == [
        (step.rule, step.evidence) for step in made.certificate.steps
    ]
    assert any("by its scale and shift, without data" in note for note in made.report.notes)
    # No node more, but the bias that was missing.
    assert ["LayerNormalization", "MatMul", "Add", "MatMul", "Add"] == [
        node.op_type for node in made.model.graph
    ]


@given(st.integers(0, 9999), st.sampled_from([4, 6, 8]))
def test_one_quantizer_afterwards_gives_the_codes_of_one_for_each_channel(seed, bits):
    random = np.random.default_rng(seed)
    middle, width = random.normal(0, 3, 5), np.exp(random.normal(0, 1, 5))
    low, high = middle - width, middle + width
    found = ratios_of(low, high, bits, shifts=True)
    rows = random.uniform(low, high, (200, 5))
    step = (high - low) / (2**bits - 1)
    places = rows / step
    each = np.rint(places) + np.rint(-low / step)
    moved = 0 if found.shift is None else found.shift
    common = np.rint((rows + moved) / found.ratio / found.scale) + 2 ** (bits - 1)
    near_tie = np.abs(places % 1 - 0.5) < 1e-6
    assert np.all((each == common) | near_tie)


def test_channels_that_never_vary_are_moved_to_zero_and_keep_their_scale():
    found = ratios_of(np.array([-1.0, 5.0, 0.0]), np.array([1.0, 5.0, 2.0]), 8, shifts=True)
    assert (1, 1.0) == (found.constant, found.ratio[1])
    assert found.shift is not None
    assert abs(5.0 + found.shift[1]) <= found.scale / 2
    gain = GAIN.copy()
    gain[3] = 0
    made = addax.optimize(model(gain), allow=ALLOW, calibration=[samples()], target="portable")
    assert ", 1 constant" in made.report.notes[0]
    x = samples(2)
    for name, expected in evaluate(model(gain), {"x": x}).items():
        np.testing.assert_allclose(evaluate(made.model, {"x": x})[name], expected, atol=2e-4)


def test_ratios_are_capped():
    found = ratios_of(np.array([-1.0, -1e-6]), np.array([1.0, 1e-6]), 8, shifts=True)
    assert (1, 1 / CAP) == (found.capped, found.ratio.min())
    made = addax.optimize(model(GAIN * np.float32([1, 1, 1, 1e-4, 1, 1])), allow=ALLOW)
    assert "1 with a capped ratio" in made.report.notes[0]


def test_all_channels_constant_are_left():
    zeros = np.zeros(6, np.float32)
    made = addax.optimize(model(zeros, zeros), pipeline="layernorm-reparam")
    assert any("its channels have the same range already" in note for note in made.report.notes)


@pytest.mark.parametrize("share", [0.99, "'best'"])
def test_a_few_outliers_may_fall_out_of_the_range(share):
    x = samples()
    x[0, 0] = [0, 0, 0, 0, 0, 1e4]  # behind the norm, 2.2 in the last channel
    made = addax.optimize(
        model(), allow=(f"layernorm-reparam{{share={share},bits=4}}",), calibration=[x]
    )
    whole = addax.optimize(model(), allow=ALLOW, calibration=[x])
    outliers = [np.ptp(behind_the_norm(each.model, x), 0) for each in (made, whole)]
    assert np.ptp(outliers[0]) > 10 * np.ptp(outliers[1])
    for name, expected in evaluate(model(), {"x": x}).items():
        np.testing.assert_allclose(
            evaluate(made.model, {"x": x})[name], expected, rtol=1e-4, atol=1e-3
        )


def test_too_little_data_is_refused():
    with pytest.raises(InputError, match=r"at least 4096 rows .* got 640 from 10 samples"):
        addax.optimize(model(), allow=ALLOW, calibration=[samples(10)])
    fewer = addax.optimize(
        model(), allow=("layernorm-reparam{tokens=600}",), calibration=[samples(10)]
    )
    assert "on 640 rows" in fewer.report.notes[0]


def test_a_norm_that_sees_few_rows_stays():
    text = LAYERS.replace("z = MatMul(n, v)", "m = ReduceMean<keepdims=0>(x, a)\n"
        "    k = LayerNormalization(m, g)\n    z = MatMul(k, v)")  # fmt: skip
    text = text.replace("float[N,64,5] z", "float[N,5] z").replace("> {", ", int64[1] a = {1}> {")
    arrays = [GAIN, OFFSET, *(np.ones(s, np.float32) for s in ((6, 4), (4,), (6, 5)))]
    made = addax.optimize(build(HEAD + text, arrays), allow=ALLOW, calibration=[samples()])
    assert any("seen on 80 rows, fewer than 4096" in note for note in made.report.notes)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_activations_that_are_not_finite_stay():
    made = addax.optimize(model(np.full(6, 3e38, np.float32)), allow=ALLOW, calibration=[samples()])
    assert "its activations are not finite" in made.report.notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layernorm-reparam{bits=1}", "bits must be a whole number from 2 to 16; got 1"),
        ("layernorm-reparam{tokens=0}", "tokens must be a whole number, 1 or more; got 0"),
        ("layernorm-reparam{share=0.5}", "share must be 'best' or in"),
        ("layernorm-reparam{rows=5}", "has no option rows"),
    ],
)
def test_options_are_validated(text, said):
    with pytest.raises(OptionError, match=said):
        addax.optimize(model(), allow=(text,))


def test_it_runs_only_when_asked_for():
    assert not families()["layernorm-reparam"].is_exact
