"""Binarize: one bit of each number.

    B = 1[X > threshold]              signed = 0
    B = 2 * 1[X > threshold] - 1      signed = 1

X floating; threshold floating, of X's shape after broadcasting: 0, or what the graph computes. A
mean over the batch is then seen in the graph, where it makes a row depend on the others. B int8 of
X's shape. Attribute: signed. NaN counts as not above. Source: ShiftAddViT ({0, 1}), EcoFormer
({-1, 1}).
"""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import onnxscript
from onnxscript import script
from onnxscript.values import Opset

from addax.ir.cost import Cost, elements
from addax.ir.dialect._op import DOMAIN, VERSION, DialectOp

_domain = Opset(DOMAIN, VERSION)
# The stubs of onnxscript want each operand's type, which a script over any type does not know.
op: Any = onnxscript.opset18


@script(_domain, default_opset=op)
def Binarize(X, threshold, signed: int):  # type: ignore[no-untyped-def]
    low = op.Neg(op.Cast(op.Constant(value_int=signed), to=ir.DataType.INT8.value))
    high = op.Cast(op.Constant(value_int=1), to=ir.DataType.INT8.value)
    return op.Where(op.Greater(X, op.CastLike(threshold, X)), high, low)


def _shape(node: ir.Node) -> None:
    x = node.inputs[0]
    node.outputs[0].type = ir.TensorType(ir.DataType.INT8)
    if x is not None:
        node.outputs[0].shape = x.shape


def _cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    """A comparison a number, which is an add."""
    return Cost(adds=elements(node.outputs[0], bind))


OP = DialectOp("Binarize", Binarize, _shape, _cost)
