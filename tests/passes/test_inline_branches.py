"""Inlining branches: what moves, what it is called then, and what stays behind."""

import numpy as np
import onnx_ir as ir

from addax.ir.evaluate import evaluate
from addax.ir.origin import origin, set_origin
from addax.ir.parser import parse_text
from addax.ir.verify import verify
from addax.passes._pipeline import Pipeline, run_pipeline

HEADER = '<ir_version: 10, opset_import: ["": 20]>\n'
X = np.array([-1.0, 2.0], np.float32)


def read(body: str) -> ir.Model:
    return parse_text(f"{HEADER}g {body}")


def inline(model: ir.Model, fuel: int | None = None) -> None:
    run_pipeline(model, Pipeline.parse("inline-branches"), fuel=fuel)
    verify(model)


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_a_branch_that_passes_an_input_on() -> None:
    model = read(
        "(float[2] x) => (float[2] y) <bool c = {1}> { y = If (c) "
        "<then_branch = t () => (float[2] p) { p = Identity(x) }, "
        "else_branch = e () => (float[2] q) { q = Exp(x) }> }"
    )
    run_pipeline(model, Pipeline.parse("inline-branches,cleanup"))
    verify(model)
    assert operators(model) == ["Identity"]
    assert evaluate(model, {"x": X})["y"].tolist() == X.tolist()


def test_a_branch_that_returns_its_own_constant() -> None:
    model = read(
        "(float[2] x) => (float[2] y) <bool c = {0}> { y = If (c) "
        "<then_branch = t () => (float[2] p) { p = Neg(x) }, "
        "else_branch = e () => (float[2] q) <float[2] q = {3, 4}> {}> }"
    )
    inline(model)
    assert evaluate(model, {"x": X})["y"].tolist() == [3, 4]


def test_moved_nodes_keep_their_names_and_origins() -> None:
    model = read(
        "(float[2] x) => (float[2] y) <bool c = {1}> { z = If (c) "
        "<then_branch = t () => (float[2] p) { m = Relu(x) p = Neg(m) }, "
        "else_branch = e () => (float[2] q) { q = Exp(x) }> y = Abs(z) }"
    )
    branch = model.graph.node(0).attributes["then_branch"].as_graph()
    branch.node(0).name = "inner"
    set_origin(branch.node(0), "model.layer", "relu")
    inline(model)
    moved = model.graph.node(0)
    assert (moved.name, moved.outputs[0].name) == ("inner", "m")
    assert str(origin(moved)) == "model.layer relu via inline-branches/if"


def test_what_a_moved_subgraph_captures_stays_captured() -> None:
    model = read(
        "(float[2] x, bool d) => (float[2] y) <bool c = {1}> { y = If (c) "
        "<then_branch = t () => (float[2] p) <float w = {2}> { m = Mul(x, w) p = If (d) "
        "<then_branch = t2 () => (float[2] p2) { p2 = Add(m, w) }, "
        "else_branch = e2 () => (float[2] q2) { q2 = Neg(m) }> }, "
        "else_branch = e () => (float[2] q) { q = Exp(x) }> }"
    )
    inline(model)
    assert operators(model) == ["Mul", "If"]
    assert list(model.graph.initializers) == ["w"]
    feeds = {"x": X, "d": np.array(1, bool)}
    assert evaluate(model, feeds)["y"].tolist() == [0, 6]
    assert evaluate(model, {**feeds, "d": np.array(0, bool)})["y"].tolist() == [2, -4]


def test_without_fuel_nothing_moves() -> None:
    model = read(
        "(float[2] x) => (float[2] y) <bool c = {0}> { y = If (c) "
        "<then_branch = t () => (float[2] p) { p = Neg(x) }, "
        "else_branch = e () => (float[2] q) { q = Exp(x) }> }"
    )
    inline(model, fuel=0)
    assert operators(model) == ["If"]


def test_other_rules_see_what_moved() -> None:
    model = read(
        "(float[2,2] x) => (float[2,2] y) <bool c = {1}> { a = Transpose(x) y = If (c) "
        "<then_branch = t () => (float[2,2] p) { m = Transpose(a) p = Neg(m) }, "
        "else_branch = e () => (float[2,2] q) { q = Exp(a) }> }"
    )
    run_pipeline(model, Pipeline.parse("inline-branches,movement"))
    verify(model)
    assert operators(model) == ["Neg"]
