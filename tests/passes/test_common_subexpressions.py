"""Common subexpressions: what the cases cannot say about sweeps, counts and large constants."""

import numpy as np
import onnx_ir as ir
import pytest

from addax.ir.parser import parse_text
from addax.ir.text import to_text
from addax.ir.verify import verify
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.passes._statistics import Statistics
from tests.calls import calls

HEADER = '<ir_version: 10, opset_import: ["": 20]>\n'
RULE = "common-subexpressions/merge"


def read(body: str) -> ir.Model:
    return parse_text(f"{HEADER}g {body}")


def merge(model: ir.Model, fuel: int | None = None) -> Statistics:
    statistics = run_pipeline(model, Pipeline.parse("common-subexpressions"), fuel=fuel)
    verify(model)
    return statistics


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def comb(count: int) -> ir.Model:
    """`count` equal chains of two nodes, summed."""
    lines = [f"a{i} = Relu(x) b{i} = Exp(a{i})" for i in range(count)]
    names = ", ".join(f"b{i}" for i in range(count))
    return read(f"(float[N] x) => (float[N] y) {{ {' '.join(lines)} y = Sum({names}) }}")


def test_every_merge_counts_as_a_rewrite() -> None:
    model = comb(4)
    statistics = merge(model)
    assert operators(model) == ["Relu", "Exp", "Sum"]
    assert statistics[RULE].applied == statistics.applied == 6


@pytest.mark.parametrize(("fuel", "left"), [(0, 9), (1, 8), (4, 5), (6, 3)])
def test_fuel_stops_after_so_many_merges(fuel: int, left: int) -> None:
    model = comb(4)
    assert merge(model, fuel)[RULE].applied if fuel else merge(model, fuel).applied == 0
    assert len(operators(model)) == left


def test_constants_merge_and_count() -> None:
    model = read(
        "(float[N,3] x) => (float[N,3] y) <float[3] a = {1, 2, 3}, float[3] b = {1, 2, 3}> "
        "{ c = Add(x, a) y = Mul(c, b) }"
    )
    assert merge(model)[RULE].applied == 1
    assert list(model.graph.initializers) == ["a"]


def test_a_constant_that_is_an_output_keeps_its_name() -> None:
    model = read(
        "(float[3] x) => (float[3] y, float[3] b) "
        "<float[3] a = {1, 2, 3}, float[3] b = {1, 2, 3}> { c = Add(x, a) y = Mul(c, b) }"
    )
    merge(model)
    assert [v.name for v in model.graph.outputs] == ["y", "b"]
    assert set(model.graph.initializers) == {"a", "b"}


def test_a_branch_takes_a_constant_of_the_graph_around_it() -> None:
    model = read(
        "(bool c, float[2] x) => (float[2] y) <float[2] a = {1, 2}> { d = Mul(x, a) y = If (c) < "
        "then_branch = t () => (float[2] p) <float[2] b = {1, 2}> { p = Add(d, b) }, "
        "else_branch = e () => (float[2] q) { q = Neg(d) }> }"
    )
    merge(model)
    branch = model.graph.node(1).attributes["then_branch"].as_graph()
    assert not branch.initializers
    assert branch.node(0).inputs[1] is model.graph.initializers["a"]


def test_large_constants_that_differ_in_one_byte_stay() -> None:
    weights = np.arange(10_000, dtype=np.float32)
    other = weights.copy()
    other[4321] += 1
    model = read("(float[10000] x) => (float[10000] y) { a = Add(x, x) y = Add(a, x) }")
    names = {"equal": weights, "same": weights.copy(), "other": other}
    for (name, array), node in zip(names.items(), [*model.graph, model.graph.node(0)], strict=True):
        value = ir.Value(name=name, const_value=ir.Tensor(array))
        model.graph.register_initializer(value)
        node.replace_input_with(0 if name == "other" else 1, value)
    merge(model)
    assert set(model.graph.initializers) == {"equal", "other"}


def test_it_is_linear_in_the_number_of_merges() -> None:
    def work(count: int) -> int:
        model = comb(count)
        return calls(lambda: merge(model))

    work(50)
    # Ten times the merges; the sum of as many terms is looked at for each, cheap but not free.
    assert work(1000) < 30 * work(100)


def test_the_result_does_not_depend_on_where_objects_lie() -> None:
    texts = set()
    for _ in range(3):
        model = read(
            "(float[N] x, float[N] z) => (float[N] y) "
            "{ a = Mul(z, x) b = Mul(x, z) c = Add(b, a) d = Add(a, b) y = Sub(c, d) }"
        )
        merge(model)
        texts.add(to_text(model))
    assert len(texts) == 1
