"""What nodes cost."""

import numpy as np
import onnx.parser
import onnx_ir as ir

from addax.ir.cost import total_cost
from tests.ir.dialect.running import model_of


def cost(text):
    head = '<ir_version: 10, opset_import: ["": 20]> g '
    return total_cost(ir.from_proto(onnx.parser.parse_model(head + text)))


def test_a_product_costs_its_inner_size():
    made = cost("(float[2,3] x, float[3,4] w) => (float[2,4] y) { y = MatMul(x, w) }")
    assert (24, 24) == (made.multiplies, made.adds)
    assert (4 * (6 + 12), 4 * 8) == (made.bytes_read, made.bytes_written)


def test_strings_have_no_size():
    made = cost("(string[2] x, string[2] z) => (bool[2] y) { y = Equal(x, z) }")
    assert (0, 2) == (made.bytes_read, made.bytes_written)


def test_operators_of_the_dialect_say_what_they_cost():
    inputs = {
        "x": (ir.DataType.FLOAT, ["B", 8]),
        "weights": np.zeros((1, 2, 64, 4), np.int8),
        "scale": np.ones(3, np.float32),
    }
    made = total_cost(model_of("Int8MatMul", inputs), {"B": 2})
    assert (2 * 3, 2 * 3 * 8, 2 * 3 * 8) == (
        made.multiplies,
        made.byte_multiplies,
        made.integer_adds,
    )
    assert made.bytes_read == 2 * 8 * 4 + 512 + 12


def test_operators_of_others_cost_only_what_they_read_and_write():
    head = '<ir_version: 10, opset_import: ["": 20, "other": 1, "addax": 1]> g '
    for name in ("other.Int8MatMul", "addax.Nonsense"):
        text = head + "(float[2] x) => (float[2] y) { y = " + name + "(x) }"
        made = total_cost(ir.from_proto(onnx.parser.parse_model(text)))
        assert (0, 8) == (made.multiplies, made.bytes_read)


def test_products_of_bytes_are_counted_apart():
    head = '<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]> g '
    for name, scaled in (("MatMulInteger", 0), ("com.microsoft.MatMulIntegerToFloat", 1)):
        scales = "" if not scaled else ", s, s"
        kind = "float" if scaled else "int32"
        node = f"{{ y = {name}(x, w{scales}) }}"
        text = f"(uint8[2,3] x, int8[3,4] w, float s) => ({kind}[2,4] y) {node}"
        made = total_cost(ir.from_proto(onnx.parser.parse_model(head + text)))
        assert (8 * scaled, 24, 24) == (made.multiplies, made.byte_multiplies, made.integer_adds)
        assert made.energy < cost_of_floats()


def cost_of_floats():
    return cost("(float[2,3] x, float[3,4] w) => (float[2,4] y) { y = MatMul(x, w) }").energy
