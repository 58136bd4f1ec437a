"""What files say about sizes and attributes that nobody may take literally."""

import logging

import numpy as np
import onnx.parser

from addax.frontend.from_onnx import from_onnx
from addax.ir.evaluate import evaluate
from addax.ir.query import shape
from addax.ir.shapes import infer_shapes


def read(opset, text):
    head = f'<ir_version: 8, opset_import: ["": {opset}]> g '
    return from_onnx(onnx.parser.parse_model(head + text))


def test_a_size_of_minus_one_is_unknown():
    model = read(20, "(float[-1,4] x, float[1,-1] z) => (float[-1,4] y) { y = Add(x, z) }")
    infer_shapes(model)
    assert [(None, 4), (1, None)] == [shape(value) for value in model.graph.inputs]
    assert [(None, 4)] == [shape(value) for value in model.graph.outputs]


def test_a_range_up_to_a_size_of_minus_one_is_not_empty():
    model = read(
        20,
        """(int64[-1] x) => (int64[-1] y)
        <int64 zero = {0}, int64 one = {1}, int64[1] axes = {0}> {
            n = Shape(x)
            m = Squeeze(n, axes)
            y = Range(zero, m, one)
        }""",
    )
    infer_shapes(model)
    assert [0, 1, 2] == evaluate(model, {"x": np.zeros(3, np.int64)})["y"].tolist()


NORM = """(float[2,4] x, float[4] s) => (float[2,4] y) {
    y = LayerNormalization <axis = -1, epsion = 0.5> (x, s)
}"""


def test_the_runtime_ignores_attributes_of_what_it_had_before_the_standard(caplog):
    with caplog.at_level(logging.WARNING):
        model = read(12, NORM)
    (node,) = model.graph
    assert ["axis"] == list(node.attributes)
    assert "ignores epsion" in caplog.text
