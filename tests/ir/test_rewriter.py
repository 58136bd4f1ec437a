"""Committing replacements: names, interfaces, constants, history, scopes."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from addax.errors import InvalidGraphError
from addax.ir.evaluate import evaluate
from addax.ir.origin import origin, set_origin
from addax.ir.rewriter import Rewriter, is_read
from addax.ir.rule import Decline
from addax.ir.shapes import infer_shapes

HEAD = '<ir_version: 10, opset_import: ["": 20]> g '


def read(text: str) -> ir.Model:
    model = ir.from_proto(onnx.parser.parse_model(HEAD + text))
    infer_shapes(model)
    return model


def node(model: ir.Model, op_type: str) -> ir.Node:
    return next(n for n in model.graph.all_nodes() if n.op_type == op_type)


def rewrite(model: ir.Model, op_type: str, build) -> Rewriter:
    """Replace the first node of this type by what `build(op, *inputs)` returns."""
    rewriter = Rewriter(model)
    root = node(model, op_type)
    replacement = rewriter.prepare(root, build, tuple(root.inputs))
    rewriter.commit(replacement, "test/rule")
    if not is_read(root):
        rewriter.erase(root)
    rewriter.flush()
    return rewriter


def types(model: ir.Model) -> list[str]:
    return [n.op_type for n in model.graph]


CHAIN = "(float[2] x) => (float[2] y) { n = Neg(x) y = Relu(n) }"


def test_an_output_keeps_its_name():
    model = read(CHAIN)
    rewrite(model, "Relu", lambda op, n: op.Abs(op.Neg(n)))
    assert ["y"] == [v.name for v in model.graph.outputs]
    assert ["Neg", "Neg", "Abs"] == types(model)


def test_an_inner_value_gives_its_name_to_its_successor():
    model = read(CHAIN)
    rewrite(model, "Neg", lambda op, x: op.Abs(x))
    assert ["n", "y"] == [n.outputs[0].name for n in model.graph]


def test_an_input_as_an_output_gets_an_identity():
    model = read("(float[2] x) => (float[2] y) { y = Neg(x) }")
    rewrite(model, "Neg", lambda op, x: x)
    assert ["Identity"] == types(model)
    assert (["x"], ["y"]) == (
        [v.name for v in model.graph.inputs],
        [v.name for v in model.graph.outputs],
    )


def test_one_value_is_never_made_two_outputs():
    model = read("(float[2] x) => (float[2] y, float[2] z) { y = Neg(x) z = Abs(y) }")
    rewrite(model, "Abs", lambda op, y: y)
    assert ["Neg", "Identity"] == types(model)
    assert ["y", "z"] == [v.name for v in model.graph.outputs]


def test_an_identity_that_names_an_output_stays():
    model = read("(float[2] x) => (float[2] y) { y = Identity(x) }")
    with pytest.raises(Decline, match="gives an output of the graph its name"):
        rewrite(model, "Identity", lambda op, x: x)


def test_a_constant_as_an_output_gets_an_identity():
    model = read("(float[2] x) => (float[2] y) { y = Neg(x) }")
    rewrite(model, "Neg", lambda op, x: op.initializer(np.zeros(2, np.float32)))
    assert ["Identity"] == types(model)
    np.testing.assert_array_equal(np.zeros(2), evaluate(model, {"x": np.ones(2, np.float32)})["y"])


def test_a_decline_leaves_no_trace():
    model = read(CHAIN)
    x, before = model.graph.inputs[0], types(model)

    def build(op, n):
        op.Abs(op.Exp(n))
        raise Decline("no")

    uses = len(x.uses())
    with pytest.raises(Decline, match="no"):
        rewrite(model, "Relu", build)
    assert (before, uses) == (types(model), len(x.uses()))
    assert 1 == len(node(model, "Neg").outputs[0].uses())


def test_nodes_that_nobody_needs_do_not_arrive():
    model = read(CHAIN)

    def build(op, n):
        op.Exp(n)
        return op.Abs(n)

    rewrite(model, "Relu", build)
    assert ["Neg", "Abs"] == types(model)


def test_wrong_element_type_is_declined():
    with pytest.raises(Decline, match="the replacement has type INT64, not FLOAT"):
        rewrite(read(CHAIN), "Relu", lambda op, n: op.Cast(n, to=ir.DataType.INT64))


def test_wrong_shape_is_declined():
    with pytest.raises(Decline, match=r"the replacement has shape \[1, 2\], not \[2\]"):
        rewrite(read(CHAIN), "Relu", lambda op, n: op.Unsqueeze(n, [0]))


def test_an_unreplaced_output_that_is_used_is_declined():
    model = read("(float[4] x) => (float[2] a, float[2] b) { a, b = Split <num_outputs=2> (x) }")
    with pytest.raises(Decline, match="an output of the root without a replacement is used"):
        rewrite(model, "Split", lambda op, x: op.Slice(x, [0], [2]))


def test_history_is_inherited():
    model = read(CHAIN)
    set_origin(node(model, "Relu"), "net.act", "aten.relu")
    rewrite(model, "Relu", lambda op, n: op.Abs(n))
    found = origin(node(model, "Abs"))
    assert ("net.act", "aten.relu", ("test/rule",)) == (found.module, found.op, found.rules)


def test_constants_are_computed_in_float64_and_rounded_once():
    model = read("(float[1] x) => (float[1] y) { y = Neg(x) }")
    tiny = np.float32(2**-30)

    def build(op, x):
        one = op.initializer(np.ones(1, np.float32))
        small = op.initializer(np.asarray([tiny]))
        return op.Mul(x, op.Sub(op.Add(one, small), one))

    rewrite(model, "Neg", build)
    (constant,) = (v for v in node(model, "Mul").inputs if v.const_value is not None)
    assert tiny == constant.const_value.numpy()[0]  # float32 sums would have lost it


def test_overflow_in_the_element_type_is_declined():
    model = read("(float16[1] x) => (float16[1] y) { y = Neg(x) }")

    def build(op, x):
        big = op.initializer(np.full(1, 60000, np.float16))
        return op.Mul(x, op.Add(big, big))

    with pytest.raises(Decline, match="a folded constant overflows FLOAT16"):
        rewrite(model, "Neg", build)


def test_constants_in_functions_are_nodes():
    model = ir.from_proto(
        onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 20, "d": 1]>
        g (float[2] x) => (float[2] y) { y = d.f(x) }
        <domain: "d", opset_import: ["": 20]> f (a) => (b) { b = Neg(a) }""")
    )
    function = next(iter(model.functions.values()))
    rewriter = Rewriter(model)
    root = function[0]
    made = rewriter.prepare(
        root, lambda op, a: op.Mul(a, op.initializer(np.float32([2, 2]))), (root.inputs[0],)
    )
    rewriter.commit(made, "test/rule")
    rewriter.erase(root)
    rewriter.flush()
    assert ["Constant", "Mul"] == [n.op_type for n in function]
    result = evaluate(model, {"x": np.float32([1, 2])})["y"]
    np.testing.assert_array_equal(np.float32([2, 4]), result)


