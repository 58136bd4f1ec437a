"""Int8MatMul: a linear layer of int8 weights with a scale for each row.

    Y[..., n] = sum_k X[..., k] * scale[n] * weight[n, k]

X[..., K] floating; weights int8[T, ceil(K / 4), 64, 4], T = ceil(N / 64): element (t, s, r, c) is
row 64 t + r and column 4 s + c; scale[N], floating. Rows and columns beyond N and K are there and
mean nothing.
"""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import onnxscript
from onnxscript import script
from onnxscript.values import Opset

from addax.ir.cost import Cost, elements
from addax.ir.dialect._op import DOMAIN, VERSION, DialectOp
from addax.ir.dialect._weights import columns, set_linear_shape

_domain = Opset(DOMAIN, VERSION)
# The stubs of onnxscript want each operand's type, which a script over any type does not know.
op: Any = onnxscript.opset18


@script(_domain, default_opset=op)
def Int8MatMul(X, weights, scale):  # type: ignore[no-untyped-def]
    # ONNX Runtime folds the shape of X only where X has no symbolic dimension: no rows of it.
    none = op.Cast(op.ConstantOfShape(op.Constant(value_ints=[0])), to=ir.DataType.INT64.value)
    nothing = op.Gather(op.Flatten(X, axis=-1), none, axis=0)
    integers = op.Slice(
        op.Flatten(op.Transpose(weights, perm=[0, 2, 1, 3]), axis=2),
        op.Constant(value_ints=[0, 0]),
        op.Concat(op.Shape(scale), op.Shape(nothing, start=1), axis=0),
        op.Constant(value_ints=[0, 1]),
    )
    last = op.Constant(value_ints=[-1])
    weight = op.Mul(op.CastLike(integers, scale), op.Unsqueeze(scale, last))
    return op.MatMul(X, op.CastLike(op.Transpose(weight, perm=[1, 0]), X))


def _cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    """A multiply and an add of integers for each use of a weight; a multiply by the scale."""
    inner = columns(node, bind)
    out = elements(node.outputs[0], bind)
    return Cost(multiplies=out, byte_multiplies=out * inner, integer_adds=out * inner)


OP = DialectOp("Int8MatMul", Int8MatMul, set_linear_shape, _cost)
