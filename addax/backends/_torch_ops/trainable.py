"""Which constants of a graph are weights that training may change."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from addax.ir.dialect import DOMAIN

_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_RECURRENT = frozenset({1, 2, 3, 7})
_SLOTS = {
    "Conv": {1, 2},
    "ConvTranspose": {1, 2},
    "Gemm": {0, 1, 2},
    "MatMul": {0, 1},
    "Einsum": {0, 1, 2, 3},
    "BatchNormalization": {1, 2},
    "LayerNormalization": {1, 2},
    "RMSNormalization": {1},
    "InstanceNormalization": {1, 2},
    "GroupNormalization": {1, 2},
    "PRelu": {1},
    "Gather": {0},
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "RNN": _RECURRENT,
}
_ADDS = frozenset({"Add", "Sub", "Concat"})
_SCALES = frozenset({"Mul", "Div"})
_MOVES = frozenset(
    {"Transpose", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Identity", "Cast", "Flatten"}
)
_MASKING = 1e30
_SEARCHED = 1 << 22

Functions = Mapping[ir.OperatorIdentifier, ir.Function]


def is_trainable(value: ir.Value, functions: Functions) -> bool:
    """Whether a floating constant is a weight.

    torch's exporter says so in the value's metadata. Elsewhere a weight is what a linear op, a
    normalization, an embedding or an op of the dialect takes as one, what is added or concatenated
    to something, or what scales channels. Statistics, bounds, single numbers, tables of angles, and
    masks (infinite or huge numbers) are not.
    """
    if value.dtype not in _FLOATS:
        return False
    kind = value.metadata_props.get(_KIND)
    if kind is not None:
        return kind == "PARAMETER"
    sizes = [d for d in value.shape or () if d != 1]
    ops = frozenset() if not sizes else _ADDS | _SCALES if len(sizes) == 1 else _ADDS
    found = _slot(value, ops, functions, set())
    return found == "weight" or (found == "term" and not _is_mask(value))


def _slot(
    value: ir.Value, ops: frozenset[str], functions: Functions, seen: set[ir.Value]
) -> str | None:
    """Where a value is read: as a "weight" of an op, else as a "term" of one of `ops`, or not."""
    seen.add(value)
    found: str | None = None
    for node, index in value.uses():
        function = functions.get(node.op_identifier())
        inner: ir.Value | None = None
        if node.domain == DOMAIN:
            return "weight"
        if function is not None:
            inner = function.inputs[index] if index < len(function.inputs) else None
        elif node.domain not in ("", "ai.onnx"):
            continue
        elif index in _SLOTS.get(node.op_type, ()):
            return "weight"
        elif node.op_type in ops:
            found = "term"
        elif node.op_type in _MOVES and index == 0:
            inner = node.outputs[0]
        if inner is not None and inner not in seen:
            place = _slot(inner, ops, functions, seen)
            if place == "weight":
                return place
            found = found or place
    return found


def _is_mask(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.size > _SEARCHED:
        return False
    array = np.asarray(tensor.numpy()).astype(np.float64)
    return not bool((np.abs(array) < _MASKING).all())