def test_constant_nodes_are_lifted_and_unread_constants_pruned():
    model = read(
        "(float[2] x) => (float[2] y) { c = Constant <value_floats=[1.0, 2.0]> () y = Add(x, c) }"
    )
    rewriter = Rewriter(model)
    assert 1 == rewriter.lift_constants()
    assert (["Add"], ["c"]) == (types(model), list(model.graph.initializers))
    np.testing.assert_array_equal(
        np.float32([1, 2]), evaluate(model, {"x": np.zeros(2, np.float32)})["y"]
    )
    rewrite(model, "Add", lambda op, x, c: op.Neg(x)).prune()
    assert [] == list(model.graph.initializers)


def test_erasing_an_if_releases_what_its_branches_read():
    model = read("""(bool c, float[2] x) => (float[2] y) {
        n = Neg(x)
        z = If (c) <then_branch = t () => (float[2] a) { a = Relu(n) },
                    else_branch = e () => (float[2] b) { b = Abs(n) }>
        y = Exp(x)
    }""")
    rewriter = Rewriter(model)
    sources = rewriter.erase(node(model, "If"))
    assert ["Neg"] == [n.op_type for n in sources]
    assert not is_read(node(model, "Neg"))


def test_new_names_avoid_those_of_every_scope():
    model = read("""(bool c, float[2] x) => (float[2] y) {
        n = Neg(x)
        y = If (c) <then_branch = t () => (float[2] n_1) { n_1 = Relu(n) },
                    else_branch = e () => (float[2] b) { b = Abs(n) }>
    }""")
    rewriter = rewrite(model, "Neg", lambda op, x: op.Abs(op.Exp(x)))
    assert "n_2" == rewriter.fresh_name("n") or "n_1" != rewriter.fresh_name("n")
    names = [v.name for n in model.graph.all_nodes() for v in n.outputs]
    assert len(set(names)) == len(names)


def test_an_output_that_takes_the_place_of_unnamed_ones_has_a_name():
    model = read(
        """(float[2,4] x, float[4] g) => (float[2,4] y, float[2,4] z) {
            s, , , z = com.microsoft.SkipLayerNormalization(x, x, g)
            y = Relu(s)
        }"""
    )

    def build(op, x, skip, g):
        total = op.Add(x, skip)
        made = op.LayerNormalization(total, g)
        return made, made, made, total

    rewrite(model, "SkipLayerNormalization", build)
    assert ["z", "s", "y"] == [n.outputs[0].name for n in model.graph]


def test_a_node_of_no_graph_cannot_be_erased():
    model = read(CHAIN)
    loose = ir.Node("", "Relu", [model.graph.inputs[0]], num_outputs=1, name="loose")
    with pytest.raises(InvalidGraphError, match="node 'loose' is in no graph"):
        Rewriter(model).erase(loose)
