"""Shape inference across scopes: branches, loops, and calls of model-local functions."""

import onnx_ir as ir
import pytest

from addax.errors import InvalidGraphError
from addax.ir.parser import parse_text
from addax.ir.shapes import ShapeInference, infer_shapes

HEAD = '<opset_import: ["" : 20, "addax" : 1]> g '


def read(text: str) -> ir.Model:
    model = parse_text(HEAD + text)
    infer_shapes(model)
    return model


def shown(value: ir.Value) -> list[int | str | None]:
    return [d if isinstance(d, int) else d.value for d in value.shape]


def output(model: ir.Model, index: int = 0) -> list[int | str | None] | None:
    value = model.graph.outputs[index]
    return None if value.shape is None else shown(value)


IF = """(bool c, float[N,3] x, float[M,3] z) => (y) {
    y = If(c) <then_branch = t () => (p) { %s }, else_branch = e () => (q) { %s }>
}"""


@pytest.mark.parametrize(
    ("then", "otherwise", "expected"),
    [
        ("p = Relu(x)", "q = Exp(x)", ["N", 3]),
        ("p = Relu(x)", "q = Exp(z)", [None, 3]),
        ("p = Transpose(x)", "q = Exp(x)", [None, None]),
        ("p = ReduceSum<keepdims = 0>(x)", "q = Exp(x)", None),
        ("p = NonZero(x)", "q = NonZero(x)", [2, None]),
        ("p = Custom(x)", "q = Exp(x)", None),
    ],
)
def test_if(then: str, otherwise: str, expected: list[object]) -> None:
    assert output(read(IF % (then, otherwise))) == expected


def test_inner_values_of_a_branch_are_filled_in() -> None:
    model = read(IF % ("a = Relu(x) p = Neg(a)", "q = Exp(x)"))
    body = model.graph[0].attributes["then_branch"].as_graph()
    assert shown(body[0].outputs[0]) == ["N", 3]


LOOP = """(int64 n, bool c, float[N,3] x) => (y, s) {
    y, s = Loop(n, c, x) <
        body = b (int64 i, bool k, %s v) => (k2, w, r) { k2 = Identity(k) %s }
    >
}"""


def test_a_carried_value_may_grow() -> None:
    model = read(LOOP % ("float[]", "w = Concat<axis = 0>(v, v) r = Relu(v)"))
    assert output(model) is None
    assert model.graph.outputs[0].dtype == ir.DataType.FLOAT
    body = model.graph[0].attributes["body"].as_graph()
    assert body.inputs[2].shape is None


def test_a_carried_value_of_declared_shape() -> None:
    model = read(LOOP % ("float[N,3]", "w = Relu(v) r = ReduceSum<keepdims = 0>(v)"))
    assert output(model) == ["N", 3]
    assert output(model, 1) == [None]  # as many as there were turns


def test_sizes_of_one_turn_do_not_leave_the_loop() -> None:
    model = read(LOOP % ("float[N,3]", "w = Relu(v) r = NonZero(v)"))
    assert output(model, 1) == [None, 2, None]


SCAN = """(float[H] state, float[T,B,5] xs) => (last, ys) {
    last, ys = Scan(state, xs) <
        num_scan_inputs = 1%s, body = b (h, x) => (g, y) { g = Relu(h) y = Exp(x) }
    >
}"""


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ("", ["T", "B", 5]),
        (", scan_input_axes = [1]", ["B", "T", 5]),
        (", scan_input_axes = [-1], scan_output_axes = [-1]", ["T", "B", 5]),
    ],
)
def test_scan(axes: str, expected: list[object]) -> None:
    model = read(SCAN % axes)
    assert output(model) == ["H"]
    assert output(model, 1) == expected


CALL = """(float[N,3] x, float[3,4] w) => (y) { [call] y = addax.Outer<k = 1>(x, w) }
<domain: "addax", opset_import: ["" : 20, "addax" : 1]>
Outer <k> (a, b) => (r) { m = addax.Inner<perm = [1, 0]>(a) t = Transpose(m) p = MatMul(t, b)
    s = Softmax<axis = @k>(p) r = ReduceMax<keepdims = @k>(s) }
<domain: "addax", opset_import: ["" : 11]>
Inner <perm> (a) => (r) { u = Unsqueeze<axes = [0]>(a) v = Squeeze<axes = [0]>(u)
    r = Transpose<perm = @perm>(v) }
"""


