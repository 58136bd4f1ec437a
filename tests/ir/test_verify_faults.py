"""Every kind of fault, planted in a sound model: found, placed and named, and nothing else."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from addax.errors import InvalidGraphError
from addax.ir.parser import parse_text
from addax.ir.verify import faults, verify

HEAD = '<opset_import: ["" : 18, "addax" : 1]> g '
FLOAT = ir.TensorType(ir.DataType.FLOAT)

CHAIN = "(float[2] x) => (float[2] y) <float[2] w> { [n] a = Add(x, w) [m] y = Neg(a) }"
BRANCH = """(bool c, float[2] x) => (float[2] y) {
    [n] a = Exp(x)
    [i] y = If(c) <
        then_branch = t () => (float[2] p) { [u] b = Relu(a) [v] p = Neg(b) },
        else_branch = e () => (float[2] q) { [w] b = Abs(x) q = Neg(b) }
    >
}"""
CALL = """(float[2] x) => (float[2] y) { [n] y = addax.F(x) }
<domain: "addax", opset_import: ["" : 18, "addax" : 1]> F <alpha> (a) => (b) { [k] b = Neg(a) }
<domain: "addax", opset_import: ["" : 18, "addax" : 1]> G (a) => (b) { [l] b = addax.F(a) }"""


def read(text: str) -> ir.Model:
    return parse_text(HEAD + text)


def node(model: ir.Model, name: str) -> ir.Node:
    graphs = [model.graph, *(f.graph for f in model.functions.values())]
    return next(n for g in graphs for n in g.all_nodes() if n.name == name)


def value(model: ir.Model, name: str) -> ir.Value:
    found = [v for g in model.graphs() for v in (*g.inputs, *g.initializers.values())]
    found += [v for g in model.graphs() for n in g for v in n.outputs]
    return next(v for v in found if v.name == name)


def body(model: ir.Model, name: str = "then_branch") -> ir.Graph:
    return node(model, "i").attributes[name].as_graph()


def add_node(graph: ir.Graph, new: ir.Node) -> None:
    new.outputs[0].name = new.outputs[0].name or f"{new.op_type}_out"
    graph.append(new)


def plant_order(model: ir.Model) -> None:
    second, graph = node(model, "m"), model.graph
    graph.remove(second)
    graph.insert_before(node(model, "n"), second)


def plant_order_of_capture(model: ir.Model) -> None:
    first, graph = node(model, "n"), model.graph
    graph.remove(first)
    graph.append(first)


def plant_cycle(model: ir.Model) -> None:
    node(model, "n").replace_input_with(0, node(model, "m").outputs[0])


def plant_cycle_through_a_capture(model: ir.Model) -> None:
    node(model, "u").replace_input_with(0, node(model, "i").outputs[0])


def plant_value_of_a_removed_node(model: ir.Model) -> None:
    lost = ir.Node("", "Exp", [model.graph.inputs[0]], name="lost")
    lost.outputs[0].name = "lost_out"
    node(model, "n").replace_input_with(0, lost.outputs[0])


def plant_value_of_nowhere(model: ir.Model) -> None:
    node(model, "n").replace_input_with(0, ir.Value(name="nowhere", type=FLOAT))


def plant_input_of_another_graph(model: ir.Model) -> None:
    other = read("(float[2] z) => (float[2] y) { y = Neg(z) }")
    node(model, "n").replace_input_with(0, other.graph.inputs[0])


def plant_value_of_a_sibling(model: ir.Model) -> None:
    node(model, "w").replace_input_with(0, node(model, "u").outputs[0])


def plant_value_of_a_subgraph(model: ir.Model) -> None:
    add_node(model.graph, ir.Node("", "Neg", [node(model, "u").outputs[0]], name="outside"))


def plant_value_of_a_function(model: ir.Model) -> None:
    add_node(model.graph, ir.Node("", "Neg", [node(model, "k").outputs[0]], name="outside"))


def plant_duplicate_value(model: ir.Model) -> None:
    node(model, "m").outputs[0].name = "a"


def plant_duplicate_node(model: ir.Model) -> None:
    node(model, "m").name = "n"


def plant_shadowing(model: ir.Model) -> None:
    node(model, "u").outputs[0].name = "a"


def plant_captured_name_taken_by_a_constant(model: ir.Model) -> None:
    taken = ir.Value(name="a", const_value=ir.tensor(np.zeros(2, np.float32)), type=FLOAT)
    body(model).register_initializer(taken)


def plant_unnamed(model: ir.Model) -> None:
    node(model, "n").outputs[0].name = None


def plant_dangling_output(model: ir.Model) -> None:
    model.graph.outputs.append(ir.Value(name="never", type=FLOAT))


def plant_outer_value_returned(model: ir.Model) -> None:
    outer = node(model, "n").outputs[0]
    body(model).outputs[0] = outer


def plant_stale_use(model: ir.Model) -> None:
    ir.Node("", "Exp", [value(model, "a")], name="beside")


def plant_missing_use(model: ir.Model) -> None:
    value(model, "a")._uses.clear()


def plant_initializer_under_another_name(model: ir.Model) -> None:
    held = model.graph.initializers.data
    held["other"] = held.pop("w")


def plant_initializer_without_tensor(model: ir.Model) -> None:
    value(model, "w").const_value = None


def plant_type_of_a_constant(model: ir.Model) -> None:
    value(model, "w").const_value = ir.tensor(np.zeros(2), name="w")


def plant_shape_of_a_constant(model: ir.Model) -> None:
    value(model, "w").const_value = ir.tensor(np.zeros(3, np.float32), name="w")


def plant_rank_of_a_constant(model: ir.Model) -> None:
    value(model, "w").const_value = ir.tensor(np.zeros((2, 1), np.float32), name="w")


def plant_missing_import(model: ir.Model) -> None:
    node(model, "n").domain = "strange"


def plant_unknown_operator(model: ir.Model) -> None:
    node(model, "m").op_type = "Negate"


def plant_newer_operator(model: ir.Model) -> None:
    node(model, "m").op_type = "Gelu"


def plant_unknown_ml_operator(model: ir.Model) -> None:
    model.opset_imports["ai.onnx.ml"] = 3
    node(model, "m").domain = "ai.onnx.ml"


def plant_deprecated_operator(model: ir.Model) -> None:
    node(model, "n").op_type = "Upsample"


def plant_too_few_inputs(model: ir.Model) -> None:
    node(model, "n").resize_inputs(1)


def plant_too_many_inputs(model: ir.Model) -> None:
    node(model, "m").resize_inputs(2)


def plant_too_few_of_many_inputs(model: ir.Model) -> None:
    node(model, "m").op_type = "Concat"
    node(model, "m").attributes["axis"] = ir.AttrInt64("axis", 0)
    node(model, "m").resize_inputs(0)


def plant_too_many_outputs(model: ir.Model) -> None:
    node(model, "m").resize_outputs(2)
    node(model, "m").outputs[1].name = "more"


def plant_input_left_out(model: ir.Model) -> None:
    node(model, "n").replace_input_with(0, None)


def plant_missing_attribute(model: ir.Model) -> None:
    node(model, "m").op_type = "Cast"


def plant_unknown_attribute(model: ir.Model) -> None:
    node(model, "m").attributes["axis"] = ir.AttrInt64("axis", 0)


def plant_attribute_of_another_type(model: ir.Model) -> None:
    node(model, "m").op_type = "Softmax"
    node(model, "m").attributes["axis"] = ir.AttrFloat32("axis", 0.0)


def plant_reference_outside_functions(model: ir.Model) -> None:
    node(model, "m").op_type = "Softmax"
    node(model, "m").attributes["axis"] = ir.RefAttr("axis", "alpha", ir.AttributeType.INT)


def plant_missing_function(model: ir.Model) -> None:
    node(model, "n").op_type = "H"


def plant_call_with_too_many_inputs(model: ir.Model) -> None:
    node(model, "n").resize_inputs(2)


def plant_call_with_too_many_outputs(model: ir.Model) -> None:
    node(model, "n").resize_outputs(2)
    node(model, "n").outputs[1].name = "more"


def plant_function_under_another_name(model: ir.Model) -> None:
    model.functions["addax", "Other", ""] = model.functions.pop(("addax", "G", ""))


def plant_recursion(model: ir.Model) -> None:
    node(model, "k").domain, node(model, "k").op_type = "addax", "G"


def plant_recursion_of_one(model: ir.Model) -> None:
    node(model, "k").domain, node(model, "k").op_type = "addax", "F"


def plant_fault_in_a_function(model: ir.Model) -> None:
    node(model, "k").op_type = "Negate"


MAIN, THEN = "main graph", "main graph > If 'i' then_branch"
PLANTED = [
    (CHAIN, plant_order, "order", MAIN, "Neg 'm' reads 'a' before Add 'n' defines it: sort"),
    (BRANCH, plant_order_of_capture, "order", MAIN, "Relu 'u' reads 'a' before Exp 'n'"),
    (CHAIN, plant_cycle, "cycle", MAIN, "a cycle through Add 'n', Neg 'm'"),
    (BRANCH, plant_cycle_through_a_capture, "cycle", MAIN, "a cycle through If 'i'"),
    (CHAIN, plant_value_of_a_removed_node, "foreign-value", MAIN, "Exp 'lost', which is in no"),
    (CHAIN, plant_value_of_nowhere, "foreign-value", MAIN, "'nowhere', a value of no graph"),
    (CHAIN, plant_input_of_another_graph, "foreign-value", MAIN, "'z', an input of another graph"),
    (
        BRANCH,
        plant_value_of_a_sibling,
        "foreign-value",
        "main graph > If 'i' else_branch",
        "Abs 'w' reads 'b', the output of Relu 'u' in another graph",
    ),
    (BRANCH, plant_value_of_a_subgraph, "foreign-value", MAIN, "Relu 'u' in another graph"),
    (CALL, plant_value_of_a_function, "foreign-value", MAIN, "Neg 'k' in another graph"),
    (CHAIN, plant_duplicate_value, "duplicate-value", MAIN, "the name 'a' is defined twice"),
    (CHAIN, plant_duplicate_node, "duplicate-node", MAIN, "two nodes are named 'n'"),
    (BRANCH, plant_shadowing, "shadowing", THEN, "Relu 'u' defines 'a', a name of an enclosing"),
    (
        BRANCH,
        plant_captured_name_taken_by_a_constant,
        "shadowing",
        THEN,
        "Relu 'u' reads 'a', a name that means another value here",
    ),
    (CHAIN, plant_unnamed, "unnamed", MAIN, "output 0 of Add 'n' has no name"),
    (CHAIN, plant_dangling_output, "dangling-output", MAIN, "'never' is not produced in this"),
    (BRANCH, plant_outer_value_returned, "dangling-output", THEN, "return it through an Identity"),
    (CHAIN, plant_stale_use, "use-list", MAIN, "'a' lists Exp 'beside' as a user, which is not"),
    (CHAIN, plant_missing_use, "use-list", MAIN, "'a' is read 1 times but lists 0 uses"),
    (
        CHAIN,
        plant_initializer_under_another_name,
        "initializer",
        MAIN,
        "initializer 'w' is filed under 'other'",
    ),
    (CHAIN, plant_initializer_without_tensor, "initializer", MAIN, "'w' has no tensor"),
    (CHAIN, plant_type_of_a_constant, "constant-type", MAIN, "'w' is declared as FLOAT, but its"),
    (CHAIN, plant_shape_of_a_constant, "constant-shape", MAIN, "as [2], but its tensor is [3]"),
    (CHAIN, plant_rank_of_a_constant, "constant-shape", MAIN, "as [2], but its tensor is [2, 1]"),
    (CHAIN, plant_missing_import, "opset", MAIN, "strange:Add 'n' needs an opset import of"),
    (CHAIN, plant_unknown_operator, "operator", MAIN, "Negate 'm': the operator does not exist"),
    (CHAIN, plant_newer_operator, "operator", MAIN, "Gelu 'm': the operator exists from opset 20"),
    (CHAIN, plant_unknown_ml_operator, "operator", MAIN, "the model imports ai.onnx.ml 3"),
    (CHAIN, plant_deprecated_operator, "deprecated", MAIN, "Upsample 'n': the operator is depr"),
    (CHAIN, plant_too_few_inputs, "arity", MAIN, "Add 'n' has 1 inputs, expected 2"),
    (CHAIN, plant_too_many_inputs, "arity", MAIN, "Neg 'm' has 2 inputs, expected 1"),
    (CHAIN, plant_too_few_of_many_inputs, "arity", MAIN, "has 0 inputs, expected 1 or more"),
    (CHAIN, plant_too_many_outputs, "arity", MAIN, "Neg 'm' has 2 outputs, expected 1"),
    (CHAIN, plant_input_left_out, "arity", MAIN, "Add 'n' leaves out input 0"),
    (CHAIN, plant_missing_attribute, "attribute", MAIN, "Cast 'm' lacks the attribute 'to'"),
    (CHAIN, plant_unknown_attribute, "attribute", MAIN, "Neg 'm' has no attribute 'axis'"),
    (
        CHAIN,
        plant_attribute_of_another_type,
        "attribute",
        MAIN,
        "Softmax 'm': attribute 'axis' is FLOAT, expected INT",
    ),
    (CHAIN, plant_reference_outside_functions, "attribute", MAIN, "'axis' refers to 'alpha' of a"),
    (CALL, plant_missing_function, "call", MAIN, "addax:H 'n' calls a function that the model"),
    (CALL, plant_call_with_too_many_inputs, "arity", MAIN, "has 2 inputs, its function 1"),
    (CALL, plant_call_with_too_many_outputs, "arity", MAIN, "has 2 outputs, its function 1"),
    (CALL, plant_function_under_another_name, "call", "function addax::G", "is filed under"),
    (CALL, plant_recursion, "recursion", "function addax::F", "not through others: addax::F, add"),
    (CALL, plant_recursion_of_one, "recursion", "function addax::F", "through others: addax::F"),
    (CALL, plant_fault_in_a_function, "operator", "function addax::F", "Negate 'k': the operator"),
]


@pytest.mark.parametrize(
    ("text", "plant", "kind", "where", "message"),
    [pytest.param(*case, id=case[1].__name__) for case in PLANTED],
)
def test_planted_fault(
    text: str, plant: Callable[[ir.Model], None], kind: str, where: str, message: str
) -> None:
    model = read(text)
    assert faults(model) == []
    plant(model)
    found = faults(model)
    assert any(f.kind == kind and f.where == where and message in f.message for f in found), found
    assert {f.kind for f in found} <= {kind, "use-list", "dangling-output"} | CONSEQUENCES.get(
        kind, set()
    ), found
    with pytest.raises(InvalidGraphError, match="the model is not well formed"):
        verify(model)


CONSEQUENCES = {"unnamed": {"foreign-value"}, "cycle": {"order"}}
