"""The main job through the front door: `addax.optimize` and what it returns."""

import json

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
import torch

import addax
from addax.demo import load_images, load_model
from addax.errors import InputError, OptionError, VerificationError
from addax.ir.rule import Exact, rule
from addax.ir.text import to_text
from addax.passes._checking import CheckEach
from addax.passes._family import Family, Phase

CONV_BN = """<ir_version: 10, opset_import: ["": 18]>
g (float[B,3,8,8] x) => (float[B,4,6,6] y)
<float[4,3,3,3] w, float[4] gamma, float[4] beta, float[4] mean, float[4] var> {
    c = Conv(x, w)
    n = BatchNormalization(c, gamma, beta, mean, var)
    y = Relu(n)
}"""


def conv_bn() -> onnx.ModelProto:
    """A convolution with batch norm, weights drawn from a seed."""
    proto = onnx.parser.parse_model(CONV_BN)
    rng = np.random.default_rng(0)
    del proto.graph.initializer[:]
    for name, dims in {"w": (4, 3, 3, 3), "gamma": 4, "beta": 4, "mean": 4, "var": 4}.items():
        array = rng.uniform(0.5, 1.5, dims).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


@pytest.fixture(scope="module")
def digits():
    model = load_model()
    images, labels = load_images("test")
    batch = torch.export.Dim("batch")
    made = addax.optimize(model, torch.from_numpy(images[:2]), dynamic_shapes=({0: batch},))
    return model, torch.from_numpy(images), labels, made


def test_the_digits_transformer_predicts_the_same(digits):
    model, images, _, made = digits
    with torch.no_grad():
        expected = model(images)
    actual = made(images)
    assert isinstance(actual, torch.Tensor)
    assert torch.equal(expected.argmax(1), actual.argmax(1))
    assert float((expected - actual).abs().max() / expected.abs().max()) < 1e-5


def test_the_model_is_not_changed(digits):
    model, *_ = digits
    fresh = load_model()
    for (name, a), (_, b) in zip(
        model.state_dict().items(), fresh.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name
    assert not model.training


def test_it_goes_back_to_torch(digits):
    model, images, _, made = digits
    module = made.to_torch()
    assert isinstance(module, torch.fx.GraphModule)
    with torch.no_grad():
        assert torch.equal(model(images).argmax(1), module(images).argmax(1))
    assert any(parameter.requires_grad for parameter in module.parameters())


def test_a_saved_model_runs_in_the_runtime_alone(digits, tmp_path):
    _, images, labels, made = digits
    path = tmp_path / "digits.onnx"
    made.save(path)
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert (logits.argmax(1) == labels).mean() > 0.97
    assert [path] == list(tmp_path.iterdir())


def test_every_form_of_an_onnx_model_gives_the_same(tmp_path):
    proto = conv_bn()
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    forms = [path, str(path), path.read_bytes(), proto, ir.from_proto(proto)]
    made = {to_text(addax.optimize(form).model) for form in forms}
    assert 1 == len(made)
    assert path.read_bytes() == proto.SerializeToString()


def test_batch_norm_folds_and_the_report_says_so():
    made = addax.optimize(conv_bn())
    assert ["Conv", "Relu"] == [node.op_type for node in made.model.graph]
    report = made.report
    assert (3, 2) == (report.before.nodes, report.after.nodes)
    assert "reassociated" == report.exactness
    assert "fold-affine/batch-norm-after-conv" in str(report)
    assert report.rewrites == json.loads(report.to_json())["rewrites"]


def test_arrays_in_arrays_out_by_position_and_by_name():
    made = addax.optimize(conv_bn())
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    by_position, by_name = made(x), made(x=x)
    assert isinstance(by_position, np.ndarray)
    np.testing.assert_array_equal(by_position, by_name)


def test_fuel_stops_the_rewriting():
    assert 0 == addax.optimize(conv_bn(), fuel=0).report.rewrites
    assert 1 == addax.optimize(conv_bn(), fuel=1).report.rewrites


def test_a_pipeline_runs_exactly_what_it_says():
    made = addax.optimize(conv_bn(), pipeline="cleanup")
    assert "BatchNormalization" in [node.op_type for node in made.model.graph]
    assert "cleanup" == made.report.pipeline


def test_check_passes_an_exact_pipeline():
    feeds = {"x": np.random.default_rng(2).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    assert addax.optimize(conv_bn(), check=feeds).report.rewrites > 0


def test_check_names_the_pass_that_moved_the_numbers():
    model = ir.from_proto(
        onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 18]>
        g (float[2] x) => (float[2] y) { y = Neg(x) }""")
    )
    watch = CheckEach(model, {"x": np.float32([1, 2])})
    next(iter(model.graph)).op_type = "Abs"
    with pytest.raises(VerificationError, match="pass 'broken' changed the outputs"):
        watch.after_pass("broken", model, changed=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"target": "hots"}, "target='hots' does not exist; did you mean 'host'"),
        ({"target": "host{tune=60}"}, "host takes no options, only tvm does"),
        ({"allow": "shift-add"}, "allow takes a sequence of names"),
        ({"allow": ("no-such-family",)}, "allow='no-such-family' does not exist"),
        ({"fuel": -1}, "fuel must be a number of rewrites"),
        ({"pipeline": "clenup"}, "there is no pass 'clenup'; did you mean 'cleanup'"),
        ({"pipeline": "cleanup{x=1}"}, "has no option x"),
        ({"pipeline": "cleanup;"}, "expected `pass"),
    ],
)
def test_options_are_validated_before_any_work(options, text):
    with pytest.raises(OptionError, match=text):
        addax.optimize("this file does not exist.onnx", **options)


def test_an_approximate_family_is_allowed_by_name_and_calibrated(monkeypatch):
    made = Family("rounding", Phase.APPROXIMATE, (), lambda model, context: False, "Rounding.")
    monkeypatch.setattr("addax.plan.families", lambda: {"rounding": made})
    with pytest.raises(OptionError, match="rounding needs calibration=batches of real inputs"):
        addax.optimize("missing.onnx", allow=("rounding",))
    with pytest.raises(OptionError, match="pipeline says exactly what runs, so allow has no use"):
        addax.optimize("missing.onnx", allow=("rounding",), pipeline="cleanup")


def test_calls_that_do_not_fit():
    made = addax.optimize(conv_bn())
    with pytest.raises(InputError, match="expected at most 1 inputs"):
        made(1, 2)
    with pytest.raises(InputError, match="inputs given twice"):
        made(np.zeros(1), x=np.zeros(1))


def test_rules_are_callable_as_the_functions_they_are():
    made = rule("test/half", match=lambda op, x: op.Neg(x), exact=Exact.BITWISE)(lambda op, x: x)
    assert "kept" == made(None, "kept")
