"""Structural comparison: what counts, what does not, and how the first difference reads."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.ir.diff import Difference, structural_diff, structurally_equal
from addax.ir.model import clone
from addax.ir.parser import parse_text
from addax.ir.text import to_text
from addax.testing.strategies.graphs import models
from tests.ir.disguise import disguise

HEAD = '<opset_import: ["" : 20, "addax" : 1]> g '


def read(text: str) -> ir.Model:
    return parse_text(HEAD + text)


@given(models(), st.integers(0, 2**16))
def test_names_and_order_do_not_count(model: ir.Model, seed: int) -> None:
    assert structural_diff(model, disguise(model, seed)) is None


@given(models(), models())
def test_symmetric_and_at_one_with_the_text(a: ir.Model, b: ir.Model) -> None:
    same_text = to_text(a, types=False) == to_text(b, types=False)
    assert same_text == structurally_equal(a, b) == structurally_equal(b, a)


@given(models(), st.data())
def test_every_change_of_an_attribute_or_operator_is_seen(model: ir.Model, data) -> None:
    changed = clone(model)
    node = data.draw(st.sampled_from(list(changed.graph)), label="node")
    if data.draw(st.booleans()):
        node.op_type = "Other"
    else:
        node.attributes["other"] = ir.AttrInt64("other", 7)
    assert not structurally_equal(model, changed)


@given(models(), st.data())
def test_every_changed_bit_of_a_constant_is_seen(model: ir.Model, data) -> None:
    changed = clone(model)
    constants = [v for v in changed.graph.initializers.values() if v.const_value.size]
    if not constants:
        return
    value = data.draw(st.sampled_from(constants), label="constant")
    array = np.array(value.const_value.numpy())
    raw = bytearray(array.tobytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1
    altered = np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)
    value.const_value = ir.Tensor(altered, dtype=value.const_value.dtype)
    assert not structurally_equal(model, changed)


def first(left: str, right: str) -> str:
    return str(structural_diff(read(left), read(right)))


def test_operator() -> None:
    assert first(
        "(float x) => (float y) {[a] y = Relu(x)}", "(float x) => (float y) {[b] y = Sigmoid(x)}"
    ) == (
        "main graph, output 0: Relu 'a' and Sigmoid 'b': the operator: "
        "Relu on the left, Sigmoid on the right"
    )


def test_first_difference_is_the_one_nearest_to_the_outputs() -> None:
    left = "(float x) => (float y) { a = Relu(x) b = Exp(a) y = Neg(b) }"
    right = "(float x) => (float y) { a = Abs(x) b = Log(a) y = Neg(b) }"
    assert "Exp on the left, Log on the right" in first(left, right)


def test_attribute_and_its_default() -> None:
    plain, given_ = "{ y = Softmax(x) }", "{ y = Softmax<axis = -1>(x) }"
    io = "(float[2,3] x) => (float[2,3] y) "
    assert structurally_equal(read(io + plain), read(io + given_))
    assert "attribute 'axis': the default on the left, axis = 0 on the right" in first(
        io + plain, io + "{ y = Softmax<axis = 0>(x) }"
    )


def test_default_of_a_float_is_compared_in_its_own_precision() -> None:
    model = read("(float[2,3] x, float[3] s) => (float[2,3] y) { y = LayerNormalization(x, s) }")
    spelt = clone(model)
    spelt.graph[0].attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-5)
    assert structural_diff(model, spelt) is None


def test_interface() -> None:
    assert (
        first("(float x) => (float y) { y = Relu(x) }", "(float z) => (float y) { y = Relu(z) }")
        == "main graph: inputs: float x on the left, float z on the right"
    )
    assert "outputs: float y on the left, float[1] y on the right" in first(
        "(float x) => (float y) { y = Relu(x) }", "(float x) => (float[1] y) { y = Relu(x) }"
    )


def test_sharing_counts() -> None:
    shared = "(float x) => (float y) { [a] a = Relu(x) y = Add(a, a) }"
    twice = "(float x) => (float y) { [a] a = Relu(x) [b] b = Relu(x) y = Add(a, b) }"
    message = first(shared, twice)
    assert "'a' and Relu 'b': the node: Relu (met before, beside another) on the left" in message
    assert "'b' and Relu 'a': the node: Relu on the left, Relu (met before" in first(twice, shared)


def test_operands_may_not_be_exchanged() -> None:
    io = "(float x, float z) => (float y) "
    message = first(io + "{ y = Sub(x, z) }", io + "{ y = Sub(z, x) }")
    assert "input 0: the value: input 'x' (met before, beside another) on the left" in message


def test_which_output_of_a_node_is_read() -> None:
    io = "(float[4] x) => (float[2] y) "
    split = "a, b = Split<num_outputs = 2>(x) "
    message = first(io + "{ " + split + "y = Relu(a) }", io + "{ " + split + "y = Relu(b) }")
    assert "output 0 of Split '' on the left, output 1 of Split '' on the right" in message


def test_operand_left_out() -> None:
    io = "(float x, float z) => (float y) "
    message = first(io + "{ y = Clip(x, z) }", io + '{ y = Clip(x, "", z) }')
    assert "given inputs: given, given on the left, given, left out, given" in message
    assert structurally_equal(read(io + "{ y = Clip(x) }"), read(io + '{ y = Clip(x, "", "") }'))


def test_constants_by_bits() -> None:
    io = "(float[2] x) => (float[2] y) "
    zero, minus = "<float[2] w = {0.0, 1.0}>", "<float[2] w = {-0.0, 1.0}>"
    assert (
        "constants differ: float[2] {0.0, 1.0} on the left, float[2] {-0.0, 1.0} on the right"
        in first(io + zero + "{ y = Add(x, w) }", io + minus + "{ y = Add(x, w) }")
    )
    message = first(
        io + zero + "{ y = Add(x, w) }", "(float[2] x) => (float[2] y) { y = Add(x, x) }"
    )
    assert "the value: constant 'w' on the left, input 'x' (met before" in message


def test_constant_against_input() -> None:
    message = first(
        "(float x, float z) => (float y) <float w = {1}> { y = Add(w, z) }",
        "(float x, float z) => (float y) <float w = {1}> { a = Exp(x) y = Add(a, z) }",
    )
    assert "the value: constant 'w' on the left, Exp '' on the right" in message


def test_default_of_an_input() -> None:
    without = read("(float x) => (float y) { y = Relu(x) }")
    with_ = clone(without)
    with_.graph.inputs[0].const_value = ir.tensor(np.float32(1), name="x")
    with_.graph.register_initializer(with_.graph.inputs[0])
    assert "inputs with a default: none on the left, x on the right" in str(
        structural_diff(without, with_)
    )


def test_unused_nodes_and_constants_count() -> None:
    io = "(float x) => (float y) "
    assert "number of nodes: 1 on the left, 2 on the right" in first(
        io + "{ y = Relu(x) }", io + "{ y = Relu(x) z = Exp(x) }"
    )
    assert "unused nodes: Exp '' and Log ''" in first(
        io + "{ y = Relu(x) z = Exp(x) }", io + "{ y = Relu(x) z = Log(x) }"
    )
    assert "unused constants: none on the left, float[1] {2.0} on the right" in first(
        io + "{ y = Relu(x) }", io + "<float[1] w = {2}> { y = Relu(x) }"
    )


IF = """(bool c, float x) => (float y) {
    a = Exp(x)
    y = If(c) <
        then_branch = t () => (float p) { p = %s },
        else_branch = e () => (float q) { q = Neg(x) }
    >
}"""


def test_branches_and_what_they_capture() -> None:
    assert "then_branch, output 0: Relu '' and Abs ''" in first(IF % "Relu(a)", IF % "Abs(a)")
    assert "the value: Exp '' on the left, input 'x' (met before" in first(
        IF % "Relu(a)", IF % "Relu(x)"
    )


def test_a_node_stands_in_another_graph() -> None:
    inside = """(bool c, float x) => (float y) {
        y = If(c) <then_branch = t () => (float p) { a = Exp(x) p = Relu(a) },
                   else_branch = e () => (float q) { q = Neg(x) }>
    }"""
    message = first(IF % "Relu(a)", inside)
    assert "the scope: graph 'g' on the left, graph 't' on the right" in message


FUNCTION = """(float x) => (float y) { y = addax.F(x) }
<domain: "addax", opset_import: ["" : %d]> F (a) => (b) { b = %s(a) }"""


def test_functions() -> None:
    assert "function addax::F, output 0: Exp '' and Log ''" in first(
        FUNCTION % (20, "Exp"), FUNCTION % (20, "Log")
    )
    assert "function addax::F: opset of ai.onnx: 20 on the left, 18 on the right" in first(
        FUNCTION % (20, "Exp"), FUNCTION % (18, "Exp")
    )
    assert "the model: functions: addax::F on the left, none on the right" in first(
        FUNCTION % (20, "Exp"), "(float x) => (float y) { y = addax.F(x) }"
    )
    formal = FUNCTION.replace("F (a)", "F <alpha> (a)")
    assert "attributes: none on the left, alpha on the right" in first(
        FUNCTION % (20, "Exp"), formal % (20, "Exp")
    )


def test_numbers_of_a_bodys_inputs_and_outputs() -> None:
    loop = """(int64 n, bool c, float x) => (float y) {
        y = Loop(n, c, x) <
            body = b (int64 i, bool k, float v%s) => (bool k, float w) { w = Exp(v) }
        >
    }"""
    assert "number of inputs: 3 on the left, 4 on the right" in first(loop % "", loop % ", float u")


def test_opset_of_the_model() -> None:
    other = parse_text('<opset_import: ["" : 18]> g (float x) => (float y) { y = Relu(x) }')
    assert (
        str(structural_diff(read("(float x) => (float y) { y = Relu(x) }"), other))
        == "the model: opset of ai.onnx: 20 on the left, 18 on the right"
    )


def test_deep_graphs_need_no_stack() -> None:
    nodes = "\n".join(f"v{i + 1} = Relu(v{i})" for i in range(4000))
    text = f"(float v0) => (float v4000) {{ {nodes} }}"
    assert structurally_equal(read(text), read(text))


def test_shared_values_are_visited_once() -> None:
    nodes = "\n".join(f"v{i + 1} = Add(v{i}, v{i})" for i in range(2000))
    text = f"(float v0) => (float v2000) {{ {nodes} }}"
    assert structurally_equal(read(text), read(text))


def test_difference_is_data() -> None:
    found = structural_diff(
        read("(float x) => (float y) { y = Relu(x) }"),
        read("(float x) => (float y) { y = Exp(x) }"),
    )
    assert found == Difference(
        "main graph, output 0: Relu '' and Exp ''", "the operator", "Relu", "Exp"
    )
    with pytest.raises(AttributeError):
        found.left = "other"
