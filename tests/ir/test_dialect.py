"""The dialect: how bodies come into a model and go."""

import numpy as np
import onnx_ir as ir
import pytest

from addax.backends.to_ort import to_ort
from addax.errors import InvalidGraphError, UnsupportedOpError
from addax.ir.dialect import DOMAIN, install, operators
from tests.ir.dialect.packing import pack_codes, pack_multipliers
from tests.ir.dialect.running import model_of


def codebook_model(codes, table, scale, bits, opset=20) -> ir.Model:
    """A model of one CodebookMatMul with one group, all of whose multipliers are 1."""
    rng = np.random.default_rng(0)
    inputs = {
        "x": (ir.DataType.FLOAT, ["B", codes.shape[1]]),
        "codes": pack_codes(codes, bits, 32, rng),
        "table": table,
        "multipliers": pack_multipliers(np.ones((len(codes), 1), np.uint8), rng),
        "scale": scale,
    }
    return model_of("CodebookMatMul", inputs, opset=opset, bits=bits, group=32)


def smallest(opset=20) -> ir.Model:
    return codebook_model(
        np.zeros((1, 2), np.int64), np.zeros(4, np.int8), np.ones(1, np.float32), 2, opset
    )


@pytest.mark.parametrize("opset", [18, 20, 22])
def test_bodies_take_the_opset_of_the_model(opset):
    (function,) = to_ort(smallest(opset)).functions.values()
    assert opset == function.opset_imports[""]


def test_bodies_that_nobody_calls_go():
    made = to_ort(smallest())
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
