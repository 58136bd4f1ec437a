"""Which layers become codes and which stay: kinds of nodes, names, shared and tied weights."""

import numpy as np
import onnx_ir as ir
import pytest

from addax.ir.shapes import infer_shapes
from addax.ir.statistics import LAYERS, NOTES
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.passes._shift.targets import Wanted, find_targets, grouped
from addax.testing.cases import build

HEAD = '<ir_version: 10, opset_import: ["": 20]> '


def weights(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=s, scale=s[0] ** -0.5).astype(np.float32) for s in shapes]


def treated(text: str, arrays, options: str = "") -> tuple[ir.Model, list[str], list]:
    """The model after the family alone, without calibration; notes and layers."""
    model, facts = build(HEAD + text, arrays), {}
    run_pipeline(model, Pipeline.parse(f"shift-add{{{options}}}"), facts=facts)
    return model, facts[NOTES], facts.get(LAYERS, [])


@pytest.mark.parametrize(
    ("text", "shapes", "reason"),
    [
        (
            "g (float[N,32,9,9] x) => (float[N,64,P,Q] y) <float[64,32,3,3] w> "
            "{ y = Conv<pads=[1,1,1,1]>(x, w) }",
            [(64, 32, 3, 3)],
            "w: its kernel of 3 x 3 is not its stride, so that windows overlap or leave gaps",
        ),
        (
            "g (float[N,64,9,9] x) => (float[N,128,P,Q] y) <float[128,32,3,3] w> "
            "{ y = Conv<group=2>(x, w) }",
            [(128, 32, 3, 3)],
            "its channels are in groups",
        ),
        (
            "g (float[N,64,9,9] x) => (float[N,128,11,11] y) <float[128,64,1,1] w> "
            "{ y = Conv<pads=[1,1,1,1]>(x, w) }",
            [(128, 64, 1, 1)],
            "it pads its input",
        ),
        (
            "g (float[N,64,H,W] x) => (float[N,128,P,Q] y) <float[128,64,2,2] w> "
            "{ y = Conv<strides=[2,2]>(x, w) }",
            [(128, 64, 2, 2)],
            "the size of its input is known only at run time",
        ),
        (
            "g (float[64] x) => (float[80] y) <float[64,80] w> { y = MatMul(x, w) }",
            [(64, 80)],
            "the rank of its input is unknown or 1",
        ),
        (
            "g (float[64,N] x) => (float[N,80] y) <float[64,80] w> { y = Gemm<transA=1>(x, w) }",
            [(64, 80)],
            "it reads its input transposed",
        ),
        (
            "g (int32[N,64] x) => (int32[N,80] y) <int32[64,80] w> { y = MatMul(x, w) }",
            [(64, 80)],
            "its numbers are INT32, not float32, float16 or float64",
        ),
        (
            "g (float[N,64] x) => (float[N,80] y) <float[64,80] w, float zero = {0}> "
            "{ v = Div(w, zero) y = MatMul(x, v) }",
            [(64, 80)],
            "its weights hold NaN or infinity",
        ),
        (
            "g (float[N,1024] x) => (float[N,4] y) <float[1024,4] w> { y = MatMul(x, w) }",
            [(1024, 4)],
            "unchanged: 4 outputs in tiles of 64 would take more than the 16,384 bytes",
        ),
        (
            "g (float[N,64] x, bool c) => (float[N,80] y) <float[64,80] w> { y = If(c) <"
            "then_branch = t () => (float[N,80] a) { a = MatMul(x, w) }, "
            "else_branch = e () => (float[N,80] b) { b = MatMul(x, w) }> }",
            [(64, 80)],
            "it is inside control flow",
        ),
    ],
)
def test_what_stays_as_it_is_and_why(text, shapes, reason):
    made = weights(*shapes)
    if "int32" in text:
        made = [array.astype(np.int32) for array in made]
    before = build(HEAD + text, made)
    run_pipeline(before, Pipeline.parse("cleanup"))
    arrays = [v.const_value.numpy() for v in before.graph.initializers.values()]
    facts: dict = {}
    run_pipeline(before, Pipeline.parse("shift-add"), facts=facts)
    assert not facts.get(LAYERS)
    assert arrays, "the layer was there"
    assert reason in "\n".join(facts[NOTES])


TIED = """g (int64[N,5] i) => (float[N,5,100] y) <float[100,64] table, float[64,64] w> {
    e = Gather(table, i)
    h = MatMul(e, w)
    t = Transpose<perm=[1,0]>(table)
    y = MatMul(h, t)
}"""


def test_tied_embeddings_stay_unless_they_are_included():
    arrays = weights((100, 64), (64, 64))
    model, notes, layers = treated(TIED, arrays)
    assert ["w"] == [layer.name for layer in layers]
    assert "shift-add, unchanged: table: something else reads its weights too" in notes[0]
    model, _, layers = treated(TIED, arrays, "include=('table',)")
    assert ["w", "table"] == [layer.name for layer in layers]
    assert ["Gather", "BinaryMatMul", "BinaryMatMul"] == [
        node.op_type for node in model.graph if node.op_type != "Transpose"
    ]


def test_layers_that_read_the_same_rows_share_an_observation():
    text = """g (float[N,64] x) => (float[N,64] y)
        <float[64,64] q, float[64,64] k, float[64,64] o> {
        a = MatMul(x, q)
        b = MatMul(x, k)
        c = Mul(a, b)
        y = MatMul(c, o)
    }"""
    model = build(HEAD + text, weights((64, 64), (64, 64), (64, 64)))
    infer_shapes(model)
    targets, left = find_targets(model, Wanted(4096))
    assert {} == left
    groups = [[target.name for target in group.targets] for group in grouped(targets)]
    assert [["q", "k"], ["o"]] == groups
