"""Route: which expert each token is sent to, and how sure that is.

    z = X W + b,   expert[t] = argmax_i z[t, i] (the lowest of equals)
    probability[t] = softmax(z[t])[expert[t]]

X[..., K] floating; W[K, E] and b[E] of X's type. expert int32[...], probability[...] of X's type,
for layers that weigh the expert's output by it; the papers' released models do not.
Source: ShiftAddViT.
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
def Route(X, W, b):  # type: ignore[no-untyped-def]
    z = op.Add(op.MatMul(X, W), b)
    expert = op.Cast(op.ArgMax(z, axis=-1, keepdims=0), to=ir.DataType.INT32.value)
    probability = op.ReduceMax(op.Softmax(z, axis=-1), op.Constant(value_ints=[-1]), keepdims=0)
    return expert, probability


def _shape(node: ir.Node) -> None:
    x = node.inputs[0]
    if x is None:
        return
    expert, probability = node.outputs
    expert.type = ir.TensorType(ir.DataType.INT32)
    probability.type = x.type
    if x.shape is not None:
        expert.shape = ir.Shape(x.shape[:-1])
        probability.shape = ir.Shape(x.shape[:-1])


def _cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    """A small product, and a softmax if the probability is used."""
    dims = shape(node.inputs[1])
    experts = dims[1] if dims and isinstance(dims[1], int) else 1
    work = elements(node.inputs[0], bind) * experts
    soft = 8 * elements(node.outputs[0], bind) * experts if node.outputs[1].uses() else 0
    return Cost(multiplies=work + soft, adds=work + soft)


OP = DialectOp("Route", Route, _shape, _cost)
