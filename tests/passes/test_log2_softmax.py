"""Log2-softmax: attention by codes, its error as reported, masks, and what stays."""

import importlib.util

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import addax
from addax.backends.to_ort import to_ort
from addax.errors import OptionError
from addax.ir.evaluate import evaluate
from addax.ir.statistics import CALIBRATION, HAS_KERNEL
from addax.passes._attention_codes import coded_attention, exact_attention
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.runtime.calibrate import Batches
from addax.testing.cases import build
from tests.ir.dialect.running import model_of

HEAD = '<ir_version: 10, opset_import: ["": 20]> '
PLAIN = """g (float[N,2,9,16] q, float[N,2,16,9] k, float[N,2,9,16] v) => (float[N,2,9,16] y) {
    s = MatMul(q, k)
    p = Softmax(s)
    y = MatMul(p, v)
}"""
MASKED = """g (float[N,2,9,16] q, float[N,2,16,9] k, float[N,2,9,16] v, float[N,1,1,9] m)
    => (float[N,2,9,16] y) <float c = {0.25}> {
    s = MatMul(q, k)
    d = Mul(s, c)
    t = Add(d, m)
    p = Softmax(t)
    y = MatMul(p, v)
}"""
# As torch exports a mask of booleans.
CHOSEN = """g (float[N,2,9,16] q, float[N,2,16,9] k, float[N,2,9,16] v, float[N,1,1,9] m)
    => (float[N,2,9,16] y) <float none = {0}> {
    s = MatMul(q, k)
    t = Add(s, m)
    p = Softmax(t)
    n = IsNaN(p)
    c = Where(n, none, p)
    y = MatMul(c, v)
}"""
SHARED = PLAIN.replace("(float[N,2,9,16] y)", "(float[N,2,9,16] y, float[N,2,9,9] p)")
ALLOW = ("log2-softmax",)


def batch(seed: int = 0, size: int = 4, masked: bool = False) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {"q": (size, 2, 9, 16), "k": (size, 2, 16, 9), "v": (size, 2, 9, 16)}
    made = {n: random.normal(size=shape).astype(np.float32) for n, shape in shapes.items()}
    made["q"] /= 2
    if masked:
        made["m"] = np.where(np.arange(9) < 6, 0, -1e9).astype(np.float32)
        made["m"] = np.broadcast_to(made["m"], (size, 1, 1, 9)).copy()
    return made


def optimized(text: str, allow: str = ALLOW[0], target: str = "portable", masked: bool = False):
    # No kernels are built here: what has one is asked of the form alone.
    options = f"{allow}{{insist=True}}" if "{" not in allow else allow
    data = [batch(i, masked=masked) for i in range(2)]
    model = build(HEAD + text, [])
    return model, addax.optimize(model, target=target, allow=(options,), calibration=data)


def codes(made: addax.Optimized) -> list[ir.Node]:
    return [node for node in made.model.graph if node.op_type == "LogCodeAttention"]


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(("text", "masked"), [(PLAIN, False), (MASKED, True), (CHOSEN, True)])
def test_attention_becomes_codes_with_the_error_that_the_report_says(text, masked):
    model, made = optimized(text, masked=masked)
    (node,) = codes(made)
    assert "y" == node.outputs[0].name
    assert 0 not in [len(value.uses()) for value in model.graph.inputs]
    feeds = batch(0, masked=masked)
    error = relative(made.session.run(feeds)["y"], evaluate(model, feeds)["y"])
    assert 0 < error < 0.05
    site = made.report.notes[0]
    assert "codes of 6 bits, 7 an octave, relative to the row's maximum, output error" in site
    told = float(site.rpartition(" ")[2])
    assert told == pytest.approx(error, rel=0.3)  # it counts that kernels round V
    assert "approximate" == made.report.exactness
    if masked:
        assert "m" == node.inputs[1].name


def test_a_scale_of_the_scores_goes_along():
    model, data = build(HEAD + MASKED, []), batch(masked=True)
    made = addax.optimize(
        model, pipeline="log2-softmax{insist=True}", target="portable", calibration=[data]
    )
    (node,) = codes(made)
    assert (0.25, "m") == (node.attributes["scale"].value, node.inputs[1].name)
    assert relative(made.session.run(data)["y"], evaluate(model, data)["y"]) < 0.05


def test_fewer_codes_have_more_error_and_a_budget_keeps_attention():
    errors = [
        float(optimized(PLAIN, f"log2-softmax{{insist=True,{o}}}")[1].report.notes[0].split()[-1])
        for o in ("codes_per_octave=7", "codes_per_octave=2,bits=5", "codes_per_octave=1,bits=4")
    ]
    assert errors == sorted(errors)
    _, kept = optimized(PLAIN, "log2-softmax{insist=True,max_error=0.001}")
    assert [] == codes(kept)
    assert "above 0.001" in kept.report.notes[0]