def test_calls_are_inferred_through_their_bodies() -> None:
    model = read(CALL)
    assert output(model) == [1, 1]
    assert model.graph.outputs[0].dtype == ir.DataType.FLOAT
    bodies = [v for f in model.functions.values() for node in f for v in node.outputs]
    assert all(v.shape is None for v in bodies)  # another call may have other shapes


def test_each_call_has_its_own_shapes() -> None:
    model = read(
        """(float[N,3] x, int64[7] z) => (y, w) { y = addax.F(x) w = addax.F(z) }
        <domain: "addax", opset_import: ["" : 20]> F (a) => (b) { b = Neg(a) }"""
    )
    assert output(model) == ["N", 3]
    assert output(model, 1) == [7]
    assert model.graph.outputs[1].dtype == ir.DataType.INT64


def test_shape_contents_enter_a_function() -> None:
    model = read(
        """(float[N,6] x) => (y) <int64[3] t = {0,2,3}> { y = addax.F(x, t) }
        <domain: "addax", opset_import: ["" : 20]> F (a, t) => (b) { b = Reshape(a, t) }"""
    )
    assert output(model) == ["N", 2, 3]


def test_equal_calls_may_make_different_sizes() -> None:
    model = read(
        """(float[4] x) => (y, z) { a = addax.F(x) b = addax.F(x) y = Neg(a) z = Add(a, b) }
        <domain: "addax", opset_import: ["" : 20]> F (a) => (b) { b = NonZero(a) }"""
    )
    first, second = (node.outputs[0] for node in list(model.graph)[:2])
    assert shown(first)[0] == shown(second)[0] == 1
    assert shown(first)[1] != shown(second)[1]


def test_defaults_of_formal_attributes() -> None:
    model = read(
        """(float[2,3] x) => (y, z) { y = addax.F(x) z = addax.F<axes = 0>(x) }
        <domain: "addax", opset_import: ["" : 20]>
        F <axis: int = 1> (a) => (b) { b = Flatten<axis = @axis>(a) }"""
    )
    assert output(model) == [2, 3]


def test_fewer_operands_than_formals() -> None:
    model = read(
        """(float[2,3] x) => (y) { y = addax.F(x) }
        <domain: "addax", opset_import: ["" : 20]> F (a, b) => (c) { c = Clip(a, b) }"""
    )
    assert output(model) == [2, 3]


def test_a_function_comes_before_an_operator_of_its_name() -> None:
    model = read(
        """(float[2,3] x) => (y) { y = Relu(x) }
        <domain: "", opset_import: ["" : 20]> Relu (a) => (b) { b = Transpose(a) }"""
    )
    assert output(model) == [3, 2]


def test_recursion_ends() -> None:
    model = read(
        """(float[2,3] x) => (y) { y = addax.F(x) }
        <domain: "addax", opset_import: ["" : 20, "addax" : 1]> F (a) => (b) { b = addax.F(a) }"""
    )
    assert output(model) is None


def test_a_contradiction_inside_a_function_names_both_nodes() -> None:
    with pytest.raises(InvalidGraphError, match=r"addax:F 'outside': MatMul 'inside': the inner"):
        read(
            """(float[2,3] x) => (y) { [outside] y = addax.F(x) }
            <domain: "addax", opset_import: ["" : 20]> F (a) => (b) { [inside] b = MatMul(a, a) }"""
        )


def test_a_new_node_that_calls_a_function() -> None:
    model = read(CALL)
    node = ir.Node("addax", "Inner", [model.graph.inputs[0]], [ir.AttrInt64s("perm", [1, 0])])
    ShapeInference(model).infer(node)
    assert shown(node.outputs[0]) == [3, "N"]
    assert node.outputs[0].dtype == ir.DataType.FLOAT


def test_a_node_with_references_is_left_open() -> None:
    model = read("(float[2,3] x) => (y) { y = Relu(x) }")
    reference = ir.RefAttr("perm", "order", ir.AttributeType.INTS)
    node = ir.Node("", "Transpose", [model.graph.inputs[0]], [reference])
    ShapeInference(model).infer(node)
    assert node.outputs[0].shape is None
