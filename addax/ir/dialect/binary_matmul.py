"""BinaryMatMul: a linear layer whose weights are sums of q signs times small integers.

    Y[..., n] = sum_k X[..., k] * scale[n] * sum_i multiplier[n, k // group, i] * sign_i[n, k]

X[..., K] floating; planes uint8[T, G, q, 4, group / 32, 16, 4]; multipliers uint8[T, G, q, 64],
those of a row and group adding up to at most 127, so that a decoded weight fits int8; scale[N],
floating. Attribute: group (a multiple of 32, at most 128).

T = ceil(N / 64) tiles of rows, G = ceil(K / group). Bit 4 h + b of byte (t, g, i, r, s, l, c) is
plane i of row 64 t + 16 r + l and column g * group + 32 s + 16 h + 4 c + b: 1 for +1, 0 for -1.
Rows and columns beyond N and K are there and mean nothing.
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
from addax.ir.query import attribute, shape

_domain = Opset(DOMAIN, VERSION)
# The stubs of onnxscript want each operand's type, which a script over any type does not know.
op: Any = onnxscript.opset18


@script(_domain, default_opset=op)
def BinaryMatMul(X, planes, multipliers, scale, group: int):  # type: ignore[no-untyped-def]
    shifts = op.Cast(op.Constant(value_ints=[0, 1, 2, 3, 4, 5, 6, 7]), to=ir.DataType.UINT8.value)
    one = op.Cast(op.Constant(value_int=1), to=ir.DataType.UINT8.value)
    bits = op.BitwiseAnd(
        op.BitShift(
            op.Unsqueeze(planes, op.Constant(value_ints=[6, 8])),
            op.Reshape(shifts, op.Constant(value_ints=[2, 1, 4])),
            direction="RIGHT",
        ),
        one,
    )
    times = op.Cast(
        op.Reshape(multipliers, op.Constant(value_ints=[0, 0, 0, 4, 1, 16, 1, 1, 1])),
        to=ir.DataType.INT32.value,
    )
    signed = op.Where(op.Cast(bits, to=ir.DataType.BOOL.value), times, op.Neg(times))
    sums = op.ReduceSum(signed, op.Constant(value_ints=[2]), keepdims=0)
    # [tile, group, r, s, l, h, c, b] to rows (tile, r, l) times columns (group, s, h, c, b)
    padded = op.Flatten(op.Transpose(sums, perm=[0, 2, 4, 1, 3, 5, 6, 7]), axis=3)
    # ONNX Runtime folds the shape of X only where X has no symbolic dimension: no rows of it.
    none = op.Cast(op.ConstantOfShape(op.Constant(value_ints=[0])), to=ir.DataType.INT64.value)
    nothing = op.Gather(op.Flatten(X, axis=-1), none, axis=0)
    integers = op.Slice(
        padded,
        op.Constant(value_ints=[0, 0]),
        op.Concat(op.Shape(scale), op.Shape(nothing, start=1), axis=0),
        op.Constant(value_ints=[0, 1]),
    )
    last = op.Constant(value_ints=[-1])
    weight = op.Mul(op.CastLike(integers, scale), op.Unsqueeze(scale, last))
    return op.MatMul(X, op.CastLike(op.Transpose(weight, perm=[1, 0]), X))


def _cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    """Counted as by tables of the signed sums of four activations.

    16 adds of integers make a table; each plane, row and four columns cost a read and such an add;
    a floating multiply for each plane and group, and one by the scale.
    """
    inner = columns(node, bind)
    out = elements(node.outputs[0], bind)
    dims = shape(node.inputs[1])
    planes = dims[2] if dims and isinstance(dims[2], int) else 1
    fours = -(-inner // 4)
    groups = -(-inner // attribute(node, "group", 128))
    tokens = elements(node.inputs[0], bind) // inner if inner else 0
    return Cost(
        multiplies=out * (planes * groups + 1),
        integer_adds=out * planes * fours + 16 * tokens * fours,
        table_reads=out * planes * fours,
    )


OP = DialectOp("BinaryMatMul", BinaryMatMul, set_linear_shape, _cost)
