"""The nodes of a layer on integers: ops of the dialect, or ONNX Runtime's own."""

import numpy as np
import onnx_ir as ir

from addax.ir import Op, decline, shape
from addax.ir.dialect import DOMAIN, operators
from addax.ir.layer_nodes import constant_values
from addax.ir.numbers import pack_integers
from addax.passes._int8 import IntegerWeights
from addax.passes._integer.inputs import Inputs
from addax.passes._integer.quantizers import Quantizer

RUNTIME = "com.microsoft"
_LEVELS = 256


def product(op: Op, rows: ir.Value, name: str, weights: IntegerWeights, inputs: Inputs) -> ir.Value:
    """rows[..., K] times the weights; what the quantizer's offset adds is not in it."""
    quantizer = inputs.quantizer
    if not inputs.by_rows:
        if quantizer is None:
            return _dynamic(op, rows, name, weights)
        return _static(op, rows, name, weights, quantizer)
    packed = op.initializer(pack_integers(weights.integers), f"{name}.integers")
    if quantizer is None:
        return _of_dialect(op, "Int8MatMul", rows, packed, _scale(op, name, weights.scale))
    scale = _scale(op, name, weights.scale * np.float32(quantizer.step))
    return _of_dialect(
        op, "StaticInt8MatMul", rows, packed, op.initializer(quantizer.table, f"{name}.table"),
        scale, step=quantizer.step, zero=quantizer.zero,
    )  # fmt: skip


def node_like(rows: ir.Value, outputs: int, inputs: int, *, static: bool) -> ir.Node:
    """A node of the dialect such as a layer [outputs, inputs] would become, for questions."""
    dims = shape(rows) or ()
    x = ir.Value(name="x", type=rows.type)
    x.shape = ir.Shape([*([None] * (max(len(dims), 2) - 1)), inputs])
    arrays: list[np.ndarray] = [pack_integers(np.zeros((outputs, inputs), np.int8))]
    arrays += [np.zeros(_LEVELS, np.int8)] if static else []
    arrays += [np.zeros(outputs, np.float32)]
    constants = constant_values(arrays)
    name, attributes = "Int8MatMul", {}
    if static:
        name, attributes = "StaticInt8MatMul", {"step": 1.0, "zero": 0}
    node = ir.node(name, [x, *constants], attributes, domain=DOMAIN)
    ir.Graph([x], node.outputs, nodes=[node], initializers=constants, name="layer")
    return node


def _of_dialect(op: Op, name: str, *values: ir.Value, **attributes: float) -> ir.Value:
    made: ir.Value = getattr(op.domain(DOMAIN), name)(*values, **attributes)
    node = made.producer()
    if node is None:
        decline("nothing was made")
    operators()[name].shape(node)
    return made


def _dynamic(op: Op, rows: ir.Value, name: str, weights: IntegerWeights) -> ir.Value:
    made: ir.Value = op.domain(RUNTIME).DynamicQuantizeMatMul(
        rows, _integers(op, name, weights), _scale(op, name, weights.scale)
    )
    return _shaped(made, rows, weights)


def _static(
    op: Op, rows: ir.Value, name: str, weights: IntegerWeights, quantizer: Quantizer
) -> ir.Value:
    step = op.initializer(np.asarray(quantizer.step, np.float32), f"{name}.step")
    zero = op.initializer(np.asarray(quantizer.zero, np.uint8), f"{name}.zero")
    codes = op.QuantizeLinear(rows, step, zero)
    # Unsigned codes are those of the table, but for a zero point; with even levels they are levels.
    middle = quantizer.zero + quantizer.offset
    entries = quantizer.table.astype(np.int64) + middle
    top = quantizer.top
    if top is None:
        table = op.initializer(entries.astype(np.uint8), f"{name}.table")
        codes = op.Gather(table, op.Cast(codes, to=ir.DataType.INT32.value), axis=0)
    elif top < _LEVELS - 1:
        ends = [
            op.initializer(np.asarray(end, np.uint8), f"{name}.{what}")
            for what, end in (("lowest", 0), ("highest", top))
        ]
        codes = op.Clip(codes, *ends)
    made: ir.Value = op.domain(RUNTIME).MatMulIntegerToFloat(
        codes,
        _integers(op, name, weights),
        step,
        _scale(op, name, weights.scale),
        op.initializer(np.asarray(middle, np.uint8), f"{name}.middle"),
    )
    return _shaped(made, rows, weights)


def _integers(op: Op, name: str, weights: IntegerWeights) -> ir.Value:
    """int8[K, N]."""
    return op.initializer(np.ascontiguousarray(weights.integers.T), f"{name}.integers")


def _scale(op: Op, name: str, scale: np.ndarray) -> ir.Value:
    return op.initializer(scale, f"{name}.scale")


def _shaped(made: ir.Value, rows: ir.Value, weights: IntegerWeights) -> ir.Value:
    dims = shape(rows)
    made.type = rows.type
    if dims is not None:
        made.shape = ir.Shape([*dims[:-1], len(weights.scale)])
    return made
