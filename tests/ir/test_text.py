"""Canonical text: the same for the same structure, in ONNX's syntax, whatever the hash seed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.ir.model import clone
from addax.ir.shapes import infer_shapes
from addax.ir.text import parse_text, to_text
from addax.testing.strategies.graphs import assemble, models
from tests.ir.disguise import disguise


@given(models(), st.integers(0, 2**16))
def test_names_and_order_do_not_show(model: ir.Model, seed: int) -> None:
    assert to_text(model) == to_text(disguise(model, seed))


@given(models())
def test_printing_changes_nothing(model: ir.Model) -> None:
    proto = ir.to_proto(model).SerializeToString(deterministic=True)
    to_text(model)
    to_text(model, names="kept")
    assert ir.to_proto(model).SerializeToString(deterministic=True) == proto


@given(models(max_pieces=3), st.booleans())
def test_text_can_be_read_where_constants_are_spelt_out(model: ir.Model, kept: bool) -> None:
    text = to_text(model, names="kept" if kept else "canonical", types=False)
    if "#" in text.replace("# used by nothing", ""):
        return
    again = to_text(parse_text(text), names="kept" if kept else "canonical", types=False)
    assert text == again


MODEL = """<ir_version: 10, opset_import: ["" : 18, "addax" : 1, "unused" : 3]>
agraph (float[5,N] x, bool c) => (float[5,3] y) <
    float[4,3] weight, float16[2] half = {15360, 1}, double[2] d = {0.1, -0.0},
    string[1] s = {"a\\"b"}, float never = {3}
> {
    later = MatMul(x, weight)
    z = Softmax<axis = -1>(later)
    y = If(c) <
        then_branch = t () => (p) <float[1] one = {1}> { p = Add(z, one) },
        else_branch = e () => (q) { q = addax.Scale<alpha = 0.1>(z, half) }
    >
    "odd name" = addax.Scale<ints = [1, 2], none: floats = [], text = "a", d = 1.5>(x, "", d, s)
    k = Constant<value = float[9] {1,2,3,4,5,6,7,8,9}>()
}
<domain: "addax", opset_import: ["" : 18]>
Scale <alpha, beta: float = 2.0> (a, b) => (r) {
    f = Constant<value_float = @alpha>()
    r = Mul(a, f)
}
"""

EXPECTED = """\
<opset_import: ["" : 18, "addax" : 1]>
graph (float[5,N] x, bool c) => (float[5,3] y)
<
    float[4,3] w0,  # %s
    float16[2] w1 = {15360, 1},
    double[2] w3 = {0.1, -0.0},
    string[1] w4 = {"a\\"b"},
    float w5 = {3.0}
>
{
    v0 = MatMul (x, w0)  # float[5,3]
    v1 = Softmax (v0)  # float[5,3]
    y = If <else_branch = body () => (float[5,3] v2)
        {
            v2 = addax.Scale <alpha = 0.1> (v1, w1)  # float[5,3]
        }, then_branch = body () => (float[5,3] v3)
        <
            float[1] w2 = {1.0}
        >
        {
            v3 = Add (v1, w2)  # float[5,3]
        }> (c)  # float[5,3]
    # used by nothing
    v4 = addax.Scale <d = 1.5, ints = [1, 2], none: floats = [], text = "a"> (x, "", w3, w4)
    v5 = Constant <value = float[9] #%s> ()  # float[9]
}

<domain: "addax", opset_import: ["" : 18]>
Scale <alpha, beta = 2.0> (v0, v1) => (v3)
{
    v2 = Constant <value_float = @alpha> ()
    v3 = Mul (v0, v2)
}
"""


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(f"FLOAT{list(array.shape)}".encode() + array.tobytes()).hexdigest()[:8]


def test_reads_like_onnx_text() -> None:
    model = parse_text(MODEL, weights="zeros")
    for value in (model.graph[0].outputs[0], model.graph[1].outputs[0]):
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([5, 3])
    for node in model.graph[2].attributes.values():
        value = node.as_graph().outputs[0]
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([5, 3])
    constant = model.graph[4].outputs[0]
    constant.type, constant.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([9])
    digests = digest(np.zeros((4, 3), np.float32)), digest(np.arange(1, 10, dtype=np.float32))
    text = to_text(model)
    assert text == EXPECTED % digests


def test_kept_names() -> None:
    model = parse_text(
        '<opset_import: ["" : 18]> mine (float x) => (float y) <float[2] "a.w" = {1, 2}> '
        '{ inner = Add(x, x) y = ReduceSum(inner) unused = Relu("a.w") }'
    )
    assert (
        '<opset_import: ["" : 18]>\n'
        "mine (float x) => (float y)\n"
        "<\n"
        '    float[2] "a.w" = {1.0, 2.0}\n'
        ">\n"
        "{\n"
        "    inner = Add (x, x)\n"
        "    y = ReduceSum (inner)  # float\n"
        "    # used by nothing\n"
        '    unused = Relu ("a.w")\n'
        "}\n"
    ) == to_text(model, names="kept")


def test_short_names_avoid_the_interface() -> None:
    model = parse_text(
        '<opset_import: ["" : 18]> g (float v0) => (float v2) '
        "{ a = Relu(v0) b = Relu(a) v2 = Relu(b) }"
    )
    text = to_text(model)
    assert "v1 = Relu (v0)" in text
    assert "v3 = Relu (v1)" in text
    assert "v2 = Relu (v3)" in text


def test_invented_dimensions_are_numbered_by_appearance() -> None:
    def nonzero(first: str) -> ir.Model:
        model = parse_text(
            '<opset_import: ["" : 18]> g (int64[N] x) => (int64[1,M] y) '
            "{ a = NonZero(x) y = Neg(a) }"
        )
        infer_shapes(model)
        for node in model.graph:
            for value in node.outputs:
                if value.name == "a":
                    value.shape = ir.Shape([1, first])
        return model

    assert to_text(nonzero("_d7")) == to_text(nonzero("_d12"))
    assert "int64[1,_d0]" in to_text(nonzero("_d7"))


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FC00001, 0xFFC00000])
def test_a_nan_is_named_by_its_bits(bits: int) -> None:
    model = parse_text(
        '<opset_import: ["" : 18]> g (float[1] x) => (float[1] y) <float[1] w> { y = Add(x, w) }'
    )
    array = np.array([bits], np.uint32).view(np.float32)
    model.graph.initializers["w"].const_value = ir.tensor(array, name="w")
    text = to_text(model)
    assert "float[1] w0  # " in text
    other = clone(model)
    other.graph.initializers["w"].const_value = ir.tensor(
        np.array([bits ^ 2], np.uint32).view(np.float32), name="w"
    )
    assert text != to_text(other)


def test_every_element_type_prints() -> None:
    for dtype in ir.DataType:
        if dtype == ir.DataType.UNDEFINED:
            continue
        try:
            array = np.zeros(3, dtype.numpy())
        except TypeError:
            continue
        tensor = (
            ir.StringTensor(np.array([b"a", b"b", b"c"]), name="w")
            if dtype == ir.DataType.STRING
            else ir.Tensor(array, dtype=dtype, name="w")
        )
        value = ir.Value(name="w", const_value=tensor, type=ir.TensorType(dtype))
        graph = ir.Graph([], [value], nodes=[], initializers=[value], opset_imports={"": 23})
        assert f"{dtype.name.lower()}[3] w" in to_text(graph)


def test_types_that_are_no_tensors() -> None:
    model = parse_text(
        '<opset_import: ["" : 18]> g (seq(float[N]) s, optional(float) o, float[] any, x) => (y) '
        "{ y = Foo(s, o, any, x) }"
    )
    assert "graph (seq(float[N]) s, optional(float) o, float[] any, x) => (y)" in to_text(model)


def test_a_broken_graph_still_prints() -> None:
    a, b = ir.Value(name="a"), ir.Value(name="b")
    nodes = [ir.Node("", "Relu", [b], outputs=[a]), ir.Node("", "Relu", [a], outputs=[b])]
    graph = ir.Graph([], [a], nodes=nodes, opset_imports={"": 18})
    assert "a = Relu (v0)" in to_text(graph)


ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "from tests.ir.test_text import sample; import sys; sys.stdout.write(sample())"


def sample() -> str:
    """The text of a dozen models."""
    genes = [
        [bytes((i * 37 + j * k) % 256 for j in range(16)) for k in range(1, 9)] for i in range(12)
    ]
    return "".join(to_text(assemble(header, pieces)) for header, *pieces in genes)


def test_same_text_for_every_hash_seed() -> None:
    other = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONHASHSEED": other, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert sample() == done.stdout
