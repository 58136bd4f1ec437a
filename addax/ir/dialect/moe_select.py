"""MoeSelect: of the outputs of two experts, each token's own.

    Y[t] = Y0[t] where expert[t] = 0, Y1[t] elsewhere

expert int32[...]; Y0, Y1[..., N] of one type, of any kind. Y as they are. This is how a mixture
leaves its training framework: both experts compute every token. Where an expert's row depends on
nothing but the same row of its input, the other rows need not be computed (`RoutedMoE`).
"""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import onnxscript
from onnxscript import script
from onnxscript.values import Opset

from addax.ir.cost import Cost
from addax.ir.dialect._op import DOMAIN, VERSION, DialectOp

_domain = Opset(DOMAIN, VERSION)
# The stubs of onnxscript want each operand's type, which a script over any type does not know.
op: Any = onnxscript.opset18


@script(_domain, default_opset=op)
def MoeSelect(expert, Y0, Y1):  # type: ignore[no-untyped-def]
    first = op.Equal(expert, op.Cast(0, to=ir.DataType.INT32.value))
    return op.Where(op.Unsqueeze(first, op.Constant(value_ints=[-1])), Y0, Y1)


def _shape(node: ir.Node) -> None:
    first = node.inputs[1]
    if first is not None:
        node.outputs[0].type = first.type
        node.outputs[0].shape = first.shape


def _cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    """Movement alone."""
    return Cost()


OP = DialectOp("MoeSelect", MoeSelect, _shape, _cost)
