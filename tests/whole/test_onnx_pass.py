"""addax among the passes of onnx_ir: in place, honest about changes, with rules of one's own."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnx_ir.passes.common as theirs
import onnxruntime
import pytest

import addax
from addax.errors import OptionError
from addax.ir.rule import Exact, rule

CONV = """<ir_version: 8, opset_import: ["": 13], metadata_props: ["author": "me"]>
g (float[1,1,4,4] x) => (float[1,1,4,4] y)
<float[1,1,1,1] w = {2}, float[1] s = {3}, float[1] b = {1}, float[1] m = {4}, float[1] v = {9}> {
    c = Conv(x, w)
    n = BatchNormalization(c, s, b, m, v)
    y = Identity(n)
}"""


@rule("own-rules/neg-neg", match=lambda op, x: op.Neg(op.Neg(x)), exact=Exact.BITWISE)
def neg_neg(op, x):
    """-(-x) -> x."""
    return x


def run(model: ir.Model, **feeds: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, feeds)


def test_it_stands_beside_passes_of_onnx_ir():
    model = ir.from_proto(onnx.parser.parse_model(CONV))
    x = np.random.default_rng(0).normal(size=(1, 1, 4, 4)).astype(np.float32)
    expected = run(model, x=x)
    passes = ir.passes.Sequential(
        theirs.IdentityEliminationPass(), addax.as_pass(), theirs.RemoveUnusedNodesPass()
    )
    result = passes(model)
    assert (True, True) == (result.modified, result.model is model)
    assert ["Conv"] == [node.op_type for node in model.graph]
    assert {"author": "me"} == dict(model.metadata_props)
    np.testing.assert_allclose(run(model, x=x), expected, rtol=1e-5)


def test_a_manager_stops_when_nothing_changes():
    model = ir.from_proto(onnx.parser.parse_model(CONV))
    manager = ir.passes.PassManager([addax.as_pass("cleanup,fold-affine")], steps=5)
    assert manager(model).modified
    before = model.graph
    assert not addax.as_pass("cleanup,fold-affine")(model).modified
    assert before is model.graph


def test_rules_of_ones_own_run_alone_or_with_a_pipeline():
    text = """<ir_version: 10, opset_import: ["": 20]>
    g (float[2] x) => (float[2] y) { a = Neg(x) b = Neg(a) c = Identity(b) y = Relu(c) }"""
    alone, both = addax.as_pass(rules=[neg_neg]), addax.as_pass("cleanup", rules=[neg_neg])
    for runner, kept in ((alone, ["Identity", "Relu"]), (both, ["Relu"])):
        model = ir.from_proto(onnx.parser.parse_model(text))
        assert runner(model).modified
        assert kept == [node.op_type for node in model.graph]
    assert 1 == alone.statistics[neg_neg.name].applied


def test_approximate_families_calibrate_and_run_anywhere():
    random = np.random.default_rng(0)
    proto = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 20]>
    g (float[N,64] x) => (float[N,80] y) { y = MatMul(x, w) }""")
    weights = random.normal(size=(64, 80)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    model = ir.from_proto(proto)
    x = random.normal(size=(100, 64)).astype(np.float32)
    addax.as_pass("shift-add{bits=4}", calibration=[x])(model)
    assert ["CodebookMatMul"] == [node.op_type for node in model.graph]
    (y,) = run(model, x=x)
    assert np.square(y - x @ weights).mean() < 0.02 * np.square(x @ weights).mean()


def test_options_are_validated():
    with pytest.raises(OptionError, match="there is no pass 'clenup'"):
        addax.as_pass("clenup")
    with pytest.raises(OptionError, match=r"expected rules, as addax.ir.rule.rule makes, got 'x'"):
        addax.as_pass(rules=["x"])
