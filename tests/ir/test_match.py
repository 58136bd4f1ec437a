"""The pattern language: what matches, what does not, and what the slow matcher says of it."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.errors import InvalidGraphError
from addax.ir.interpret import nearest, walk
from addax.ir.match import RuleSet, compile_rule
from addax.ir.rule import EveryNode, Exact, Rule, rule

HEAD = '<ir_version: 10, opset_import: ["": 20]> g '


def read(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(HEAD + text))


def declared(match) -> Rule:
    """A rule with this pattern whose build function takes no bindings."""
    return rule("test/rule", match=match, exact=Exact.BITWISE)(lambda op: None)


def matches(match, text: str) -> bool:
    """Whether the pattern matches at the last node; both matchers must agree."""
    root = list(read(text).graph)[-1]
    made = declared(match)
    found = any(m.find(root) is not None for m in RuleSet([made]).at(root))
    assert found == any(not walk(m, root).miss for m in compile_rule(made))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(float[2] x) => (float[2] y) { y = Relu(x) }", True),
        ("(float[2] x) => (float[2] y) { y = Neg(x) }", False),
    ],
)
def test_operator(text, expected):
    assert expected == matches(lambda op, x: op.Relu(x), text)


@pytest.mark.parametrize(
    ("constant", "type_", "expected"),
    [
        ("{0.5}", "float", True),
        ("{0.500001}", "float", False),
        ("{0.70710678}", "float", False),
        ("{0.5}", "double", True),
    ],
)
def test_number_is_compared_in_its_own_type(constant, type_, expected):
    text = f"({type_}[2] x) => ({type_}[2] y) <{type_} c = {constant}> {{ y = Mul(x, c) }}"
    assert expected == matches(lambda op, x: op.Mul(x, 0.5), text)


def test_root_two_is_the_float32_nearest_to_it():
    text = "(float[2] x) => (float[2] y) <float c = {1.41421356}> { y = Div(x, c) }"
    assert matches(lambda op, x: op.Div(x, 2**0.5), text)


def test_tiny_constant_is_not_zero():
    text = "(float[2] x) => (float[2] y) <float c = {9e-9}> { y = Add(x, c) }"
    assert not matches(lambda op, x: op.Add(x, 0), text)


def test_commutative_operators_match_in_both_orders():
    text = "(float[2] x) => (float[2] y) <float c = {2}> { y = Mul(c, x) }"
    assert matches(lambda op, x: op.Mul(x, 2), text)
    assert not matches(lambda op, x: op.Sub(x, 2), text.replace("Mul", "Sub"))


def test_a_constant_that_raises_the_rank_is_no_scalar():
    text = "(float[2] x) => (float[1,2] y) <float[1,1] c = {1}> { y = Mul(x, c) }"
    assert not matches(lambda op, x: op.Mul(x, 1), text)
    same = "(float[1,2] x) => (float[1,2] y) <float[1,1] c = {1}> { y = Mul(x, c) }"
    assert matches(lambda op, x: op.Mul(x, 1), same)


def test_an_overridable_initializer_is_no_constant():
    text = "(float[2] x, float c = {1}) => (float[2] y) { y = Mul(x, c) }"
    assert not matches(lambda op, x: op.Mul(x, 1), text)


def test_integer_lists_match_vectors():
    text = "(float[2,3] x) => (float[2,1] y) <int64[1] a = {-1}> { y = ReduceMean(x, a) }"
    assert matches(lambda op, x: op.ReduceMean(x, [-1]), text)
    assert not matches(lambda op, x: op.ReduceMean(x, [1]), text)


def test_an_absent_input_is_none():
    text = "(float[2] x) => (float[2] y) <float h = {6}> { y = Clip(x, , h) }"
    assert matches(lambda op, x: op.Clip(x, None, 6), text)
    assert not matches(lambda op, x: op.Clip(x, 0, 6), text)


def test_the_same_name_is_the_same_value():
    assert matches(lambda op, x: op.Mul(x, x), "(float[2] x) => (float[2] y) { y = Mul(x, x) }")
    two = "(float[2] x, float[2] z) => (float[2] y) { y = Mul(x, z) }"
    assert not matches(lambda op, x: op.Mul(x, x), two)


def test_attributes_with_schema_defaults():
    tanh = '(float[2] x) => (float[2] y) { y = Gelu <approximate="tanh"> (x) }'
    plain = "(float[2] x) => (float[2] y) { y = Gelu(x) }"
    assert matches(lambda op, x: op.Gelu(x, approximate="tanh"), tanh)
    assert matches(lambda op, x: op.Gelu(x, approximate="none"), plain)
    assert not matches(lambda op, x: op.Gelu(x, approximate="none"), tanh)


INNER = "(float[2] x) => (float[2] y{more}) {{ n = Neg(x) {other} y = Relu(n) }}"


@pytest.mark.parametrize(
    ("more", "other", "shared", "expected"),
    [
        ("", "", False, True),
        (", float[2] z", "z = Abs(n)", False, False),
        (", float[2] z", "z = Abs(n)", True, True),
        (", float[2] n", "", False, False),
    ],
)
def test_interior_nodes_belong_to_the_match_alone(more, other, shared, expected):
    text = INNER.format(more=more, other=other)
    assert expected == matches(lambda op, x: op.Relu(op.Neg(x, _shared=shared)), text)


def test_an_interior_value_that_is_used_twice_inside():
    def pattern(op, x):
        centred = op.Sub(x, op.ReduceMean(x, ...))
        return op.Mul(centred, centred)

    text = """(float[2,4] x) => (float[2,4] y) {
        m = ReduceMean(x) d = Sub(x, m) y = Mul(d, d) }"""
    assert matches(pattern, text)
    assert not matches(pattern, text.replace("y = Mul(d, d)", "e = Neg(d) y = Mul(d, e)"))


def test_several_outputs():
    def swapped(op, x):
        a, b = op.Split(x, ..., _outputs=2)
        return op.Concat(b, a)

    text = """(float[4] x) => (float[4] y) {
        a, b = Split <num_outputs=2, axis=0> (x) y = Concat <axis=0> (b, a) }"""
    assert matches(swapped, text)
    assert not matches(swapped, text.replace("(b, a)", "(a, b)"))


def test_a_condition_on_any_operator():
    text = "(float[2] x) => (float[2] y) { y = Neg(x) }"
    assert matches(EveryNode(lambda node: node.op_type == "Neg"), text)
    assert not matches(EveryNode(lambda node: node.op_type == "Abs"), text)


def test_a_node_of_an_outer_scope_is_not_interior():
    model = read("""(bool c, float[2] x) => (float[2] y) {
        n = Neg(x)
        y = If (c) <then_branch = t () => (float[2] a) { a = Relu(n) },
                    else_branch = e () => (float[2] b) { b = Abs(x) }>
    }""")
    inner = next(n for n in model.graph.all_nodes() if n.op_type == "Relu")
    found = nearest(declared(lambda op, x: op.Relu(op.Neg(x))), inner)
    assert "expected the output of Neg" in found.miss


@given(st.integers(1, 6), st.integers(0, 6))
def test_chains_match_to_their_depth(pattern_depth, graph_depth):
    def chain(op, x):
        for _ in range(pattern_depth):
            x = op.Neg(x)
        return x

    steps = " ".join(f"v{i + 1} = Neg(v{i})" for i in range(graph_depth))
    text = f"(float[2] v0) => (float[2] y) {{ {steps} y = Neg(v{graph_depth}) }}"
    assert (pattern_depth <= graph_depth + 1) == matches(chain, text)


def test_misses_are_explained():
    text = "(float[2] x) => (float[2] y) <float c = {3}> { n = Mul(x, c) y = Relu(n) }"
    root = list(read(text).graph)[-1]
    found = nearest(declared(lambda op, x: op.Relu(op.Mul(x, 2))), root)
    assert "expected the constant 2 as an input of Mul" in found.miss
    assert ["Relu", "Mul"] == [node.op_type for node in found.nodes]


def test_a_pattern_must_return_an_operator():
    with pytest.raises(InvalidGraphError, match="must return the output of an operator"):
        compile_rule(declared(lambda op, x: x))


def test_a_build_function_takes_what_the_pattern_binds():
    wrong = rule("test/wrong", match=lambda op, x: op.Relu(x), exact=Exact.BITWISE)(
        lambda op, x, w: x
    )
    with pytest.raises(InvalidGraphError, match="takes w, which its pattern does not bind"):
        compile_rule(wrong)


def test_arguments_come_in_the_order_of_the_build_function():
    made = rule("test/order", match=lambda op, x, w: op.MatMul(x, w), exact=Exact.BITWISE)(
        lambda op, w, x: w
    )
    model = read("(float[2,2] x, float[2,2] w) => (float[2,2] y) { y = MatMul(x, w) }")
    root = next(iter(model.graph))
    (matcher,) = compile_rule(made)
    assert ["w", "x"] == [value.name for value in matcher.find(root)]


def test_float16_constants_match_in_half_precision():
    model = read("(float16[2] x) => (float16[2] y) <float16 c = {0}> { y = Mul(x, c) }")
    third = ir.Tensor(np.float16(1 / 3).reshape(()))
    model.graph.initializers["c"].const_value = third
    (matcher, *_) = compile_rule(declared(lambda op, x: op.Mul(x, 1 / 3)))
    assert matcher.find(next(iter(model.graph))) is not None
