"""Raising the operator set changes no number in ONNX Runtime, or nothing at all."""

import logging
import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper

from addax.frontend._opset import ADAPTERS, TARGET, _history, _means_the_same
from addax.frontend.from_onnx import from_onnx
from addax.ir.verify import verify

onnxruntime.set_default_logger_severity(4)

# Operator sets, and graphs in which an operator means something else in a later one.
CASES = [
    (7, "float[2,3] x", "y = Dropout <ratio = 0.9> (x)"),
    (10, "float[2,3] x", "y = Dropout <ratio = 0.9> (x)"),
    (7, "float[2,3,4] x", "y = Softmax (x)"),
    (11, "float[2,3,4] x", "y = Softmax <axis = 0> (x)"),
    (11, "float[2,3,4] x", "y = LogSoftmax <axis = 1> (x)"),
    (12, "float[2,3,4] x", "y = Softmax <axis = 2> (x)"),
    (12, "float[2,3,4] x", "y = Softmax <axis = -1> (x)"),
    (12, "float[2,3,4] x", "y = Softmax <axis = -2> (x)"),
    (11, "float[2,3,4] x", "y = Hardmax <axis = 1> (x)"),
    (12, "float[2,3] x", "u = Unsqueeze <axes = [0, 2]> (x) y = Squeeze <axes = [0]> (u)"),
    (11, "float[1,3] x", "y = Squeeze (x)"),
    (12, "float[4,3] x", "y, z = Split <axis = 0, split = [1, 3]> (x)"),
    (12, "float[4,3] x", "y, z = Split (x)"),
    (13, "float[4,3] x", "y, z = Split (x)"),
    (9, "float[4,3] x", "y = Slice <starts = [1, 0], ends = [3, -1]> (x)"),
    (9, "float[4,3] x", "y = Slice <axes = [1], starts = [-2], ends = [9999]> (x)"),
    (9, "float[4,3] x", "y = Pad <pads = [0, 1, 1, 0], value = 2.5> (x)"),
    (9, "float[4,3] x", 'y = Pad <pads = [0, 1, 1, 0], mode = "edge"> (x)'),
    (9, "float[4,3] x", "y, i = TopK <axis = 1, k = 2> (x)"),
    (10, "float[4,3] x", "y = Clip <min = -0.5, max = 0.5> (x)"),
    (6, "float[4,3] x", "y = Clip <max = 0.5> (x)"),
    (10, "float[4,3] x", "y = Clip (x)"),
    (12, "float[4,3] x", "y = ReduceSum <axes = [1], keepdims = 0> (x)"),
    (17, "float[4,3] x", "y = ReduceMean <axes = [-1]> (x)"),
    (17, "float[4,3] x", "y = ReduceMax (x)"),
    (13, "float[4,3] x", "y = ReduceL2 <axes = [0, 1]> (x)"),
    (8, "float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v",
     "a = Abs(v) y = BatchNormalization <spatial = 1> (x, s, b, m, a)"),
    (13, "float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v",
     "a = Abs(v) y = BatchNormalization <momentum = 0.5> (x, s, b, m, a)"),
    (7, "float[1,2,3,3] x", 'y = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 3.0]> (x)'),
    (7, "float[1,2,3,3] x", 'y = Upsample <mode = "linear", scales = [1.0, 1.0, 2.0, 2.0]> (x)'),
    (9, "float[1,2,3,3] x", 'k = Constant <value = float[4] {1.0, 1.0, 2.0, 1.5}> () '
                            'y = Upsample <mode = "nearest"> (x, k)'),
    (10, "float[1,2,3,3] x", 'k = Constant <value = float[4] {1.0, 1.0, 2.0, 1.5}> () '
                             'y = Resize <mode = "nearest"> (x, k)'),
    (10, "float[1,2,4,4] x", 'k = Constant <value = float[4] {1.0, 1.0, 0.5, 0.7}> () '
                             'y = Resize <mode = "linear"> (x, k)'),
    (11, "float[1,2,4,4] x", 'r = Constant <value = float[0] {}> () '
                             's = Constant <value = int64[4] {1, 2, 7, 3}> () '
                             'y = Resize <mode = "linear"> (x, r, r, s)'),
    (12, "float[1,2,4,4] x", 'r = Constant <value = float[0] {}> () '
                             'k = Constant <value = float[4] {1.0, 1.0, 1.5, 2.0}> () '
                             'y = Resize <mode = "cubic", coordinate_transformation_mode = '
                             '"align_corners"> (x, r, k)'),
    (10, "float[1,2,8,8] x", 'r = Constant <value = float[1,4] {1.0, 1.0, 6.0, 5.0}> () '
                             'b = Constant <value = int64[1] {0}> () '
                             'y = RoiAlign <output_height = 2, output_width = 2> (x, r, b)'),
    (10, "float[3,3] x, float[1,2] z", 'i = Constant <value = int64[1,2] {2, 0}> () '
                                       'y = Scatter <axis = 0> (x, i, z)'),
    (16, "float[1,1,3,3] x, float[1,2,2,2] g", 'y = GridSample <mode = "bilinear"> (x, g)'),
    (16, "float[1,1,3,3] x, float[1,2,2,2] g", 'y = GridSample <mode = "bicubic"> (x, g)'),
    (16, "float[1,1,3,3] x, float[1,2,2,2] g", "y = GridSample (x, g)"),
    (17, "float[1,4,4,1] x", "y = DFT (x)"),
    (17, "float[1,4,4,1] x", "y = DFT <axis = 2, onesided = 1> (x)"),
    (12, "float[2,4] x, float[4] s, float[4] b", "y = LayerNormalization (x, s, b)"),
    (7, "float[1,2,5,5] x", "y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)"),
    (12, "float[2,3,4] x, bool c", "y = If(c) <"
        "then_branch = t () => (float[2,3,4] u) { u = Softmax <axis = 1> (x) },"
        "else_branch = e () => (float[2,3,4] v) { v = Clip(x) }>"),
]  # fmt: skip


