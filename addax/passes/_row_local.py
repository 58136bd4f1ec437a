"""Which operators compute each token alone: row t of the result from row t of the input.

A token is a row of the last axis. Constants may differ from column to column, not from row to row.
"""

from collections.abc import Callable

import onnx_ir as ir

from addax.ir import attribute, constant, rank, static_shape
from addax.ir.query import constant_tensor

__all__ = ["why_not_row_local"]

ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "Cast", "Celu", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid",
        "HardSwish", "Identity", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu",
        "Pow", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt",
        "Sub", "Swish", "Tanh",
    }
)  # fmt: skip
_FAR = 12  # operators that compute weights, one after another
_MOVES = ("Concat", "Flatten", "Gather", "Pad", "Reshape", "Slice", "Split", "Transpose")


def why_not_row_local(node: ir.Node) -> str:
    """Why a row of what `node` makes depends on other rows of what it reads; "" if it does not."""
    name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    if node.domain:
        return f"{name} may read other tokens"
    if node.op_type in ELEMENTWISE:
        is_alike = all(_is_alike_in_rows(value) for value in node.inputs)
        return "" if is_alike else f"a constant of {name} is not the same for all tokens"
    if node.op_type in _MOVES:
        return f"{name} moves tokens"
    look = _LOOKS.get(node.op_type)
    return f"{name} may read other tokens" if look is None else look(node)


def _is_alike_in_rows(value: ir.Value | None) -> bool:
    if value is None or constant_tensor(value) is None:
        return True
    dims = static_shape(value)
    return dims is not None and set(dims[:-1]) <= {1}


def _product(node: ir.Node) -> str:
    weight = node.inputs[1]
    if constant_tensor(weight) is None and _is_made_of_constants(weight):
        return f"the weights of {node.op_type} are computed anew for each input; freeze them first"
    if constant_tensor(weight) is None or attribute(node, "transA", 0):
        return f"{node.op_type} of two computed factors, as in attention, reads other tokens"
    is_one = rank(weight) == 2
    return "" if is_one else f"{node.op_type} has other weights for other tokens"


def _is_made_of_constants(value: ir.Value | None, far: int = _FAR) -> bool:
    if value is None or constant_tensor(value) is not None:
        return True
    node = value.producer()
    return (
        node is not None
        and far > 0
        and all(_is_made_of_constants(source, far - 1) for source in node.inputs)
    )


def _axis(node: ir.Node) -> str:
    full, axis = rank(node.inputs[0]), attribute(node, "axis", -1)
    if full is not None and axis % full == full - 1:
        return ""
    return f"{node.op_type} over another axis than the last one reads other tokens"


def _reduction(node: ir.Node) -> str:
    full = rank(node.inputs[0])
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else attribute(node, "axes")
    is_last = full is not None and axes is not None and [int(i) % full for i in axes] == [full - 1]
    is_kept = bool(attribute(node, "keepdims", 1))
    return "" if is_last and is_kept else f"{node.op_type} reads other tokens"


def _neighbours(node: ir.Node) -> str:
    return f"{node.op_type} reads the tokens beside each"


def _batch_norm(node: ir.Node) -> str:
    if attribute(node, "training_mode", 0):
        return "BatchNormalization in training reads the whole batch"
    if rank(node.inputs[0]) == 2:
        return ""
    return "the constants of BatchNormalization are not the same for all tokens"


def _dynamic(node: ir.Node) -> str:
    return f"{node.op_type} has one scale for all tokens, so that each depends on the largest"


_LOOKS: dict[str, Callable[[ir.Node], str]] = {
    "AveragePool": _neighbours,
    "BatchNormalization": _batch_norm,
    "Conv": _neighbours,
    "ConvTranspose": _neighbours,
    "DynamicQuantizeLinear": _dynamic,
    "Gemm": _product,
    "LayerNormalization": _axis,
    "LogSoftmax": _axis,
    "LpNormalization": _axis,
    "MatMul": _product,
    "MaxPool": _neighbours,
    "RMSNormalization": _axis,
    "Softmax": _axis,
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin"), _reduction),
    **dict.fromkeys(("ReduceSum", "ReduceSumSquare"), _reduction),
}
