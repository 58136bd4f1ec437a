"""The driver's contract: it ends, it is linear, it visits everything, and it keeps what it must."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.errors import ConvergenceError
from addax.ir.match import RuleSet
from addax.ir.origin import origin, set_origin
from addax.ir.parser import parse_text
from addax.ir.query import static_shape
from addax.ir.rewriter import Rewriter
from addax.ir.rule import Exact, decline, require, rule
from addax.ir.shapes import infer_shapes
from addax.ir.text import to_text
from addax.ir.verify import verify
from addax.passes._driver import Driver, Limits
from addax.passes._family import families
from addax.passes._statistics import Statistics
from addax.passes.cleanup import fold_constant, involution
from addax.testing.strategies.graphs import models

HEADER = '<ir_version: 10, opset_import: ["": 20]>\n'


def read(body: str) -> ir.Model:
    return parse_text(f"{HEADER}g {body}")


def drive(model, *rules, budget=100_000, fuel=None) -> Statistics:
    infer_shapes(model)
    statistics, rewriter = Statistics(), Rewriter(model)
    Driver(rewriter, RuleSet(rules), statistics, Limits(budget, fuel)).run()
    rewriter.prune()
    verify(model)
    return statistics


def interface(model: ir.Model) -> list[tuple]:
    values = (*model.graph.inputs, *model.graph.outputs)
    return [(v.name, str(v.type), str(v.shape)) for v in values]


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph.all_nodes()]


@rule("test/to-tanh", match=lambda op, x: op.Relu(x), exact=Exact.APPROXIMATE)
def to_tanh(op, x):
    """Relu(x) -> Tanh(x)."""
    return op.Tanh(x)


@rule("test/to-relu", match=lambda op, x: op.Tanh(x), exact=Exact.APPROXIMATE)
def to_relu(op, x):
    """Tanh(x) -> Relu(x)."""
    return op.Relu(x)


@rule("test/swap", match=lambda op, x, y: op.Add(x, y), exact=Exact.BITWISE)
def swap(op, x, y):
    """x + y -> y + x."""
    return op.Add(y, x)


@rule("test/onion", match=lambda op, x: op.Neg(op.Neg(x)), exact=Exact.BITWISE)
def peel(op, x):
    """-(-x) -> x."""
    return x


def chain(count: int, op_type: str = "Relu") -> ir.Model:
    """`count` nodes in a row."""
    x = ir.Value(name="x", shape=ir.Shape([2]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes, value = [], x
    for k in range(count):
        node = ir.Node("", op_type, [value], num_outputs=1, name=f"n{k}")
        value = node.outputs[0]
        value.name = f"v{k}"
        nodes.append(node)
    value.shape, value.type = ir.Shape([2]), ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], [value], nodes=nodes, opset_imports={"": 20}, name="chain")
    return ir.Model(graph, ir_version=10)


# It ends


def test_two_fighting_rules_are_named():
    model = read("(float[2] x) => (float[2] y) { y = Relu(x) }")
    with pytest.raises(ConvergenceError, match="expected a fixed point within 50 rewrites") as e:
        drive(model, to_tanh, to_relu, budget=50)
    assert "test/to-tanh (25x)" in str(e.value) or "test/to-tanh (26x)" in str(e.value)
    assert "test/to-relu" in str(e.value)
    assert "one of these rules undoes another or its own work" in str(e.value)


def test_a_rule_that_undoes_itself_is_named_with_its_node():
    model = read("(float[2] x, float[2] z) => (float[2] y) { y = Add(x, z) }")
    with pytest.raises(ConvergenceError, match=re.escape("test/swap (64x), the last one at Add")):
        drive(model, swap, budget=100)


@pytest.mark.parametrize("fuel", [0, 1, 2, 5, 9, 10])
def test_fuel_stops_quietly_after_that_many_rewrites(fuel):
    model = chain(10)
    assert drive(model, to_tanh, fuel=fuel).applied == fuel
    assert Counter(operators(model)) == Counter({"Tanh": fuel, "Relu": 10 - fuel})


def test_fuel_is_spent_in_the_same_order_each_time():
    kinds = []
    for fuel in range(11):
        model = chain(10)
        drive(model, to_tanh, fuel=fuel)
        kinds.append([op == "Tanh" for op in operators(model)])
    for fewer, more in pairwise(kinds):
        assert all(m or not f for f, m in zip(fewer, more, strict=True))


def test_more_fuel_than_needed_changes_nothing():
    model = chain(3)
    assert drive(model, to_tanh, fuel=1000).applied == 3


# It is linear


def test_visits_grow_as_the_graph():
    counts = {size: drive(chain(size), to_tanh).visits for size in (200, 400, 800)}
    assert counts[400] <= 2.1 * counts[200]
    assert counts[800] <= 2.1 * counts[400]
    assert counts[200] <= 6 * 200


def test_an_onion_of_2000_nodes_goes_to_nothing():
    model = chain(2000, "Neg")
    statistics = drive(model, peel)
    assert operators(model) == ["Identity"]
    assert statistics.applied in {1000, 1001}
    assert statistics.visits <= 5 * 2000


def test_an_onion_of_2001_nodes_goes_to_one():
    model = chain(2001, "Neg")
    drive(model, peel)
    assert operators(model) == ["Neg"]


def test_a_thousand_other_rules_change_nothing():
    def other(k: int):
        @rule(
            f"test/other-{k}", match=lambda op, x: op.Relu(op.Exp(op.Log(x))), exact=Exact.BITWISE
        )
        def build(op, x):
            """Relu(Exp(Log(x))) -> x."""
            return x

        return build

    plain, crowded = chain(100), chain(100)
    expected = drive(plain, to_tanh)
    actual = drive(crowded, *(other(k) for k in range(1000)), to_tanh)
    assert to_text(plain, names="kept") == to_text(crowded, names="kept")
    assert (expected.applied, expected.visits) == (actual.applied, actual.visits)


def test_many_readers_of_one_value_are_not_visited_again_and_again():
    body = " ".join(f"a{k} = Add(n, x) b{k} = Relu(a{k})" for k in range(200))
    total = "y = Sum(" + ", ".join(f"b{k}" for k in range(200)) + ")"
    model = read(f"(float[2] x) => (float[2] y) {{ m = Neg(x) n = Neg(m) {body} {total} }}")
    assert drive(model, peel, to_tanh).visits < 3000


# It visits everything


def test_subgraphs_are_visited_at_any_depth():
    model = read("""(bool b, float[2] x) => (float[2] y) {
        y = If (b) <
            then_branch = t () => (float[2] p) {
                p = If (b) <
                    then_branch = tt () => (float[2] pp) { a = Neg(x) c = Neg(a) pp = Exp(c) },
                    else_branch = te () => (float[2] pe) { pe = Relu(x) }
                >
            },
            else_branch = e () => (float[2] q) { q = Relu(x) }
        >
    }""")
    statistics = drive(model, to_tanh, peel)
    assert {name: entry.applied for name, entry in statistics.items()} == {
        "test/to-tanh": 2,
        "test/onion": 1,
    }
    assert sorted(operators(model)) == ["Exp", "If", "If", "Tanh", "Tanh"]


def test_functions_are_visited():
    model = parse_text("""<ir_version: 10, opset_import: ["": 20, "local": 1]>
    g (float[2] x) => (float[2] y) { y = local.f(x) }
    <domain: "local", opset_import: ["": 20]>
    f (p) => (q) { a = Neg(p) b = Neg(a) q = Relu(b) }""")
    assert drive(model, to_tanh, peel).applied == 2
    (function,) = model.functions.values()
    assert [node.op_type for node in function] == ["Tanh"]


def test_a_dead_branch_takes_what_only_it_read_along():
    model = read("""(bool b, float[2] x) => (float[2] y) {
        a = Exp(x)
        dead = If (b) <
            then_branch = t () => (float[2] p) { p = Relu(a) },
            else_branch = e () => (float[2] q) { q = Tanh(a) }
        >
        y = Neg(x)
    }""")
    statistics = drive(model)
    assert operators(model) == ["Neg"]
    assert statistics.dead_nodes == 2


def test_a_rewrite_wakes_the_roots_above_it():
    """Sub(Neg(Neg(x)), x): the inner rewrite makes the outer pattern match."""

    @rule("test/difference", match=lambda op, x: op.Sub(x, x), exact=Exact.REASSOCIATED)
    def difference(op, x):
        """x - x -> 0 x."""
        return op.Mul(x, 0.0)

    model = read("(float[2] x) => (float[2] y) { a = Neg(x) b = Neg(a) y = Sub(b, x) }")
    drive(model, difference, peel)
    assert operators(model) == ["Mul"]


def test_a_value_that_stops_being_shared_wakes_its_reader():
    model = read("""(float[2] x) => (float[2] y) {
        a = Neg(x)
        b = Neg(a)
        dead = Relu(a)
        y = Relu(b)
    }""")
    drive(model, peel)
    assert operators(model) == ["Relu"]


def test_a_value_that_a_dead_branch_read_wakes_its_other_reader():
    model = read("""(bool c, float[2] x) => (float[2] y) {
        a = Neg(x)
        y = Neg(a)
        dead = If (c) <
            then_branch = t () => (float[2] p) { p = Relu(a) },
            else_branch = e () => (float[2] q) { q = Tanh(a) }
        >
    }""")
    drive(model, peel)
    assert operators(model) == ["Identity"]


# It keeps what it must


def test_interface_names_types_and_shapes_are_kept():
    model = read(
        "(float[N,2] x) => (float[N,2] y, float[N,2] z) { a = Neg(x) y = Neg(a) z = Neg(y) }"
    )
    before = [
        (v.name, str(v.type), str(v.shape)) for v in (*model.graph.inputs, *model.graph.outputs)
    ]
    drive(model, peel, involution)
    after = [
        (v.name, str(v.type), str(v.shape)) for v in (*model.graph.inputs, *model.graph.outputs)
    ]
    assert before == after


def test_new_nodes_have_the_old_ones_place_and_the_rules_names():
    model = read("(float[2] x) => (float[2] y) { y = Relu(x) }")
    set_origin(model.graph[0], "encoder.0", "relu", "model.py:7")
    drive(model, to_tanh)
    found = origin(model.graph[0])
    assert (found.module, found.op, found.source) == ("encoder.0", "relu", "model.py:7")
    assert found.rules == ("test/to-tanh",)


def test_names_stay_unique():
    model = read("""(float[2] x) => (float[2] y) <float[2] c = {1, 2}> {
        y_1 = Add(x, c)
        y_2 = Neg(y_1)
        y = Relu(y_2)
    }""")

    @rule("test/spread", match=lambda op, x: op.Relu(x), exact=Exact.REASSOCIATED)
    def spread(op, x):
        """Relu(x) -> Tanh(Exp(x) + Log(x))."""
        return op.Tanh(op.Add(op.Add(op.Exp(x), op.Log(x)), np.float32([1, 2])))

    drive(model, spread)
    names = [v.name for node in model.graph for v in node.outputs]
    assert len(set(names)) == len(names) == 7


def test_a_decline_is_counted_once_for_each_node():
    @rule("test/never", match=lambda op, x: op.Relu(x), exact=Exact.BITWISE)
    def never(op, x):
        """Relu(x) -> never."""
        require(x.is_graph_input(), "not an input", x)
        decline("no reason", x)

    model = chain(3)
    statistics = drive(model, never, to_relu)
    entry = statistics["test/never"]
    assert {"not an input": ["n1", "n2"], "no reason": ["n0"]} == {
        reason: sorted(nodes) for reason, nodes in entry.declined.items()
    }
    assert (entry.tried, entry.applied) == (3, 0)


def test_an_error_in_a_build_function_leaves_the_graph_whole():
    @rule("test/broken", match=lambda op, x: op.Relu(x), exact=Exact.BITWISE)
    def broken(op, x):
        """Relu(x) -> an error."""
        op.Tanh(op.Exp(x))
        raise KeyError("planted")

    model = chain(3)
    before = to_text(model, types=False)
    with pytest.raises(KeyError, match="planted"):
        drive(model, broken)
    verify(model)
    assert to_text(model, types=False) == before
    assert len(model.graph[0].outputs[0].uses()) == 1


def test_a_replacement_of_another_type_or_shape_is_declined():
    @rule("test/other-type", match=lambda op, x: op.Relu(x), exact=Exact.BITWISE)
    def other_type(op, x):
        """Relu(x) -> double."""
        return op.Cast(x, to=11)

    @rule("test/other-shape", match=lambda op, x: op.Relu(x), exact=Exact.BITWISE)
    def other_shape(op, x):
        """Relu(x) -> two of it."""
        return op.Concat(x, x, axis=0)

    statistics = drive(
        read("(float[2] x) => (float[2] y) { y = Relu(x) }"), other_type, other_shape
    )
    assert list(statistics["test/other-type"].declined) == [
        "the replacement has type DOUBLE, not FLOAT"
    ]
    assert list(statistics["test/other-shape"].declined) == [
        "the replacement has shape [4], not [2]"
    ]


@given(models(max_pieces=4), st.data())
def test_fuel_of_any_amount_leaves_a_sound_model(model: ir.Model, data: st.DataObject):
    rules = [r for f in families().values() if f.is_exact for r in f.rules]
    drive(model, *rules, fuel=data.draw(st.integers(0, 12)))


def test_folding_is_driven_too():
    model = read(
        "(float[2] x) => (float[2] y) <float[2] a = {1, 2}> { b = Neg(a) c = Neg(b) y = Add(x, c) }"
    )
    drive(model, fold_constant)
    assert operators(model) == ["Add"]
    np.testing.assert_array_equal([1, 2], model.graph[0].inputs[1].const_value.numpy())


@rule("test/target", match=lambda op, x: op.domain("test").Target(x), exact=Exact.BITWISE)
def target(op, x):
    return op.initializer(np.array([2, 3]))


@rule("test/static", match=lambda op, x: op.Neg(x), exact=Exact.BITWISE)
def negate_static(op, x):
    require(static_shape(x) == (2, 3), "shape unknown", x)
    return op.Mul(x, -1)


def test_a_shape_that_becomes_known_is_known_to_all_that_follows():
    model = parse_text(
        '<ir_version: 10, opset_import: ["": 20, "test": 1]>'
        "g (float[6] x) => (float[A,B] y) {"
        " t = test.Target(x) r = Reshape(x, t) e = Exp(r) a = Abs(e) n = Neg(a) y = Exp(n) }"
    )
    drive(model, target, negate_static)
    assert ["Reshape", "Exp", "Abs", "Mul", "Exp"] == operators(model)
