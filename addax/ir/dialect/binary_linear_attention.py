"""BinaryLinearAttention: attention without softmax, on signs of queries and keys; all heads.

For each head, with q[N, M], k[N, M], v[N, D] from its columns of X:

    qb = 1[q > 0], kb = 1[k > 0]                bits, so the products with them are sums
    s = kb^T v                                  [M, D], over all tokens
    u = value_weight v + sum_weight (qb s)      [N, D]
    y = u / max(|u|, epsilon) + filter * v      the norm of each token's row; * along the tokens

X[B, N, heads (2 M + D)] floating: the queries of all heads, then keys, then values, as a joint
projection makes them. filters[heads, 1, taps, 1] are those of a Conv: taps odd, the middle one on
the token itself, zeros beyond the ends; a single 0 for each head where there is no filter.
Y[B, N, heads D] of X's type, computed in float32. Attributes: heads, bits M, width D,
value_weight (1/2 in the papers), sum_weight (1/pi), epsilon.

The papers divide q and k by their norms first: that changes no sign. On integer values s and qb s
are integers, whatever the order of the sums. A token with u = 0 gets what its filter says.
Source: ShiftAddViT; Castling-ViT.
"""

from collections.abc import Mapping
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
def BinaryLinearAttention(  # type: ignore[no-untyped-def]
    X,
    filters,
    heads: int,
    bits: int,
    width: int,
    value_weight: float,
    sum_weight: float,
    epsilon: float,
):
    last = op.Constant(value_ints=[-1])
    same = op.Constant(value_ints=[0, 0])
    count = op.Reshape(op.Constant(value_int=heads), last)
    coded = op.Reshape(op.Constant(value_int=bits), last)
    each = op.Reshape(op.Constant(value_int=width), last)
    keys_from = op.Mul(count, coded)
    values_from = op.Add(keys_from, keys_from)
    values_to = op.Add(values_from, op.Mul(count, each))
    x = op.Cast(X, to=ir.DataType.FLOAT.value)
    q = op.Reshape(
        op.Slice(x, op.Constant(value_ints=[0]), keys_from, last),
        op.Concat(same, count, coded, axis=0),
    )
    k = op.Reshape(op.Slice(x, keys_from, values_from, last), op.Concat(same, count, coded, axis=0))
    values = op.Reshape(
        op.Slice(x, values_from, values_to, last), op.Concat(same, count, each, axis=0)
    )
    v = op.Transpose(values, perm=[0, 2, 1, 3])
    query_bits = op.Cast(
        op.Greater(op.Transpose(q, perm=[0, 2, 1, 3]), 0.0), to=ir.DataType.FLOAT.value
    )
    key_bits = op.Cast(
        op.Greater(op.Transpose(k, perm=[0, 2, 3, 1]), 0.0), to=ir.DataType.FLOAT.value
    )
    seen = op.MatMul(query_bits, op.MatMul(key_bits, v))
    u = op.Add(
        op.Mul(v, op.Constant(value_float=value_weight)),
        op.Mul(seen, op.Constant(value_float=sum_weight)),
    )
    size = op.Max(op.ReduceL2(u, last), op.Constant(value_float=epsilon))
    filtered = op.Conv(
        v, op.Cast(filters, to=ir.DataType.FLOAT.value), auto_pad="SAME_UPPER", group=heads
    )
    y = op.Transpose(op.Add(op.Div(u, size), filtered), perm=[0, 2, 1, 3])
    return op.CastLike(op.Reshape(y, op.Concat(same, op.Mul(count, each), axis=0)), X)


def _shape(node: ir.Node) -> None:
    x = node.inputs[0]
    out = node.outputs[0]
    if x is None:
        return
    out.type = x.type
    if x.shape is not None:
        columns = attribute(node, "heads", 1) * attribute(node, "width", 1)
        out.shape = ir.Shape([*x.shape[:-1], columns])


def _cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    """Both products are sums of half of their terms, since half of the bits are 0.

    Then multiplies by the two weights, the norm and the filter's taps.
    """
    out = elements(node.outputs[0], bind)
    dims = shape(node.inputs[1])
    taps = dims[2] if dims and isinstance(dims[2], int) else 1
    return Cost(
        multiplies=out * (4 + taps),
        adds=out * attribute(node, "bits", 1) + out * (2 + taps),
    )


OP = DialectOp("BinaryLinearAttention", BinaryLinearAttention, _shape, _cost)
