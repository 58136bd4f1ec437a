"""RoutedMoE: a linear layer of two experts, each token computed by the one it was sent to.

    Y[t] = X[t] W + b                                       where expert[t] = 0   (Mult)
    Y[t, n] = scale[n] sum_k X[t, k] weight[n, k] + c[n]    elsewhere             (Shift)

X[..., K] floating; expert int32[...], one for each row of X; W[K, N] and b[N] of X's type;
weights int8[ceil(N / 64), ceil(K / 4), 64, 4] packed as those of Int8MatMul, so powers of two from
1 to 64 in size stand as they are; scale[N] floating; c[N] of X's type. Y[..., N] of X's type.

The same as `MoeSelect` of both experts on all tokens. An expert may get no token. A feed-forward
block of two experts is two of these with one `expert`, and the activation, which is the same for
both, between them. Kernels multiply the Mult expert in float32, and round the activations of the
Shift expert to int8 with one scale a token. Source: ShiftAddViT.
"""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import onnxscript
from onnxscript import script
from onnxscript.values import Opset

from addax.ir.cost import Cost, elements
from addax.ir.dialect._op import DOMAIN, VERSION, DialectOp
from addax.ir.dialect._weights import columns, product_shape

_domain = Opset(DOMAIN, VERSION)
# The stubs of onnxscript want each operand's type, which a script over any type does not know.
op: Any = onnxscript.opset18
_MULT_SHARE = 0.4  # of the tokens, where the papers' losses settle


@script(_domain, default_opset=op)
def RoutedMoE(  # type: ignore[no-untyped-def]
    X, expert, W, b, weights, scale, c
):
    last = op.Constant(value_ints=[-1])
    zero = op.Constant(value_ints=[0])
    # The Shift expert's weights, decoded when a model is loaded.
    integers = op.Slice(
        op.Flatten(op.Transpose(weights, perm=[0, 2, 1, 3]), axis=2),
        op.Constant(value_ints=[0, 0]),
        op.Concat(op.Shape(scale), op.Shape(W, start=0, end=1), axis=0),
        op.Constant(value_ints=[0, 1]),
    )
    decoded = op.Mul(op.CastLike(integers, scale), op.Unsqueeze(scale, last))
    shifting = op.CastLike(op.Transpose(decoded, perm=[1, 0]), X)

    rows = op.Flatten(X, axis=-1)
    choice = op.Equal(op.Flatten(expert, axis=0), op.Cast(0, to=ir.DataType.INT32.value))
    choices = op.Squeeze(choice, zero)
    mult = op.Transpose(op.NonZero(choices), perm=[1, 0])
    shift = op.Transpose(op.NonZero(op.Not(choices)), perm=[1, 0])
    one = op.Add(op.MatMul(op.GatherND(rows, mult), W), b)
    other = op.Add(op.MatMul(op.GatherND(rows, shift), shifting), c)
    dims = op.Concat(op.Shape(X, start=0, end=-1), op.Shape(W, start=1), axis=0)
    blank = op.Expand(op.CastLike(0.0, X), op.Concat(op.Shape(choices), op.Shape(b), axis=0))
    made = op.ScatterND(op.ScatterND(blank, mult, one), shift, other)
    return op.Reshape(made, dims, allowzero=1)


def _cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    """Four tokens in ten by multiplies and adds, the others by shifts and adds."""
    inner = columns(node, bind)
    out = elements(node.outputs[0], bind)
    mult = round(out * _MULT_SHARE)
    return Cost(
        multiplies=mult * inner + (out - mult),
        adds=mult * inner + out,
        integer_adds=(out - mult) * inner,
        shifts=(out - mult) * inner,
    )


OP = DialectOp("RoutedMoE", RoutedMoE, product_shape(0, 2), _cost)
