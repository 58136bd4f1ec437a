"""CodebookMatMul: a linear layer whose weights are 4- or 2-bit codes into a small table.

    Y[..., n] = sum_k X[..., k] * table[code[n, k]] * scale[n, k // group]

X[..., K] floating; codes uint8[N, ceil(K * bits / 8)], code k in bits `bits * (k mod 8/bits)`
and up of its byte (low bits first); table int8[2^bits]: powers of two, a uniform grid, or any
other 16 or 4 entries; scale[N, ceil(K / group)] of X's type. Attributes: bits (4 or 2), group.
"""

from typing import Any

import onnx_ir as ir
import onnxscript
from onnxscript import script
from onnxscript.values import Opset

from addax.ir.cost import Cost, elements
from addax.ir.dialect._op import DOMAIN, VERSION, DialectOp
from addax.ir.query import attribute, shape

_domain = Opset(DOMAIN, VERSION)
# The stubs of onnxscript want each operand's type, which a script over any type does not know.
op: Any = onnxscript.opset18


@script(_domain, default_opset=op)
def CodebookMatMul(X, codes, table, scale, bits: int, group: int):  # type: ignore[no-untyped-def]
    width = op.Constant(value_int=bits)
    zero = op.Constant(value_int=0)
    one = op.Constant(value_int=1)
    eight = op.Constant(value_int=8)
    last = op.Constant(value_ints=[-1])
    shifts = op.Cast(op.Range(zero, eight, width), to=ir.DataType.UINT8.value)
    mask = op.Cast(
        op.Sub(op.Cast(op.Pow(2.0, width), to=ir.DataType.INT64.value), one),
        to=ir.DataType.UINT8.value,
    )
    fields = op.BitShift(op.Unsqueeze(codes, last), shifts, direction="RIGHT")
    indices = op.Cast(op.BitwiseAnd(fields, mask), to=ir.DataType.INT64.value)
    padded = op.Flatten(indices, axis=1)
    inner = op.Shape(X, start=-1)
    columns = op.Slice(padded, op.Constant(value_ints=[0]), inner, op.Constant(value_ints=[1]))
    levels = op.CastLike(op.Gather(table, columns, axis=0), X)
    k = op.Range(zero, op.Squeeze(inner, op.Constant(value_ints=[0])), one)
    weight = op.Mul(levels, op.Gather(scale, op.Div(k, op.Constant(value_int=group)), axis=1))
    return op.MatMul(X, op.Transpose(weight, perm=[1, 0]))


def _shape(node: ir.Node) -> None:
    x, codes = node.inputs[0], node.inputs[1]
    out = node.outputs[0]
    if x is None or codes is None:
        return
    out.type = x.type
    if x.shape is not None and codes.shape is not None:
        out.shape = ir.Shape([*x.shape[:-1], codes.shape[0]])


def _cost(node: ir.Node) -> Cost:
    """A table read, an add and a multiply a weight; the scale once a group."""
    inner = shape(node.inputs[0])
    k = inner[-1] if inner and isinstance(inner[-1], int) else 1
    out = elements(node.outputs[0], {})
    return Cost(
        multiplies=out * k + out * -(-k // attribute(node, "group", k)),
        adds=out * k,
        table_reads=elements(node.inputs[1], {}) * (8 // attribute(node, "bits", 4)),
    )


OP = DialectOp("CodebookMatMul", CodebookMatMul, _shape, _cost)
