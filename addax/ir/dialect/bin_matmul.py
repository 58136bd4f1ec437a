"""BinMatMul: a product with bits, which is sums of rows.

    Y[..., m, d] = sum_n B[..., m, n] V[..., n, d]

B[..., M, N] int8 of {0, 1} or {-1, 1} (`Binarize`); V[..., N, D] floating. Leading dimensions as
MatMul's. Y of V's type. Linear attention is two: (qb) times (kb^T V).
With B = 2 C - 1 it is twice the product with C, less the sum of V's rows.
"""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import onnxscript
from onnxscript import script
from onnxscript.values import Opset

from addax.ir.cost import Cost, elements
from addax.ir.dialect._op import DOMAIN, VERSION, DialectOp
from addax.ir.dialect._weights import columns

_domain = Opset(DOMAIN, VERSION)
# The stubs of onnxscript want each operand's type, which a script over any type does not know.
op: Any = onnxscript.opset18


@script(_domain, default_opset=op)
def BinMatMul(B, V):  # type: ignore[no-untyped-def]
    return op.MatMul(op.CastLike(B, V), V)


def _shape(node: ir.Node) -> None:
    """Known where the leading dimensions are the same; else the type alone."""
    b, v = node.inputs
    if b is None or v is None:
        return
    node.outputs[0].type = v.type
    if b.shape is None or v.shape is None:
        return
    if len(v.shape) == 2 or (len(v.shape) > 2 and list(b.shape[:-2]) == list(v.shape[:-2])):
        node.outputs[0].shape = ir.Shape([*b.shape[:-1], v.shape[-1]])


def _cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    """An add for each bit and column."""
    return Cost(adds=elements(node.outputs[0], bind) * columns(node, bind))


OP = DialectOp("BinMatMul", BinMatMul, _shape, _cost)
