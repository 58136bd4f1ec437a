"""Shift-add: which layers become codes, in which format, how well, and what is refused."""

import functools
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx_ir as ir
import pytest

import addax
from addax.errors import OptionError
from addax.passes._pipeline import Pipeline
from addax.testing.cases import build

HEAD = '<ir_version: 10, opset_import: ["": 20]> '
NETWORK = """g (float[N,5,64] x) => (float[N,5,80] y)
    <float[64,128] up, float[128,64] down, float[64,80] head, float[80] bias> {
    h = MatMul(x, up)
    p = Gelu(h)
    r = MatMul(p, down)
    s = Add(r, x)
    l = MatMul(s, head)
    y = Add(l, bias)
}"""
RANDOM = np.random.default_rng(0)
MIX = RANDOM.normal(size=(64, 64)) / 8 + np.eye(64)


def weights(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=s, scale=s[0] ** -0.5).astype(np.float32) for s in shapes]


def network() -> ir.Model:
    return build(HEAD + NETWORK, weights((64, 128), (128, 64), (64, 80), (80,)))


def batches(count: int = 96) -> list[np.ndarray]:
    rows = np.random.default_rng(1).normal(size=(count, 5, 64)) @ MIX
    return [rows[:32].astype(np.float32), rows[32:].astype(np.float32)]


def optimized(text: str = "shift-add", **options):
    source = options.pop("source", None) or network()
    given = {"calibration": batches(), "target": "portable"} | options
    return addax.optimize(source, allow=(text,), **given)


standard = functools.cache(lambda bits: optimized(bits=bits))


def error(made, source: ir.Model | None = None) -> float:
    """Relative, on fresh inputs."""
    x = (np.random.default_rng(9).normal(size=(64, 5, 64)) @ MIX).astype(np.float32)
    exact = addax.optimize(source or network()).session.run({"x": x})["y"]
    return float(np.linalg.norm(made.session.run({"x": x})["y"] - exact) / np.linalg.norm(exact))


def operators(made) -> list[str]:
    return [node.op_type for node in made.model.graph]


@pytest.mark.parametrize(
    ("bits", "formats", "bound"),
    [
        (4, {"fitted4", "uniform4"}, 0.12),
        (3, {"binary3"}, 0.22),
        (2, {"binary2", "fitted2"}, 0.42),
        ("powers4", {"powers4"}, 0.25),
        ("binary3{scales=powers}", {"binary3{scales=powers}"}, 0.3),
    ],
)
def test_every_layer_becomes_codes_of_so_many_bits(bits, formats, bound):
    made = standard(bits)
    layers = made.report.layers
    assert ["up", "down", "head"] == [layer.name for layer in layers]
    assert [(128, 64), (64, 128), (80, 64)] == [(x.outputs, x.inputs) for x in layers]
    assert {layer.format for layer in layers} <= formats
    assert not {"MatMul", "Gemm"} & set(operators(made))
    assert error(made) < bound
    stored = sum(layer.bytes_after for layer in layers)
    bias = 4 * 80
    assert -16 * 2 <= made.report.after.weight_bytes - bias - stored <= 0  # one table for several
    assert "approximate" == made.report.exactness


def test_the_interface_and_the_caller_s_model_stay_and_runs_repeat():
    source = network()
    before = ir.to_proto(source).SerializeToString()
    first, second = (optimized(source=source, bits=2) for _ in range(2))
    assert before == ir.to_proto(source).SerializeToString()
    assert ["x"] == [v.name for v in first.model.graph.inputs]
    assert ["y"] == [v.name for v in first.model.graph.outputs]
    a, b = (ir.to_proto(made.model).SerializeToString() for made in (first, second))
    assert a == b


def test_the_report_has_a_line_for_each_layer_in_text_and_json():
    made = standard(3)
    printed = str(made.report)
    for layer in made.report.layers:
        line = next(line for line in printed.splitlines() if line.split()[:1] == [layer.name])
        assert layer.format in line
        assert f"{layer.output_error:.4f}" in line
        assert f"{layer.bytes_after:,}" in line
    read = json.loads(made.report.to_json())["layers"]
    assert [layer.weight_error for layer in made.report.layers] == [x["weight_error"] for x in read]
    assert "relative error of the outputs on 96 calibration samples: y" in printed


def test_compensation_lowers_the_error_and_none_without_data_is_said():
    plain, ours = optimized("shift-add{compensate=False}", bits=2), standard(2)
    assert error(ours) < 0.9 * error(plain)
    blind = optimized(bits=2, calibration=None)
    assert "without calibration data weights are rounded one by one" in blind.report.notes[0]
    assert {None} == {layer.output_error for layer in blind.report.layers}
    assert "-" in str(blind.report).split("head")[1]
    assert json.loads(blind.report.to_json())["layers"][0]["output_error"] is None


