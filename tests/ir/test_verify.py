"""The verifier: sound models have no fault, faults come all at once, in linear time."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.backend.test.loader import load_model_tests

from addax.errors import InvalidGraphError
from addax.ir.parser import parse_text
from addax.ir.verify import Fault, faults, verify
from addax.testing.strategies.graphs import models
from tests.calls import calls
from tests.ir.disguise import disguise

FIXTURES = Path(__file__).resolve().parents[2] / "../shared/data/onnx_fixtures/ort"
# What ONNX Runtime lets pass: nodes in any order, domains that nobody imports.
LENIENT = {"order", "opset"}
NO_GRAPH = {"gpt2_past.onnx"}  # two nodes make one value: onnx_ir does not read it

HEAD = '<opset_import: ["" : 18, "addax" : 1]> g '
CHAIN = "(float[2] x) => (float[2] y) <float[2] w> { [n] a = Add(x, w) [m] y = Neg(a) }"
BRANCH = """(bool c, float[2] x) => (float[2] y) {
    [n] a = Exp(x)
    [i] y = If(c) <
        then_branch = t () => (float[2] p) { [u] b = Relu(a) [v] p = Neg(b) },
        else_branch = e () => (float[2] q) { [w] b = Abs(x) q = Neg(b) }
    >
}"""


def read(text: str) -> ir.Model:
    return parse_text(HEAD + text)


def node(model: ir.Model, name: str) -> ir.Node:
    return next(n for n in model.graph if n.name == name)


@given(models())
def test_random_models_are_sound(model: ir.Model) -> None:
    assert faults(model) == []


@given(models(), st.integers(0, 2**16))
def test_disguised_models_are_sound(model: ir.Model, seed: int) -> None:
    assert faults(disguise(model, seed)) == []


def test_all_faults_come_at_once() -> None:
    model = read(CHAIN)
    node(model, "m").op_type = "Gelu"
    model.graph.initializers["w"].const_value = ir.tensor(np.zeros(2), name="w")
    node(model, "n").name = "m"
    assert {f.kind for f in faults(model)} == {"duplicate-node", "constant-type", "operator"}
    with pytest.raises(InvalidGraphError) as caught:
        verify(model)
    lines = str(caught.value).splitlines()
    assert lines[0] == "the model is not well formed, 3 faults:"
    assert "  main graph: two nodes are named 'm' [duplicate-node]" in lines
    assert len(lines) == 4


def test_one_fault_is_counted_as_one() -> None:
    model = read(CHAIN)
    node(model, "m").name = "n"
    with pytest.raises(InvalidGraphError, match="not well formed, 1 fault:"):
        verify(model)


def test_a_fault_is_data() -> None:
    model = read(CHAIN)
    node(model, "m").name = "n"
    assert faults(model) == [Fault("duplicate-node", "main graph", "two nodes are named 'n'")]


@pytest.mark.parametrize(
    "text",
    [
        "(float[2] x) => (float[2] y, float[2] y) { y = Neg(x) }",  # ONNX's checker allows it
        "(float[2] x) => (float[2] x) { y = Neg(x) }",
        "(float[2] x) => (float[2] w) <float[2] w> { y = Neg(x) }",
        "(float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }",
        '(float[2] x) => (float[2] y) { y, "" = Dropout(x) }',
        '(float[2] x, float z) => (float[2] y) { y = Clip(x, "", z) }',
        "(float[2] x) => (float[2] y) { [] a = Neg(x) [] y = Neg(a) }",
        "(float[2] x) => (float[2] y) { y = LayerNormalization<axis = 0>(x, x) }",
        "(float[2] x) => (float[2] y) { y = SimplifiedLayerNormalization(x, x) }",
        # a name of a later value may be used inside, and one name in both branches
        BRANCH.replace("[n] a", "[n] s").replace("Relu(a)", "Relu(s)").replace("b = ", "y = ", 1)
        .replace("Neg(b) }", "Neg(y) }", 1),
        # inputs and constants of a body may take names of the enclosing graph
        BRANCH.replace("t () => (float[2] p) {", "t () => (float[2] p) <float[2] x = {1, 2}> {"),
    ],
)  # fmt: skip
def test_unusual_but_sound(text: str) -> None:
    assert faults(read(text)) == []


def test_a_runtimes_own_operators_share_a_domain_with_functions() -> None:
    model = parse_text(
        '<opset_import: ["" : 18, "com.microsoft" : 1]> g (float[2] x) => (float[2] y) '
        "{ a = com.microsoft.F(x) y = com.microsoft.Gelu(a) } "
        '<domain: "com.microsoft", opset_import: ["" : 18]> F (a) => (b) { b = Neg(a) }'
    )
    assert faults(model) == []


@given(models())
def test_agrees_with_onnx_checker(model: ir.Model) -> None:
    onnx.checker.check_model(ir.to_proto(model))
    assert faults(model) == []


def test_work_is_linear() -> None:
    def work(count: int) -> int:
        nodes = "\n".join(f"v{i + 1} = Add(v{i}, v{i})" for i in range(count))
        model = read(f"(float v0) => (float v{count}) {{ {nodes} }}")
        return calls(lambda: faults(model))

    work(10)
    assert work(4000) < 1.2 * 8 * work(500)


@pytest.mark.skipif(not FIXTURES.exists(), reason=f"no data at {FIXTURES}")
def test_fixtures_of_onnx_runtime_are_sound_but_for_what_it_lets_pass() -> None:
    found = {
        path.name: kinds
        for path in FIXTURES.rglob("*.onnx")
        if path.name not in NO_GRAPH
        and (kinds := {fault.kind for fault in faults(ir.load(path))} - LENIENT)
    }
    assert found == {}


@pytest.mark.parametrize("kind", ["simple", "pytorch-converted", "pytorch-operator"])
def test_stored_models_of_onnx_are_sound(kind: str) -> None:
    for case in load_model_tests(kind=kind):
        assert faults(ir.load(Path(case.model_dir) / "model.onnx")) == [], case.name


@pytest.mark.slow
def test_node_tests_of_onnx_are_sound() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = list(load_model_tests(kind="node"))
    assert len(cases) > 1000
    assert {c.name: f for c in cases if (f := faults(ir.from_proto(c.model)))} == {}