def test_the_absolute_form_takes_its_delta_from_data():
    model, made = optimized(PLAIN, "log2-softmax{insist=True,absolute=True}")
    (node,) = codes(made)
    delta = node.attributes["delta"].value
    assert 0 < delta <= 1
    assert f"absolute below {delta:.3g}" in made.report.notes[0]
    feeds = batch(0)
    assert relative(made.session.run(feeds)["y"], evaluate(model, feeds)["y"]) < 0.1


def test_a_target_without_kernels_keeps_its_softmax_unless_told():
    _, made = optimized(PLAIN, "log2-softmax{bits=6}")
    assert [] == codes(made)
    assert "the target has no kernel for it" in made.report.notes[0]
    model = build(HEAD + PLAIN, [])
    facts = {
        HAS_KERNEL: lambda node: node.op_type == "LogCodeAttention",
        CALIBRATION: Batches(model, [batch()]),
    }
    run_pipeline(model, Pipeline.parse("log2-softmax"), facts=facts)
    assert ["MatMul", "LogCodeAttention"] == [node.op_type for node in model.graph]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SHARED, "its weights are read elsewhere too"),
        (PLAIN.replace("Softmax(s)", "Softmax<axis=1>(s)"), "its softmax is not over the last"),
        (
            PLAIN.replace("float[N,2,9,16] v", "float[N,1,9,16] v"),
            "its scores and values do not have the same batch and heads",
        ),
    ],
)
def test_what_stays_and_why(text, said):
    model = build(HEAD + text, [])
    data = batch()
    if "float[N,1,9,16] v" in text:
        data["v"] = data["v"][:, :1]
    allow = ("log2-softmax{insist=True}",)
    made = addax.optimize(model, target="portable", allow=allow, calibration=[data])
    assert said in made.report.notes[0]
    assert [] == codes(made)


def test_scores_that_are_not_finite_keep_their_softmax():
    data = batch()
    data["q"][0, 0, 0] = 3e38
    data["k"][:] = np.abs(data["k"]) + 10
    allow = ("log2-softmax{insist=True}",)
    made = addax.optimize(
        build(HEAD + PLAIN, []), target="portable", allow=allow, calibration=[data]
    )
    assert "its scores or values are not finite" in made.report.notes[0]


@given(st.integers(0, 9999), st.sampled_from([(1, 4), (2, 5), (7, 6)]), st.booleans())
@settings(max_examples=20)
def test_the_arrays_are_what_the_body_computes(seed, form, absolute):
    random = np.random.default_rng(seed)
    scores = (random.normal(size=(2, 5, 7)) * 3).astype(np.float32)
    scores[0, 1, 2:] = -np.inf
    values = random.integers(-127, 128, (2, 7, 4)).astype(np.float32)
    values[:, 0, 0] = 127
    kind = ir.DataType.FLOAT
    delta = 0.75 if absolute else 0.0
    model = model_of(
        "LogCodeAttention",
        {"s": (kind, [2, 5, 7]), "mask": np.zeros(1, np.float32), "v": (kind, [2, 7, 4])},
        codes_per_octave=form[0], bits=form[1], scale=1.0, delta=delta,
    )  # fmt: skip
    expected = evaluate(to_ort(model), {"s": scores, "v": values})["y"]
    actual = coded_attention(scores, values, *form, delta)
    # A code may fall to either side of a half.
    assert np.mean(np.abs(actual - expected) < 1e-2) > 0.9


def test_rows_that_see_nothing_are_zeros():
    scores = np.full((1, 2, 3), -np.inf, np.float32)
    values = np.ones((1, 3, 4), np.float32)
    for made in (exact_attention(scores, values), coded_attention(scores, values, 7, 6)):
        np.testing.assert_array_equal(np.zeros((1, 2, 4)), made)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("log2-softmax{bits=9}", "bits must be a whole number from 1 to 8; got 9"),
        ("log2-softmax{codes_per_octave=0}", "codes_per_octave must be a whole number from 1"),
        ("log2-softmax{max_error=0}", "max_error must be a positive number or None; got 0"),
    ],
)
def test_options_are_validated(text, said):
    with pytest.raises(OptionError, match=said):
        optimized(PLAIN, text)


def test_no_data_is_refused():
    with pytest.raises(OptionError, match="log2-softmax needs calibration=batches"):
        run_pipeline(build(HEAD + PLAIN, []), Pipeline.parse("log2-softmax"))


@pytest.mark.parametrize(
    ("target", "made"), [("android-arm64", 1), ("cuda", 0), ("webgpu", 0), ("portable", 0)]
)
def test_attention_becomes_codes_only_where_the_target_has_a_kernel(target, made):
    """Kernels for GPUs are those of linear layers; a body in standard ops is slower."""
    if importlib.util.find_spec("tvm") is None:
        pytest.skip("TVM missing: pip install addax[tvm]")
    _, found = optimized(PLAIN, "log2-softmax{insist=False}", target)
    assert made == len(codes(found))
