"""What nodes cost."""

import onnx.parser
import onnx_ir as ir

from addax.ir.cost import total_cost


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