def test_errors_are_those_of_held_out_samples_and_of_what_comes_before():
    sequential, apart = standard(2), optimized("shift-add{sequential=False}", bits=2)
    first, same = sequential.report.layers[0], apart.report.layers[0]
    assert (first.output_error, first.format) == (same.output_error, same.format)
    assert sequential.report.layers[1].output_error != apart.report.layers[1].output_error
    assert error(sequential) < 1.1 * error(apart)
    few = optimized(bits=2, calibration=batches(60))
    assert few.report.layers[0].output_error != first.output_error


@pytest.mark.parametrize("share", [0.9, 1.2])
def test_bytes_of_all_weights_stay_within_the_budget(share):
    three = standard(3).report.after.weight_bytes
    made = optimized(bits="auto", max_bytes=int(share * three))
    assert made.report.after.weight_bytes <= share * three
    assert len({layer.format for layer in made.report.layers}) > 1
    assert not [note for note in made.report.notes if "budget" in note]


def test_a_budget_that_cannot_be_met_gives_the_nearest_and_says_so():
    made = optimized(bits="auto", max_bytes=3000)
    assert {2} == {layer.bits for layer in made.report.layers}
    assert "no choice of formats meets the budget" in made.report.notes[0]
    assert "the nearest that can be done" in made.report.notes[0]


def test_a_mean_of_bits_and_an_error_are_budgets_too():
    mean = optimized(bits=2.5).report.layers
    sizes = [layer.outputs * layer.inputs for layer in mean]
    bits = [layer.bits for layer in mean]
    assert 2.2 < np.average(bits, weights=sizes) <= 2.5
    made = optimized(bits="auto", max_error=0.15).report.layers
    squares = [layer.output_error**2 for layer in made]
    assert 0.08 < np.mean(squares) ** 0.5 < 0.2  # what comes before adds its own


def test_names_are_skipped():
    made = optimized("shift-add{skip=('he?d',)}", bits=3)
    assert ["up", "down"] == [layer.name for layer in made.report.layers]
    assert "shift-add, unchanged: head: skip= names it" in made.report.notes
    assert not optimized("shift-add{skip=('*',)}").report.layers


def test_few_rows_are_said_and_damped():
    made = optimized(bits=3, calibration=[batches()[0][:20]])
    notes = [note for note in made.report.notes if "cannot determine" in note]
    assert ["shift-add, down: 100 rows of calibration data cannot determine 128 columns: damping "
            "raised to 0.1; give more"] == notes  # fmt: skip
    assert error(made) < 0.4


SHARED = """g (float[N,5,64] x) => (float[N,5,64] y) <float[64,64] w> {
    a = MatMul(x, w)
    b = Relu(a)
    c = MatMul(b, w)
    y = Add(c, x)
}"""


def test_weights_that_several_nodes_share_are_fitted_on_the_rows_of_all_and_stored_once():
    made = optimized(source=build(HEAD + SHARED, weights((64, 64))), bits=3)
    assert ["w"] == [layer.name for layer in made.report.layers]
    assert 2 == operators(made).count("BinaryMatMul")
    assert 3 == len(made.model.graph.initializers)
    assert made.report.after.weight_bytes == made.report.layers[0].bytes_after


def test_activations_that_are_not_finite_leave_a_layer_as_it_is():
    text = """g (float[N,64] x) => (float[N,64] y) <float[64,64] w, float[64,64] v> {
        a = Log(x)
        b = MatMul(a, w)
        c = Relu(b)
        y = MatMul(x, v)
    }"""
    text = text.replace(
        "c = Relu(b)\n        y = MatMul(x, v)", "c = MatMul(x, v)\n        y = Add(b, c)"
    )
    source = build(HEAD + text, weights((64, 64), (64, 64)))
    rows = np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)
    made = optimized(source=source, bits=3, calibration=[rows])
    assert ["v"] == [layer.name for layer in made.report.layers]
    assert "shift-add, w: unchanged: its activations are not finite" in made.report.notes


def test_convolutions_become_codes_of_patches_and_pixels():
    text = """g (float[N,3,16,17] x) => (float[N,96,2,2] y)
        <float[64,3,8,8] w, float[64] b, float[96,64,1,1] v> {
        p = Conv<strides=[8,8]>(x, w, b)
        r = Relu(p)
        y = Conv(r, v)
    }"""
    source = build(HEAD + text, weights((64, 3, 8, 8), (64,), (96, 64, 1, 1)))
    x = np.random.default_rng(0).normal(size=(80, 3, 16, 17)).astype(np.float32)
    made = optimized(source=source, bits=4, calibration=[x])
    assert [(64, 192), (96, 64)] == [(e.outputs, e.inputs) for e in made.report.layers]
    exact = addax.optimize(source).session.run({"x": x})["y"]
    apart = made.session.run({"x": x})["y"] - exact
    assert np.linalg.norm(apart) < 0.15 * np.linalg.norm(exact)


