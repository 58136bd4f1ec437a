"""CodebookMatMul: a linear layer whose weights are 4- or 2-bit codes into a table of int8.

    Y[..., n] = sum_k X[..., k] * scale[n] * multiplier[n, k // group] * table[code[n, k]]

X[..., K] floating; codes uint8[T, G, S, 64, 4]; table int8[2^bits]: powers of two, a uniform grid,
or any other 16 or 4 entries; multipliers uint8[T, G, 64]; scale[N], floating. Attributes: bits
(4 or 2), group (a multiple of 32, at most 128).

T = ceil(N / 64) tiles of rows, G = ceil(K / group), S = group * bits / 32, F = 8 / bits. Bits
`bits * j` and up of byte (t, g, s, r, c) are the code of row 64 t + r and column
g * group + 4 F s + 4 j + c. Rows and columns beyond N and K are there and mean nothing.
"""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import onnxscript
from onnxscript import script
from onnxscript.values import Opset

from addax.ir.cost import Cost, elements
from addax.ir.dialect._op import DOMAIN, VERSION, DialectOp
from addax.ir.dialect._weights import are_powers_of_two, columns, set_linear_shape
from addax.ir.query import attribute

_domain = Opset(DOMAIN, VERSION)
# The stubs of onnxscript want each operand's type, which a script over any type does not know.
op: Any = onnxscript.opset18


@script(_domain, default_opset=op)
def CodebookMatMul(  # type: ignore[no-untyped-def]
    X, codes, table, multipliers, scale, bits: int, group: int
):
    width = op.Constant(value_int=bits)
    last = op.Constant(value_ints=[-1])
    shifts = op.Cast(
        op.Range(op.Constant(value_int=0), op.Constant(value_int=8), width),
        to=ir.DataType.UINT8.value,
    )
    mask = op.Sub(op.Cast(op.Pow(2.0, width), to=ir.DataType.INT64.value), 1)
    fields = op.BitwiseAnd(
        op.BitShift(
            op.Unsqueeze(codes, op.Constant(value_ints=[4])),
            op.Unsqueeze(shifts, last),
            direction="RIGHT",
        ),
        op.Cast(mask, to=ir.DataType.UINT8.value),
    )
    # [tile, group, step, row, field, column of 4] to rows times columns
    ordered = op.Transpose(fields, perm=[0, 3, 1, 2, 4, 5])
    levels = op.Gather(
        op.Cast(table, to=ir.DataType.INT32.value),
        op.Cast(ordered, to=ir.DataType.INT32.value),
    )
    times = op.Cast(op.Transpose(multipliers, perm=[0, 2, 1]), to=ir.DataType.INT32.value)
    padded = op.Flatten(
        op.Mul(levels, op.Unsqueeze(times, op.Constant(value_ints=[3, 4, 5]))), axis=2
    )
    # ONNX Runtime folds the shape of X only where X has no symbolic dimension: no rows of it.
    none = op.Cast(op.ConstantOfShape(op.Constant(value_ints=[0])), to=ir.DataType.INT64.value)
    nothing = op.Gather(op.Flatten(X, axis=-1), none, axis=0)
    integers = op.Slice(
        padded,
        op.Constant(value_ints=[0, 0]),
        op.Concat(op.Shape(scale), op.Shape(nothing, start=1), axis=0),
        op.Constant(value_ints=[0, 1]),
    )
    weight = op.Mul(op.CastLike(integers, scale), op.Unsqueeze(scale, last))
    return op.MatMul(X, op.CastLike(op.Transpose(weight, perm=[1, 0]), X))


def _cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    """A table read a weight, which is then used by all rows of X.

    Each use is an add and a multiply of integers, a shift where the table is powers of two; a
    floating multiply for each group, and one by the scale.
    """
    inner = columns(node, bind)
    out = elements(node.outputs[0], bind)
    group = attribute(node, "group", 128)
    shifts = are_powers_of_two(node.inputs[2])
    return Cost(
        multiplies=out * (-(-inner // group) + 1),
        byte_multiplies=0 if shifts else out * inner,
        integer_adds=out * inner,
        shifts=out * inner if shifts else 0,
        table_reads=elements(node.inputs[4], bind) * inner,
    )


OP = DialectOp("CodebookMatMul", CodebookMatMul, set_linear_shape, _cost)
