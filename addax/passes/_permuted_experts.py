"""Two experts in operators that any ONNX Runtime has: tokens in two heaps, and back.

    x0, x1 = rows of x with and without mask;  y = (f(x0), g(x1)) in the order of x

Moving rows costs once, whatever the number of layers of an expert. The Shift expert multiplies
integers: with r[t] = max_k |x[t, k]|, q[t, k] = rint(127 x[t, k] / r[t]) and its weights
w[k, n] = scale[n] i[k, n],

    x1 w ~ r[t] scale[n] / 127 sum_k q[t, k] i[k, n]

so that a row's result depends on no other row. Products are ONNX Runtime's MatMulIntegerToFloat.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir import Op
from addax.ir.query import constant_tensor, rank, shape, static_shape
from addax.passes._expert_pairs import Pair, Plan, Same
from addax.passes._linear_layers import Linear
from addax.passes._row_local import ELEMENTWISE

Codes = tuple[np.ndarray, np.ndarray]
Dims = tuple[int | str, ...]

RUNTIME = "com.microsoft"
_OVER_LAST = frozenset({"LayerNormalization", "LogSoftmax", "RMSNormalization", "Softmax"})
_LARGEST, _ZERO = 127, 128  # of activations, as bytes without a sign
_TINY = 1e-30  # what rows are divided by at least; its reciprocal is a float32


def is_permutable(plan: Plan, dims: Dims) -> bool:
    """Whether a plan's operators mean the same for rows in any number and order.

    `dims`: the shape of the choice, an element for each token.
    """
    if isinstance(plan, ir.Value):
        return constant_tensor(plan) is not None or (shape(plan) or ())[:-1] == dims
    if isinstance(plan, Pair):
        return is_permutable(plan.x, dims) and all(e.kind == np.float32 for e in plan.experts)
    known = plan.node.op_type in ELEMENTWISE | _OVER_LAST
    return known and all(each is None or is_permutable(each, dims) for each in plan.inputs)


class Permuted:
    """Builds both experts of a plan, each on its own rows."""

    def __init__(self, op: Op, mask: ir.Value, turned: bool, codes: Mapping[Pair, Codes]) -> None:
        """`mask`: which tokens go to Mult; `turned`: whether Shift comes first."""
        self._op, self._turned, self._codes = op, turned, codes
        self._mask, flat = mask, op.Reshape(mask, [-1])
        self._masks = (flat, op.Not(flat))
        self._made: dict[tuple[Plan, bool], ir.Value] = {}

    def build(self, plan: Plan, outputs: int) -> ir.Value:
        """The rows of so many numbers that a plan describes, in the order of the tokens."""
        op = self._op
        one, other = (self._expert(plan, shifts) for shifts in (False, True))
        first, second = (
            op.CumSum(op.Cast(mask, to=ir.DataType.INT64.value), np.int64(0), exclusive=1)
            for mask in self._masks
        )
        count = op.Shape(one, start=0, end=1)
        place = op.Where(self._masks[0], first, op.Add(second, count))
        made = op.Gather(op.Concat(one, other, axis=0), place, axis=0)
        dims = static_shape(self._mask)
        if dims is None:
            full = op.Concat(op.Shape(self._mask), [outputs], axis=0)
        else:
            full = op.initializer(np.asarray([*dims, outputs]), "dims")
        result: ir.Value = op.Reshape(made, full, allowzero=1)
        return result

    def _expert(self, plan: Plan, shifts: bool) -> ir.Value:
        if (plan, shifts) not in self._made:
            self._made[plan, shifts] = self._new(plan, shifts)
        return self._made[plan, shifts]

    def _new(self, plan: Plan, shifts: bool) -> ir.Value:
        if isinstance(plan, ir.Value):
            return self._leaf(plan, shifts)
        if isinstance(plan, Same):
            given: dict[str, Any] = dict(plan.node.attributes)
            if plan.node.op_type in _OVER_LAST:
                given["axis"] = -1
            inputs = [None if each is None else self._expert(each, shifts) for each in plan.inputs]
            made: ir.Value = getattr(self._op, plan.node.op_type)(*inputs, **given)
            return made
        layer = plan.experts[shifts != self._turned]
        x = self._expert(plan.x, shifts)
        return self._shifted(x, layer, *self._codes[plan]) if shifts else self._multiplied(x, layer)

    def _leaf(self, value: ir.Value, shifts: bool) -> ir.Value:
        op = self._op
        if constant_tensor(value) is not None:
            return value if (rank(value) or 0) < 2 else op.Reshape(value, [-1])
        rows = op.Flatten(value, axis=-1)
        made: ir.Value = op.Compress(rows, self._masks[shifts], axis=0)
        return made

    def _multiplied(self, x: ir.Value, layer: Linear) -> ir.Value:
        # Not MatMul and Add: what ONNX Runtime makes of these before a GELU is slower.
        made: ir.Value = self._op.Gemm(x, stored(self._op, layer), self._bias(layer))
        return made

    def _shifted(
        self, x: ir.Value, layer: Linear, integers: np.ndarray, scale: np.ndarray
    ) -> ir.Value:
        op, step = self._op, np.float32(1 / _LARGEST)
        largest, least = (reduce(x, [-1], keepdims=1) for reduce in (op.ReduceMax, op.ReduceMin))
        reach = op.Max(largest, op.Neg(least), np.float32(_TINY))
        rounded = op.QuantizeLinear(op.Mul(x, op.Reciprocal(reach)), step, np.uint8(_ZERO))
        weights = np.ascontiguousarray(integers.T)
        made = op.domain(RUNTIME).MatMulIntegerToFloat(
            rounded,
            op.initializer(weights, f"{layer.site.weight.name}.weights"),
            np.asarray(step),
            op.initializer(scale.astype(np.float32), f"{layer.site.weight.name}.scale"),
            np.asarray(_ZERO, np.uint8),
        )
        rows = None if x.shape is None else x.shape[0]
        made.type, made.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([rows, len(scale)])
        result: ir.Value = op.Add(op.Mul(made, reach), self._bias(layer))
        return result

    def _bias(self, layer: Linear) -> ir.Value:
        bias = layer.bias.astype(layer.kind)
        return self._op.initializer(bias, f"{layer.site.weight.name}.bias")


def stored(op: Op, layer: Linear) -> ir.Value:
    """The weights of a layer as [K, N]: those that are there, if they are."""
    weight, view = layer.site.weight, layer.site.view
    if not view.is_turned:
        weight = op.Transpose(weight, perm=[1, 0])
    made: ir.Value = weight if view.factor == 1 else op.Mul(weight, view.factor)
    return made