def test_float16_keeps_its_type():
    text = NETWORK.replace("float[", "float16[")
    source = build(HEAD + text, [a.astype(np.float16) for a in
                                 weights((64, 128), (128, 64), (64, 80), (80,))])  # fmt: skip
    made = optimized(source=source, bits=4, calibration=[b.astype(np.float16) for b in batches()])
    assert 3 == len(made.report.layers)
    y = made.session.run({"x": batches()[0].astype(np.float16)})["y"]
    assert np.float16 == y.dtype
    assert np.isfinite(y).all()


def test_layers_are_fitted_elsewhere_and_kept(tmp_path, monkeypatch):
    text = f"shift-add{{sequential=False,folder={str(tmp_path)!r}}}"
    with ThreadPoolExecutor(2) as executor:
        first = optimized(text, bits=4, executor=executor)
    assert any(tmp_path.iterdir())
    monkeypatch.setattr("addax.passes.fit._layer.fit_rows", None)  # nothing is fitted again
    second = optimized(text, bits=4)
    assert [x.bytes_after for x in first.report.layers] == [
        x.bytes_after for x in second.report.layers
    ]
    a, b = (made.session.run({"x": batches()[0]})["y"] for made in (first, second))
    np.testing.assert_array_equal(a, b)


def test_fuel_stops_between_layers():
    spent = standard(3).report.rewrites
    made = optimized(bits=3, fuel=spent - 2)  # the head, and its offset into its bias
    assert ["up", "down"] == [layer.name for layer in made.report.layers]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shift-add{bits=5}", "bits must be 2, 3, 4, a mean between these, 'auto', or a format"),
        ("shift-add{bits=True}", "bits must be 2, 3, 4"),
        ("shift-add{bits='fitted5'}", "expected a format that is one of"),
        ("shift-add{bits='binary3{scales=real}'}", "no op executes the format"),
        ("shift-add{bits='auto'}", "bits='auto' needs a budget, max_bytes= or max_error="),
        ("shift-add{max_bytes=100}", "max_bytes is a budget for bits='auto'; got 3"),
        ("shift-add{bits='auto',max_error=-1}", "max_error must be a positive number; got -1"),
        ("shift-add{smallest=0}", "smallest must be a positive number; got 0"),
        ("shift-add{skip='head'}", "skip must be a tuple of names, such as"),
    ],
)
def test_options_are_validated(text, said):
    with pytest.raises(OptionError, match=said):
        optimized(text)


def test_arguments_for_the_family_need_it_and_are_given_once():
    with pytest.raises(OptionError, match="bits= is an option of allow="):
        addax.optimize("missing.onnx", bits=3)
    with pytest.raises(OptionError, match="bits of shift-add is given twice"):
        optimized("shift-add{bits=3}", bits=2)
    with pytest.raises(OptionError, match="bits must be 2, 3, 4"):
        optimized(bits=7)


def test_the_pipeline_s_text_can_be_read_again():
    made = optimized(bits="binary2{scales=apot2}", calibration=None)
    text = "shift-add{bits='binary2{scales=apot2}'}"
    assert text in made.report.pipeline
    assert "shift-weights" in made.report.pipeline
    assert made.report.pipeline == str(Pipeline.parse(made.report.pipeline))
    again = addax.optimize(network(), target="portable", pipeline=made.report.pipeline)
    assert made.report.layers[0].bytes_after == again.report.layers[0].bytes_after


def test_a_certificate_counts_the_layers():
    made = optimized(bits=4, verify=True)
    assert made.certificate is not None
    assert 3 == sum(step.rule == "shift-add/replace" for step in made.certificate.steps)


def test_formats_say_which_layers_become_codes_and_of_which_form():
    made = optimized("shift-add{formats=(('up','fitted4'),('head','binary2')),sequential=False}")
    assert [("up", "fitted4"), ("head", "binary2")] == [
        (layer.name, layer.format) for layer in made.report.layers
    ]
    assert 1 == operators(made).count("MatMul")


@pytest.mark.parametrize("formats", ["up", ("up",), (("up", 4),)])
def test_formats_are_pairs_of_names(formats):
    with pytest.raises(OptionError, match=r"formats must be a tuple of pairs of a layer and its"):
        optimized(f"shift-add{{formats={formats!r}}}")
