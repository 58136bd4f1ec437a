"""Integer bias: what is added to an integer product goes into ONNX Runtime's own operator.

Algebra     DynamicQuantizeMatMul(x, W, s, z) + b = DynamicQuantizeMatMul(x, W, s, z, b), and so
            for MatMulIntegerToFloat
Source      ONNX Runtime's ContribOperators.md
Exactness   reassociated: the scale is multiplied and b added in one step, without rounding between
Cost        a node less, which read and wrote all outputs of a layer
"""

import onnx_ir as ir

from addax.ir import Exact, Op, producing, require, rule, shape, static_shape
from addax.passes._family import Phase

PHASE = Phase.LOWER

_NATIVE = "com.microsoft"
_BIAS = {"DynamicQuantizeMatMul": 4, "MatMulIntegerToFloat": 6}


def _dynamic(op: Op, x: ir.Value, w: ir.Value, s: ir.Value, b: ir.Value) -> ir.Value:
    return op.Add(op.domain(_NATIVE).DynamicQuantizeMatMul(x, w, s, ..., _as="y"), b)


def _static(op: Op, x: ir.Value, w: ir.Value, s: ir.Value, t: ir.Value, b: ir.Value) -> ir.Value:
    return op.Add(op.domain(_NATIVE).MatMulIntegerToFloat(x, w, s, t, ..., _as="y"), b)


@rule("integer-bias/into-product", match=(_dynamic, _static), exact=Exact.REASSOCIATED)
def into_product(op: Op, y: ir.Value, b: ir.Value) -> ir.Value:
    """DynamicQuantizeMatMul(x, W, s) + b -> DynamicQuantizeMatMul(x, W, s, "", b)."""
    node = producing(y)
    place = _BIAS[node.op_type]
    size, columns = static_shape(b), shape(node.inputs[1])
    require(size is not None and len(size) == 1, "what is added is no vector", b)
    require(columns is not None and size == columns[-1:], "it has not one number a column", b)
    require(b.dtype == ir.DataType.FLOAT, "its numbers are not float32", b)
    inputs = [*node.inputs, *[None] * place]
    require(inputs[place] is None, "it has a bias already", y)
    made: ir.Value = getattr(op.domain(_NATIVE), node.op_type)(*inputs[:place], b)
    made.type, made.shape = op.root.outputs[0].type, op.root.outputs[0].shape
    return made


RULES = (into_product,)
