"""Layers that are not there yet: to ask what they would cost, and whether a target has a kernel."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from addax.ir.cost import cost_of
from addax.ir.dialect import DOMAIN, operators
from addax.ir.numbers import group_for

_TILE = 64
_LEVELS = 4  # bytes of int8 weights that lie together


def layer_node(form: str, rows: int, outputs: int, inputs: int) -> ir.Node:
    """A linear layer [rows, K] -> [rows, N] of a form, in a graph of its own; its weights are 0.

    Args:
        form: "fp32", "int8", "codebook4", "codebook2", "binary1" to "binary4".
        rows: Of its activations.
        outputs: N.
        inputs: K.
    """
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([rows, inputs]))
    kind, domain, arrays, attributes = _parts(form, outputs, inputs)
    constants = constant_values(arrays)
    node = ir.Node(
        domain,
        kind,
        [x, *constants],
        [ir.AttrInt64(name, value) for name, value in attributes.items()],
    )
    ir.Graph([x], node.outputs, nodes=[node], initializers=constants, name="layer")
    if domain:
        operators()[kind].shape(node)
    else:
        node.outputs[0].type, node.outputs[0].shape = x.type, ir.Shape([rows, outputs])
    return node


def constant_values(arrays: Sequence[np.ndarray], name: str = "w") -> list[ir.Value]:
    """Constants for a node that is not in a model: `w0`, `w1`, ..."""
    return [
        ir.Value(
            name=f"{name}{place}",
            const_value=ir.tensor(array),
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            shape=ir.Shape(array.shape),
        )
        for place, array in enumerate(arrays)
    ]


def joules(node: ir.Node) -> float:
    """Arithmetic of one evaluation, by the papers' 45 nm figures."""
    return cost_of(node).energy * 1e-12


def _parts(
    form: str, outputs: int, inputs: int
) -> tuple[str, str, Sequence[np.ndarray], dict[str, int]]:
    tiles, group = -(-outputs // _TILE), group_for(inputs)
    groups = -(-inputs // group)
    scale = np.zeros(outputs, np.float32)
    if form == "int8":
        weights = np.zeros((tiles, -(-inputs // _LEVELS), _TILE, _LEVELS), np.int8)
        return "Int8MatMul", DOMAIN, (weights, scale), {}
    if form.startswith("codebook"):
        bits = int(form[-1])
        codes = np.zeros((tiles, groups, group * bits // 32, _TILE, 4), np.uint8)
        table = np.arange(3, 3 + (1 << bits)).astype(np.int8)  # no powers of two: those shift
        multipliers = np.zeros((tiles, groups, _TILE), np.uint8)
        fields = {"bits": bits, "group": group}
        return "CodebookMatMul", DOMAIN, (codes, table, multipliers, scale), fields
    if form.startswith("binary"):
        count = int(form[-1])
        planes = np.zeros((tiles, groups, count, 4, group // 32, 16, 4), np.uint8)
        multipliers = np.zeros((tiles, groups, count, _TILE), np.uint8)
        return "BinaryMatMul", DOMAIN, (planes, multipliers, scale), {"group": group}
    return "MatMul", "", (np.zeros((inputs, outputs), np.float32),), {}
