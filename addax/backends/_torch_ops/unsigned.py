"""Arithmetic on unsigned integers of 16 to 64 bits, which torch can store but hardly compute with.

It is done in 64 signed bits and stored back, which is exact modulo the type's range.
"""

from typing import Any

import onnx_ir as ir
import torch

from addax.backends._torch_ops.dtypes import WIDE_UNSIGNED, torch_dtype
from addax.backends._torch_ops.site import Unsupported

_EXACT_IN_ANY_WIDTH = frozenset(
    {"Add", "Sub", "Mul", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "Equal", "Where"}
    | {"Sum", "Neg", "Abs", "Sign"}
)
_EXACT_IN_63_BITS = _EXACT_IN_ANY_WIDTH | frozenset(
    {"Div", "Mod", "Max", "Min", "Pow", "Clip", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
    | {"BitShift", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ArgMax", "ArgMin"}
    | {"CumSum", "MatMul", "Gemm", "TopK", "Relu"}
)
_MOVES = frozenset(
    {"Cast", "CastLike", "BitCast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
    | {"Transpose", "Expand", "Shape", "Size", "Concat", "Split", "Slice", "Gather", "Tile", "If"}
    | {"Loop", "Scan", "DequantizeLinear", "QuantizeLinear", "SequenceConstruct", "Pad"}
)


def wide_type(node: ir.Node) -> ir.DataType | None:
    """The wide unsigned type of a node's inputs if it must compute in another one, else None.

    Raises:
        Unsupported: the result would not be exact.
    """
    found = {v.dtype for v in node.inputs if v is not None and v.dtype in WIDE_UNSIGNED}
    if not found or node.op_type in _MOVES:
        return None
    exact = _EXACT_IN_ANY_WIDTH if ir.DataType.UINT64 in found else _EXACT_IN_63_BITS
    if node.op_type not in exact:
        names = ", ".join(sorted(d.name for d in found if d is not None))
        raise Unsupported(f"torch has no arithmetic on {names}; cast to INT64 before it")
    return next(iter(found))


def widened(argument: Any) -> Any:
    """A tensor argument as 64-bit integers; other arguments as they are."""
    return argument.to(torch.int64) if isinstance(argument, torch.fx.Proxy) else argument


def narrowed(node: ir.Node, result: Any) -> Any:
    """The results in the types that the node's outputs have."""
    results = result if isinstance(result, tuple) else (result,)
    stored = []
    for value, item in zip(node.outputs, results, strict=False):
        dtype = value.dtype
        if dtype is None:
            raise Unsupported(f"the element type of {value.name!r} is unknown: declare it")
        stored.append(item.to(torch_dtype(dtype)) if dtype in WIDE_UNSIGNED else item)
    return tuple(stored)
