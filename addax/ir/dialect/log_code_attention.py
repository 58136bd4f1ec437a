"""LogCodeAttention: softmax and the product with V, on codes of the logarithm of the scores.

Row-max form (delta = 0), the better one: nothing to calibrate, and rows add up to exactly 1.

    t = scale * S + mask
    code[q, l] = min(rint(n * log2(e) * (max_l t[q, l] - t[q, l])), last)
    p = table[code]                      table[c] = rint(255 * 2^(-c / n)), table[last] = 0
    Y[q, d] = sum_l p[q, l] V[l, d] / sum_l p[q, l]

Absolute form (delta > 0) of the papers (RepQ-ViT, AdaLog): codes of the probabilities themselves.

    code = min(max(rint(-n * log2(softmax(t) / delta)), 0), last),  Y = delta / 255 * sum_l p V

S[..., Q, L] and V[..., L, D] floating, with equal leading dimensions; mask floating, broadcast
to S: one 0 for none, -inf where nothing may be seen. Y[..., Q, D] of V's type. Attributes:
codes_per_octave n (1: log2, 2: log sqrt2, 7: 2^(1/7)); bits a code, last = 2^bits - 1; scale;
delta. A row that sees nothing gives zeros. Scores of +inf or NaN give some numbers.

Codes, p (uint8) and the sums are integers. Codes are computed in float32: scale * S, + mask, the
difference from the maximum, times n log2(e), each rounded. The body multiplies V as it is; a kernel
rounds V to int8 with one scale for each matrix V[L, D], so both agree where the largest magnitude
of an integer V is 127. For n = 1 the table is 255, 128, 64, ... 1, 0: shifts, and for code 0 a
shift and a subtraction.
"""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import onnxscript
from onnxscript import script
from onnxscript.values import Opset

from addax.ir.cost import Cost, elements
from addax.ir.dialect._op import DOMAIN, VERSION, DialectOp
from addax.ir.dialect._weights import product_shape
from addax.ir.query import attribute

_domain = Opset(DOMAIN, VERSION)
# The stubs of onnxscript want each operand's type, which a script over any type does not know.
op: Any = onnxscript.opset18
_LOG2_E = 1.4426950408889634
_LOWEST = -3.4028234663852886e38  # of float32; a row of -inf has to have some finite maximum


@script(_domain, default_opset=op)
def LogCodeAttention(  # type: ignore[no-untyped-def]
    S, mask, V, codes_per_octave: int, bits: int, scale: float, delta: float
):
    last_axis = op.Constant(value_ints=[-1])
    n = op.Cast(op.Constant(value_int=codes_per_octave), to=ir.DataType.FLOAT.value)
    size = op.Pow(2.0, op.Cast(op.Constant(value_int=bits), to=ir.DataType.FLOAT.value))
    last = op.Sub(size, 1.0)
    places = op.Range(0.0, size, 1.0)
    levels = op.Round(op.Mul(255.0, op.Pow(2.0, op.Neg(op.Div(places, n)))))
    table = op.Where(op.Less(places, last), levels, 0.0)

    scores = op.Add(
        op.Mul(op.Cast(S, to=ir.DataType.FLOAT.value), op.Constant(value_float=scale)),
        op.Cast(mask, to=ir.DataType.FLOAT.value),
    )
    highest = op.Max(op.ReduceMax(scores, last_axis), _LOWEST)
    below = op.Sub(highest, scores)
    rate = op.Mul(n, _LOG2_E)
    step = op.Constant(value_float=delta)
    absolute = op.Greater(step, 0.0)
    if absolute:
        total = op.ReduceSum(op.Exp(op.Neg(below)), last_axis)
        start = op.Mul(op.Log(op.Mul(total, step)), rate)
    else:
        start = op.Mul(highest, 0.0)
    rounded = op.Max(op.Round(op.Add(op.Mul(below, rate), start)), 0.0)
    # Less than, not the minimum: NaN becomes the last code, and no index.
    codes = op.Where(op.Less(rounded, last), rounded, last)
    p = op.Gather(table, op.Cast(codes, to=ir.DataType.INT32.value), axis=0)
    sums = op.MatMul(p, op.Cast(V, to=ir.DataType.FLOAT.value))
    total = op.Max(op.ReduceSum(p, last_axis), 1.0)
    divisor = op.Where(absolute, op.Div(255.0, step), total)
    return op.CastLike(op.Div(sums, divisor), V)


def _cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    """A code is 3 adds, a multiply and a table read; then a product with V, and a division.

    That product is of integers, with one code an octave of shifts.
    """
    scores = elements(node.inputs[0], bind)
    out = elements(node.outputs[0], bind)
    wide = node.inputs[2].shape[-1] if node.inputs[2] is not None and node.inputs[2].shape else 1
    depth = wide if isinstance(wide, int) else bind.get(str(wide), 1)
    shifts = attribute(node, "codes_per_octave", 1) == 1
    return Cost(
        multiplies=scores + out,
        adds=3 * scores,
        byte_multiplies=0 if shifts else scores * depth,
        integer_adds=scores * depth,
        shifts=scores * depth if shifts else 0,
        table_reads=scores,
    )


OP = DialectOp("LogCodeAttention", LogCodeAttention, product_shape(0, 2), _cost)
