"""The dialect: every op is its body, in stock ONNX Runtime and for the judge alike."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.backends.to_ort import to_ort
from addax.errors import InvalidGraphError, UnsupportedOpError
from addax.ir.dialect import DOMAIN, install, operators
from addax.ir.evaluate import evaluate
from addax.ir.verify import verify


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes uint8[N, K] as bytes, low bits first."""
    each = 8 // bits
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % each)))
    fields = padded.reshape(len(codes), -1, each).astype(np.uint32) << np.arange(0, 8, bits)
    return fields.sum(-1).astype(np.uint8)


def codebook_model(codes, table, scale, bits, group, rank=2, opset=20) -> ir.Model:
    """A model of one CodebookMatMul over a symbolic batch."""
    shape = ir.Shape([*(["B", "T"][: rank - 1]), codes.shape[1]])
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
    constants = [
        ir.Value(
            name=name,
            const_value=ir.tensor(array),
            type=ir.TensorType(ir.tensor(array).dtype),
            shape=ir.Shape(array.shape),
        )
        for name, array in {"codes": pack(codes, bits), "table": table, "scale": scale}.items()
    ]
    node = ir.Node(
        DOMAIN,
        "CodebookMatMul",
        [x, *constants],
        [ir.AttrInt64("bits", bits), ir.AttrInt64("group", group)],
        num_outputs=1,
    )
    node.outputs[0].name = "y"
    operators()["CodebookMatMul"].shape(node)
    graph = ir.Graph(
        [x],
        node.outputs,
        nodes=[node],
        initializers=constants,
        name="g",
        opset_imports={"": opset, DOMAIN: 1},
    )
    return ir.Model(graph, ir_version=10)


@given(
    bits=st.sampled_from([2, 4]),
    rows=st.integers(1, 5),
    inner=st.integers(1, 33),
    group=st.sampled_from([1, 3, 8, 128]),
    rank=st.integers(2, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_codebook_matmul_is_a_matmul_with_table_weights(bits, rows, inner, group, rank, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**bits, (rows, inner))
    table = rng.integers(-128, 128, 2**bits).astype(np.int8)
    scale = rng.standard_normal((rows, -(-inner // group))).astype(np.float32)
    x = rng.standard_normal((*(2, 4)[: rank - 1], inner)).astype(np.float32)
    weight = table[codes].astype(np.float64) * np.repeat(scale, group, 1)[:, :inner]
    model = to_ort(codebook_model(codes, table, scale, bits, group, rank))
    verify(model)
    judged = evaluate(model, {"x": x}, precision=np.float64)["y"]
    np.testing.assert_allclose(judged, x.astype(np.float64) @ weight.T, rtol=1e-12, atol=1e-9)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    (ran,) = session.run(None, {"x": x})
    bound = np.abs(x.astype(np.float64)) @ np.abs(weight.T) * (inner + 2) * 2.0**-23
    assert np.all(np.abs(ran - judged) <= bound)


def test_shape_and_cost_of_codebook_matmul():
    codes = np.zeros((3, 10), np.int64)
    model = codebook_model(codes, np.zeros(16, np.int8), np.ones((3, 2), np.float32), 4, 8)
    node = model.graph[0]
    assert ["B", "3"] == [str(d) for d in node.outputs[0].shape]
    cost = operators()["CodebookMatMul"].cost(node)
    assert (30 + 6, 30, 30) == (cost.multiplies, cost.adds, cost.table_reads)


@pytest.mark.parametrize("opset", [18, 20, 22])
def test_bodies_take_the_opset_of_the_model(opset):
    codes = np.zeros((1, 2), np.int64)
    model = codebook_model(
        codes, np.zeros(4, np.int8), np.ones((1, 1), np.float32), 2, 2, opset=opset
    )
    (function,) = to_ort(model).functions.values()
    assert opset == function.opset_imports[""]


def test_bodies_that_nobody_calls_go():
    model = codebook_model(
        np.zeros((1, 2), np.int64), np.zeros(4, np.int8), np.ones((1, 1), np.float32), 2, 2
    )
    made = to_ort(model)
    made.graph[0].op_type, made.graph[0].domain = "Relu", ""
    made.graph[0].resize_inputs(1)
    made.graph[0].attributes.clear()
    again = to_ort(made)
    assert ({}, False) == (dict(again.functions), DOMAIN in again.opset_imports)


def test_an_op_that_the_dialect_does_not_have():
    node = ir.Node(DOMAIN, "Nonsense", [], num_outputs=1)
    graph = ir.Graph([], [], nodes=[node], name="g", opset_imports={"": 20, DOMAIN: 1})
    with pytest.raises(UnsupportedOpError, match=r"expected an op of the dialect .*addax:Nonsense"):
        to_ort(ir.Model(graph, ir_version=10))


def test_a_foreign_function_of_the_same_name_is_refused():
    op = operators()["CodebookMatMul"]
    model = ir.Model(ir.Graph([], [], nodes=[], name="g", opset_imports={"": 20}), ir_version=10)
    foreign = op.body(20)
    foreign.remove(list(foreign)[-1:])
    model.functions[(DOMAIN, op.name, "")] = foreign
    with pytest.raises(InvalidGraphError, match="that is not addax's"):
        install(model, op)
