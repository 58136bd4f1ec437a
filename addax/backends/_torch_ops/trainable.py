"""Which constants of a graph are weights that training may change."""

import onnx_ir as ir

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
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Concat"})
_MOVES = frozenset(
    {"Transpose", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Identity", "Cast", "Flatten"}
)


def is_trainable(
    value: ir.Value, functions: dict[ir.OperatorIdentifier, ir.Function] | None = None
) -> bool:
    """Whether a floating constant is a weight.

    torch's exporter says so in the value's metadata. Elsewhere a weight is what a linear op, a
    normalization or an embedding takes as one, or more than one number that is added to, multiplied
    with or concatenated to something; means, variances, masks, bounds and scalars are not.
    """
    if value.dtype not in _FLOATS:
        return False
    kind = value.metadata_props.get(_KIND)
    if kind is not None:
        return kind == "PARAMETER"
    shape = value.shape
    is_single = shape is not None and all(d == 1 for d in shape)
    return _is_weight(value, is_single, functions or {}, set())


def _is_weight(
    value: ir.Value,
    is_single: bool,
    functions: dict[ir.OperatorIdentifier, ir.Function],
    seen: set[ir.Value],
) -> bool:
    if value in seen:
        return False
    seen.add(value)
    for node, index in value.uses():
        function = functions.get(node.op_identifier())
        if function is not None:
            inner = function.inputs[index] if index < len(function.inputs) else None
            if inner is not None and _is_weight(inner, is_single, functions, seen):
                return True
            continue
        if node.domain not in ("", "ai.onnx"):
            continue
        if index in _SLOTS.get(node.op_type, ()):
            return True
        if node.op_type in _ELEMENTWISE and not is_single:
            return True
        moved = node.op_type in _MOVES and index == 0
        if moved and _is_weight(node.outputs[0], is_single, functions, seen):
            return True
    return False