def model_of(opset, inputs, body):
    results = ", ".join(f"float {name}" for name in ("y", "z") if f"{name} = Sp" in body) or "y"
    outputs = "float y, float z" if results != "y" else "float y"
    proto = onnx.parser.parse_model(
        f'<ir_version: 7, opset_import: ["": {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    )
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    return proto


def run(proto, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def feeds_for(proto):
    rng = np.random.default_rng(0)
    given = {tensor.name for tensor in proto.graph.initializer}
    feeds = {}
    for value in (value for value in proto.graph.input if value.name not in given):
        dtype = ir.DataType(value.type.tensor_type.elem_type).numpy()
        dims = [d.dim_value if d.dim_value > 0 else 2 for d in value.type.tensor_type.shape.dim]
        if dtype.kind == "f":
            feeds[value.name] = rng.standard_normal(dims).astype(dtype)
        else:
            feeds[value.name] = rng.integers(0, 2, dims).astype(dtype)
    return feeds


@pytest.mark.parametrize(("opset", "inputs", "body"), CASES)
def test_the_numbers_stay(opset, inputs, body):
    proto = model_of(opset, inputs, body)
    model = from_onnx(proto)
    assert TARGET == model.opset_imports[""]
    verify(model)
    feeds = feeds_for(proto)
    for before, after in zip(run(proto, feeds), run(ir.to_proto(model), feeds), strict=True):
        # Of AveragePool the runtime has two kernels, which add in other orders.
        np.testing.assert_array_max_ulp(before, after, 2 if "AveragePool" in body else 0)


# ONNX Runtime does not run these, so their meaning is said in NumPy.
OLDEST = [
    ("float[2,3] x, float[2,3] z", "y = Sub <broadcast = 0> (x, z)", lambda x, z: x - z),
    ("float[2,3] x, float[3] z", "y = Mul <broadcast = 1> (x, z)", lambda x, z: x * z),
    ("float[2,3] x, float[3,2] z, float[2] c", "y = Gemm <broadcast = 1> (x, z, c)",
     lambda x, z, c: x @ z + c),
    ("float[2,3] x", "y = Dropout <is_test = 1, ratio = 0.5> (x)", lambda x: x),
    ("float[2,3,4] x, float[3] s", "y = PRelu (x, s)",
     lambda x, s: np.where(x < 0, x * s[:, None], x)),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "body", "meaning"), OLDEST)
def test_opset_6_means_what_it_says(inputs, body, meaning):
    proto = model_of(6, inputs, body)
    model = from_onnx(proto)
    verify(model)
    feeds = feeds_for(proto)
    (result,) = run(ir.to_proto(model), feeds)
    np.testing.assert_array_max_ulp(meaning(*feeds.values()), result, 2)


def test_every_adapter_has_a_case():
    cases = [*CASES, *((6, *case[:2]) for case in OLDEST)]
    used = {node.op_type for case in cases for node in nodes_of(model_of(*case).graph)}
    same = {"Abs", "Constant", "If"}
    reductions = {name for name in ADAPTERS if name.startswith("Reduce")} - used
    operands = {"Add", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"}
    assert used - same == set(ADAPTERS) - reductions - operands


def nodes_of(graph):
    for node in graph.node:
        yield node
        for attr in node.attribute:
            yield from nodes_of(attr.g)


def test_names_of_new_values_are_new():
    body = "softmax = Softmax(x) y_flatten = Softmax <axis = 1> (softmax) y = Softmax(y_flatten)"
    model = from_onnx(model_of(11, "float[2,3,4] x", body))
    verify(model)
    names = [value.name for node in model.graph for value in node.outputs]
    assert len(names) == len(set(names))


def test_a_function_is_raised_with_its_model():
    proto = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["": 12, "local": 1]>
    g (float[2,3,4] x) => (float[2,3,4] y) { y = local.F(x) }
    <domain: "local", opset_import: ["": 11]> F (p) => (q) {
        a = ReduceSum <axes = [2]> (p)
        q = Sub(p, a)
    }""")
    model = from_onnx(proto)
    assert [20, 20] == [root.opset_imports[""] for root in (model, *model.functions.values())]
    verify(model)
    feeds = feeds_for(proto)
    np.testing.assert_array_equal(run(proto, feeds), run(ir.to_proto(model), feeds))


REFUSALS = [
    (5, "float[2] x", "y = Neg(x)", "operators before opset 6 have no adapters"),
    (6, "float[2,3] x, float[2] z", "y = Add <broadcast = 1, axis = 0> (x, z)",
     "Add '' broadcasts along an axis of its own"),
    (6, "float[2,3] x", "y = Dropout (x)", "Dropout '' is in training mode"),
    (7, "float[2,3] x", "y, z = Dropout (x) w = Neg(z)", "the mask of Dropout '' is used"),
    (8, "float[2,3,4] x, float[3] s", "y = BatchNormalization <spatial = 0> (x, s, s, s, s)",
     "BatchNormalization '' has statistics for each position"),
    (13, "float[2,3,4] x, float[3] s", "y, m, v = BatchNormalization (x, s, s, s, s) w = Neg(m)",
     "BatchNormalization '' is in training mode"),
    (10, "float[1,2,4,4] x, float[4] s", "y = Resize (x, s)", "Resize '' may shrink"),
    (11, "float[1,2,4,4] x, float[4] s, int64[4] t", "y = Resize (x, s, s, t)",
     "Resize '' has both scales and sizes"),
    (12, "float[1,2,4,4] x, float[4] s", "y = Resize <coordinate_transformation_mode = "
     '"tf_half_pixel_for_nn"> (x, s, s)', "coordinates that later versions do not know"),
    (9, "float[4] x", "y = Slice <axes = [0]> (x)", "Slice '' has no starts or ends"),
    (9, "float[4] x", "y = Pad (x)", "Pad '' has no pads"),
    (9, "float[4] x", "y, i = TopK (x)", "TopK '' has no k"),
    (7, "float[4] x", "y = Upsample (x)", "Upsample '' has no scales"),
    (10, "float[4] x", "a = own.Op(x) y = Clip <min = 0.0> (a)",
     "the element type of Clip '' is unknown"),
    (12, "float[2,4] x, float16[4] s", "y = LayerNormalization (x, s)",
     "LayerNormalization '' has operands of several types"),
    (12, "float[1,2,5,5] x", "y = AveragePool <kernel_shape = [2, 2], ceil_mode = 1> (x)",
     "AveragePool '' rounds its size up"),
    (8, "float[1,2,3] x", "y = Scan <num_scan_inputs = 1, body = b (float[3] p) => (float[3] q)"
     '{ q = Neg(p) }> ("", x)', "Scan has changed, and has no adapter"),
]  # fmt: skip


@pytest.mark.parametrize(("opset", "inputs", "body", "reason"), REFUSALS)
def test_a_model_that_cannot_be_raised_stays_as_it_is(opset, inputs, body, reason, caplog):
    caplog.set_level(logging.INFO)
    proto = model_of(opset, inputs, body)
    proto.opset_import.add(domain="own", version=1)
    model = from_onnx(proto)
    assert opset == model.opset_imports[""]
    assert f"the model stays at opset {opset}: " in caplog.text
    assert reason in caplog.text
    before = [(node.op_type, sorted(a.name for a in node.attribute)) for node in proto.graph.node]
    assert before == [(node.op_type, sorted(node.attributes)) for node in model.graph]


def test_attributes_of_a_call_are_not_raised(caplog):
    caplog.set_level(logging.INFO)
    proto = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["": 12, "local": 1]>
    g (float[2,3,4] x) => (float[2,3,4] y) { y = local.F <axis = 1> (x) }
    <domain: "local", opset_import: ["": 12]> F <axis> (p) => (q) {
        q = Softmax <axis : int = @axis> (p)
    }""")
    assert 12 == from_onnx(proto).opset_imports[""]
    assert "Softmax takes an attribute from its function's call" in caplog.text


def test_what_only_grew_needs_no_adapter():
    assert _means_the_same("Relu", 6, 20)
    assert _means_the_same("Gemm", 7, 20)
    assert not _means_the_same("Softmax", 12, 13)
    assert not _means_the_same("Upsample", 9, 10)
    assert not _means_the_same("Gelu", 19, 20)


def test_every_operator_is_raised_or_known_not_to_be():
    """From opset 7 on, only the batched Scan of opset 8 has no way."""
    stuck = {
        name
        for name, history in _history().items()
        for version in range(7, TARGET)
        if min(history) <= version and not _means_the_same(name, version, TARGET)
    }
    assert {"Scan"} == stuck - set(ADAPTERS)


DATA = Path(__file__).resolve().parents[2] / "../shared/data/onnx_fixtures"
SHIPPED = Path(os.path.dirname(onnx.__file__)) / "backend/test/data"
RANDOM = {"bias_dropout_residual_fusion_multiple_consumers2.onnx"}


def models_on_disk():
    yield from sorted(DATA.glob("**/*.onnx"))
    yield from sorted(SHIPPED.glob("**/model.onnx"))


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason=f"no data at {DATA}")
def test_real_models_of_old_operator_sets_keep_their_numbers():
    raised, kept = 0, []
    for path in models_on_disk():
        proto = onnx.load(path)
        version = max((o.version for o in proto.opset_import if not o.domain), default=99)
        if version >= TARGET or path.name in RANDOM:
            continue
        try:
            feeds = shipped_feeds(path, proto) or feeds_for(proto)
            before = run(proto, feeds)
        except Exception:  # noqa: S112 - what the original cannot run says nothing
            continue
        model = from_onnx(path)
        if model.opset_imports[""] < TARGET:
            kept.append(path.name)
        raised += 1
        for one, other in zip(before, run(ir.to_proto(model), feeds), strict=True):
            if np.asarray(one).dtype.kind == "f":
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=str(path))
            else:
                np.testing.assert_array_equal(one, other, err_msg=str(path))
    assert raised > 170
    assert len(kept) <= 2


def shipped_feeds(path, proto):
    folder = path.parent / "test_data_set_0"
    given = {tensor.name for tensor in proto.graph.initializer}
    files = [(value.name, folder / f"input_{k}.pb") for k, value in enumerate(proto.graph.input)]
    return {
        name: numpy_helper.to_array(onnx.load_tensor(file))
        for name, file in files
        if file.exists() and name not in given
    }
