"""KernelHash: bits of a token by its distances from anchors, for binary attention.

    D[n, j] = |X[n] - anchor_j|^2
    g = exp(-D / (2 sigma)) - mean
    B[n, i] = 1[sum_j g[n, j] A[i, j] > 0]

X[B, H, N, D] floating; anchors[H, M, D], mean[H, 1, M], A[H, I, M] and sigma of X's type. sigma,
broadcast to [B, H, N, M], is the kernel's width squared; where it is 0 it is the mean of D over
all tokens and anchors of the sample and head, as the papers compute it when they run: then a
token's bits depend on the sample's other tokens. B int8[B, H, N, I], {0, 1}.
Source: EcoFormer, ShiftAddViT. D is computed as |X|^2 - 2 X anchor + |anchor|^2, in float32.
"""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import onnxscript
from onnxscript import script
from onnxscript.values import Opset

from addax.ir.cost import Cost, elements
from addax.ir.dialect._op import DOMAIN, VERSION, DialectOp
from addax.ir.query import shape

_domain = Opset(DOMAIN, VERSION)
# The stubs of onnxscript want each operand's type, which a script over any type does not know.
op: Any = onnxscript.opset18


@script(_domain, default_opset=op)
def KernelHash(X, anchors, mean, A, sigma):  # type: ignore[no-untyped-def]
    last = op.Constant(value_ints=[-1])
    x = op.Cast(X, to=ir.DataType.FLOAT.value)
    points = op.Cast(anchors, to=ir.DataType.FLOAT.value)
    wide = op.Cast(sigma, to=ir.DataType.FLOAT.value)
    across = op.MatMul(x, op.Transpose(points, perm=[0, 2, 1]))
    far = op.Transpose(op.ReduceSumSquare(points, last), perm=[0, 2, 1])
    squares = op.Add(op.ReduceSumSquare(x, last), far)
    # Rounding may leave less than nothing.
    distance = op.Max(op.Sub(squares, op.Add(across, across)), 0.0)
    average = op.ReduceMean(distance, op.Constant(value_ints=[2, 3]))
    width = op.Where(op.Equal(wide, 0.0), average, wide)
    # A sample whose tokens all lie on all anchors has no width; its distances are 0.
    kernel = op.Exp(op.Div(op.Mul(distance, -0.5), op.Where(op.Equal(width, 0.0), 1.0, width)))
    g = op.Sub(kernel, op.Cast(mean, to=ir.DataType.FLOAT.value))
    hashed = op.MatMul(g, op.Transpose(op.Cast(A, to=ir.DataType.FLOAT.value), perm=[0, 2, 1]))
    return op.Cast(op.Greater(hashed, 0.0), to=ir.DataType.INT8.value)


def _shape(node: ir.Node) -> None:
    x, a = node.inputs[0], node.inputs[3]
    node.outputs[0].type = ir.TensorType(ir.DataType.INT8)
    if x is None or a is None:
        return
    if x.shape is not None and a.shape is not None:
        node.outputs[0].shape = ir.Shape([*x.shape[:-1], a.shape[1]])


def _cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    """A product with the anchors, an exponential for each, and a product with A."""
    dims = shape(node.inputs[3])
    _, bits, anchors = dims if dims and len(dims) == 3 else (1, 1, 1)
    many = anchors if isinstance(anchors, int) else 1
    codes = elements(node.outputs[0], bind)
    distances = codes // (bits if isinstance(bits, int) else 1) * many
    work = elements(node.inputs[0], bind) * (many + 1) + distances * 9 + codes * many
    return Cost(multiplies=work, adds=work)


OP = DialectOp("KernelHash", KernelHash, _shape, _cost)
