"""Error analysis of ONNX Runtime's products of integers, which are exact up to their scales."""

from collections.abc import Sequence

import numpy as np

from addax.ir._bounds.number import rounding
from addax.ir._bounds.table import Context, Errors, Inputs, Rules
from addax.ir._judge.arrays import Array

CONTRIB = Rules("com.microsoft")
TABLES = (CONTRIB,)

_BIAS = 6
_STEPS = 4  # the product of the scales, what it multiplies as float, their product, the bias


@CONTRIB.op("MatMulIntegerToFloat")
def _integer_to_float(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """Sums of integers are exact; scaling them and adding a bias is not."""
    if not all(b is None or b.is_exact for b in inputs):
        return _lost(outputs)
    bias = inputs[_BIAS] if len(inputs) > _BIAS else None
    added = 0.0 if bias is None else 2 * bias.magnitude
    return [rounding(np.abs(outputs[0]) + added, context.dtype, _STEPS)]


@CONTRIB.op("DynamicQuantizeMatMul")
def _dynamic(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """Where a number lies between two codes, float32 and float64 may round it differently."""
    del context, inputs
    return _lost(outputs)


def _lost(outputs: Sequence[Array]) -> Errors:
    return [np.full(np.shape(y), np.inf) for y in outputs]
