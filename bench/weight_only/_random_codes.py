"""Random codes in the place of a network's weights: for its speed, which values do not change."""

import numpy as np
import onnx_ir as ir

from addax.ir.dialect import DOMAIN, install, operators
from addax.ir.model import clone
from addax.ir.numbers import group_for
from addax.ir.query import constant

TILE = 64
FEWEST = 4096
Arrays = list[tuple[str, np.ndarray]]


def _constants(rows: int, columns: int, kind: str, bits: int, seed: int) -> tuple[Arrays, int]:
    """What an op of the dialect holds for weights [N, K], and the columns of its groups."""
    draw = np.random.default_rng(seed)
    group = group_for(columns)
    tiles, groups = -(-rows // TILE), -(-columns // group)
    scale = np.full(rows, 0.02 / columns**0.5, np.float32)
    if kind == "binary":
        shape = (tiles, groups, bits, 4, group // 32, 16, 4)
        multipliers = draw.integers(1, 128 // bits, (tiles, groups, bits, TILE))
        held: Arrays = [("planes", draw.integers(0, 256, shape, np.uint8))]
    else:
        shape = (tiles, groups, group * bits // 32, TILE, 4)
        multipliers = draw.integers(1, 128, (tiles, groups, TILE))
        table = draw.integers(-64, 64, 2**bits, np.int8)
        held = [("codes", draw.integers(0, 256, shape, np.uint8)), ("table", table)]
    return [*held, ("multipliers", multipliers.astype(np.uint8)), ("scale", scale)], group


def with_random_codes(model: ir.Model, kind: str, bits: int) -> ir.Model:
    """A copy whose products with constants are ops of the dialect; the head stays.

    Args:
        model: Products x[..., K] W[K, N].
        kind: "binary" or "codebook".
        bits: Of a code.
    """
    made = clone(model)
    op = operators()["BinaryMatMul" if kind == "binary" else "CodebookMatMul"]
    install(made, op)
    for number, node in enumerate(list(made.graph)):
        weight = constant(node.inputs[1]) if node.op_type == "MatMul" else None
        if weight is None or weight.ndim != 2 or weight.size < FEWEST:
            continue
        if node.outputs[0].is_graph_output():
            continue
        columns, rows = weight.shape
        held, group = _constants(rows, columns, kind, bits, number)
        values = []
        for name, array in held:
            value = ir.Value(name=f"codes{number}.{name}", const_value=ir.tensor(array))
            value.dtype, value.shape = ir.DataType.from_numpy(array.dtype), ir.Shape(array.shape)
            made.graph.register_initializer(value)
            values.append(value)
        attributes = [ir.AttrInt64("group", group)]
        if kind != "binary":
            attributes.append(ir.AttrInt64("bits", bits))
        new = ir.Node(DOMAIN, op.name, [node.inputs[0], *values], attributes, version=1)
        old = node.outputs[0]
        new.outputs[0].name, new.outputs[0].shape = old.name, old.shape
        new.outputs[0].type = old.type
        ir.convenience.replace_nodes_and_values(made.graph, node, [node], [new], [old], new.outputs)
    for value in list(made.graph.initializers.values()):
        if not value.uses() and value.name is not None and not value.is_graph_output():
            del made.graph.initializers[value.name]
    return made
