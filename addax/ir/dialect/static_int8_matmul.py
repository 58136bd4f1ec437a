"""StaticInt8MatMul: a linear layer of int8 weights on activations whose range is known beforehand.

    level[..., k] = min(max(rint(X[..., k] / step) + zero, 0), 255)
    Y[..., n] = scale[n] * sum_k table[level[..., k]] * weight[n, k]

X[..., K] floating; weights int8[T, ceil(K / 4), 64, 4], T = ceil(N / 64): element (t, s, r, c) is
row 64 t + r and column 4 s + c; table int8[256]; scale[N], floating. Attributes: step, above 0;
zero, 0 to 255. Rows and columns beyond N and K are there and mean nothing.

Levels are computed in float32, ties to even, and all sums are of integers: a kernel and the body
agree to the last bit. A table that stops at 15 makes 4 bits of a byte; one of few entries anywhere
is a quantizer that is not uniform. NaN gives some number.
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
op: Any = onnxscript.opset19


@script(_domain, default_opset=op)
def StaticInt8MatMul(  # type: ignore[no-untyped-def]
    X, weights, table, scale, step: float, zero: int
):
    # ONNX Runtime folds the shape of X only where X has no symbolic dimension: no rows of it.
    none = op.Cast(op.ConstantOfShape(op.Constant(value_ints=[0])), to=ir.DataType.INT64.value)
    nothing = op.Gather(op.Flatten(X, axis=-1), none, axis=0)
    integers = op.Slice(
        op.Flatten(op.Transpose(weights, perm=[0, 2, 1, 3]), axis=2),
        op.Constant(value_ints=[0, 0]),
        op.Concat(op.Shape(scale), op.Shape(nothing, start=1), axis=0),
        op.Constant(value_ints=[0, 1]),
    )
    level = op.QuantizeLinear(
        op.Cast(X, to=ir.DataType.FLOAT.value),
        op.Constant(value_float=step),
        op.Cast(op.Constant(value_int=zero), to=ir.DataType.UINT8.value),
    )
    # Unsigned on both sides: products of signed and unsigned bytes saturate on some processors.
    above = op.Cast(op.Constant(value_int=128), to=ir.DataType.INT32.value)
    middle = op.Cast(above, to=ir.DataType.UINT8.value)
    entries = op.Cast(
        op.Add(op.Cast(table, to=ir.DataType.INT32.value), above), to=ir.DataType.UINT8.value
    )
    codes = op.Gather(entries, op.Cast(level, to=ir.DataType.INT32.value), axis=0)
    turned = op.Transpose(integers, perm=[1, 0])
    weight = op.Cast(
        op.Add(op.Cast(turned, to=ir.DataType.INT32.value), above), to=ir.DataType.UINT8.value
    )
    sums = op.MatMulInteger(codes, weight, middle, middle)
    factors = op.Cast(scale, to=ir.DataType.FLOAT.value)
    return op.CastLike(op.Mul(op.Cast(sums, to=ir.DataType.FLOAT.value), factors), X)


def _cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    """A multiply and an add of integers for each use of a weight; a table read an activation."""
    inner = columns(node, bind)
    out = elements(node.outputs[0], bind)
    return Cost(
        multiplies=out,
        byte_multiplies=out * inner,
        integer_adds=out * inner,
        table_reads=elements(node.inputs[0], bind),
    )


OP = DialectOp("StaticInt8MatMul", StaticInt8MatMul, set_linear_shape, _cost)
