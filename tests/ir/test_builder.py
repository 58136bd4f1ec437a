"""What a build function may ask: contents of shape tensors, and where sizes can be read."""

import onnx_ir as ir
import pytest

from addax.ir.builder import Builder
from addax.ir.parser import parse_text
from addax.ir.rewriter import Rewriter
from addax.ir.rule import decline
from addax.ir.shapes import infer_shapes

HEADER = '<ir_version: 10, opset_import: ["": 20, "my": 1]>\n'


def ask(body: str, question, scope: str = "main"):
    """The answer to `question(op, root)` at the last node of the main graph or of the function."""
    model = parse_text(f"{HEADER}{body}")
    infer_shapes(model)
    graph = model.graph if scope == "main" else next(iter(model.functions.values())).graph
    root = graph.node(-1)
    answers = []

    def build(op: Builder) -> ir.Value:
        answers.append(question(op, root))
        decline("only asked")

    with pytest.raises(Exception, match="only asked"):
        Rewriter(model).prepare(root, build, ())
    return answers[0]


def contents(op: Builder, root: ir.Node):
    return op.contents(root.inputs[0])


@pytest.mark.parametrize(
    ("made", "kind", "expected"),
    [
        ("Shape(x)", "int64[3]", ("N", 3, "M")),
        ("Shape<start=1, end=2>(x)", "int64[1]", (3,)),
        ("Size(x)", "int64", ("3*M*N",)),
        ("Abs(k)", "int64[2]", None),
    ],
)
def test_contents(made: str, kind: str, expected) -> None:
    body = f"g (float[N,3,M] x, int64[2] k) => ({kind} y) {{ s = {made} y = Neg(s) }}"
    assert ask(body, contents) == expected


def test_a_size_is_read_from_the_first_input_that_has_it() -> None:
    body = "g (float[2,N] x, float[N,M] z) => (float[N,M] y) { y = Relu(z) }"

    def question(op: Builder, root: ir.Node):
        found = [op.source(name) for name in ("N", "M", "K")]
        return [None if f is None else (f[0].name, f[1]) for f in found]

    assert ask(body, question) == [("x", 1), ("z", 1), None]


def test_a_function_sees_no_inputs_of_the_model() -> None:
    body = (
        "g (float[N] x) => (float[N] y) { y = my.f(x) }\n"
        '<domain: "my", opset_import: ["": 20]> f (x) => (y) { y = Relu(x) }'
    )
    assert ask(body, lambda op, _: op.source("N"), scope="function") is None
    assert ask(body, lambda op, _: op.in_function, scope="function")
