"""Cleanup: constants computed, identities removed.

Algebra     f(c) = c' for constant c;   x + 0 = x;   1 x = x;   -(-x) = x;   relu(relu(x)) = relu(x)
Source      the ONNX operators' definitions
Exactness   bitwise, but for constants computed in floating point: those are computed in float64
            and rounded once, where the network would have rounded at every step
Cost        never adds a node; a constant may not outgrow what it replaces by more than 64 KiB
"""

import math

import numpy as np
import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    constant,
    decline,
    require,
    rule,
    scalar,
)
from addax.ir.query import constant_tensor, store_once
from addax.ir.rule import EveryNode
from addax.passes._family import Phase

PHASE = Phase.CANONICAL

_SMALL = 1 << 16  # bytes that a constant may grow by when it is computed
# Operators with no value to compute: random, or with results that are not tensors.
_NOT_FOLDABLE = frozenset(
    {
        "Bernoulli", "Constant", "Dropout", "If", "Loop", "Multinomial", "Optional",
        "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Scan",
        "SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceMap", "SplitToSequence",
        "DequantizeLinear", "QuantizeLinear",
    }
)  # fmt: skip
# The last two stay on purpose: a runtime has integer kernels for what surrounds them.


def _is_constant_node(node: ir.Node) -> bool:
    # Asked at every visit of every node, so the test that fails most comes first.
    for value in node.inputs:
        if value is not None and constant_tensor(value) is None:
            return False
    return not node.domain and node.op_type not in _NOT_FOLDABLE


@rule("cleanup/fold-constant", match=EveryNode(_is_constant_node), exact=Exact.REASSOCIATED)
def fold_constant(op: Op) -> tuple[ir.Value, ...]:
    """f(constants) -> the constant."""
    node = op.root
    tensors = [constant_tensor(v) for v in node.inputs if v is not None]
    require(all(t.dtype != ir.DataType.STRING for t in tensors if t), "strings stay")
    given = sum(t.nbytes for t in tensors if t is not None)
    store_once(*node.inputs)
    require(_output_bytes(node) <= given + _SMALL, "the constant would outgrow its operands")
    attributes = dict(node.attributes)
    is_fixed = not any(attr.is_ref() for attr in attributes.values())
    require(is_fixed, "depends on the function's call")
    made = getattr(op, node.op_type)(*node.inputs, _outputs=len(node.outputs), **attributes)
    return made if isinstance(made, tuple) else (made,)


def _output_bytes(node: ir.Node) -> int:
    """The size of the outputs as far as the shapes say; the smallest possible where unknown."""
    total = 0
    for value in node.outputs:
        dims = [] if value.shape is None else [d for d in value.shape if isinstance(d, int)]
        width = value.dtype.bitwidth if value.dtype is not None else 0
        total += math.prod(dims) * width // 8
    return total


def _identity(op: Op, x: ir.Value) -> ir.Value:
    return op.Identity(x)


@rule("cleanup/identity", match=_identity, exact=Exact.BITWISE)
def identity(op: Op, x: ir.Value) -> ir.Value:
    """Identity(x) -> x."""
    return x


def _dropout(op: Op, x: ir.Value) -> ir.Value:
    return op.Dropout(x, ...)


@rule("cleanup/dropout", match=_dropout, exact=Exact.BITWISE)
def dropout(op: Op, x: ir.Value) -> ir.Value:
    """Dropout(x) -> x in inference."""
    inputs = op.root.inputs
    training = inputs[2] if len(inputs) > 2 else None
    require(training is None or scalar(training) == 0, "may run in training mode", training)
    return x


def _cast(op: Op, x: ir.Value) -> ir.Value:
    return op.Cast(x)


@rule("cleanup/cast", match=_cast, exact=Exact.BITWISE)
def cast(op: Op, x: ir.Value) -> ir.Value:
    """Cast(x, to=its own type) -> x."""
    require(x.dtype is not None and x.dtype == attribute(op.root, "to"), "changes the type", x)
    return x


def _cast_twice(op: Op, x: ir.Value) -> ir.Value:
    return op.Cast(op.Cast(x, _shared=True, _as="between"))


# Every value of the left format exists in each of the right ones.
_WIDER = {
    ir.DataType.FLOAT16: {ir.DataType.FLOAT, ir.DataType.DOUBLE},
    ir.DataType.BFLOAT16: {ir.DataType.FLOAT, ir.DataType.DOUBLE},
    ir.DataType.FLOAT: {ir.DataType.DOUBLE},
    ir.DataType.BOOL: {ir.DataType.INT32, ir.DataType.INT64, ir.DataType.FLOAT},
    ir.DataType.INT8: {ir.DataType.INT32, ir.DataType.INT64, ir.DataType.FLOAT},
    ir.DataType.UINT8: {ir.DataType.INT32, ir.DataType.INT64, ir.DataType.FLOAT},
    ir.DataType.INT32: {ir.DataType.INT64, ir.DataType.DOUBLE},
}


@rule("cleanup/cast-cast", match=_cast_twice, exact=Exact.BITWISE)
def cast_cast(op: Op, x: ir.Value, between: ir.Value) -> ir.Value:
    """Cast(Cast(x, wider), to) -> Cast(x, to)."""
    wider = () if x.dtype is None else _WIDER.get(x.dtype, ())
    require(between.dtype in wider, "the first cast loses values", between)
    is_back = x.dtype == attribute(op.root, "to")
    # With its attributes: casts to 8 bits may saturate or not.
    return x if is_back else op.Cast(x, **op.root.attributes)


def _add_zero(op: Op, x: ir.Value) -> ir.Value:
    return op.Add(x, 0)


def _subtract_zero(op: Op, x: ir.Value) -> ir.Value:
    return op.Sub(x, 0)


def _times_one(op: Op, x: ir.Value) -> ir.Value:
    return op.Mul(x, 1)


def _divide_by_one(op: Op, x: ir.Value) -> ir.Value:
    return op.Div(x, 1)


def _power_one(op: Op, x: ir.Value) -> ir.Value:
    return op.Pow(x, 1)


@rule(
    "cleanup/neutral-element",
    match=(_add_zero, _subtract_zero, _times_one, _divide_by_one, _power_one),
    exact=Exact.BITWISE,
)
def neutral_element(op: Op, x: ir.Value) -> ir.Value:
    """Neutral: x + 0, x - 0, 1 x, x / 1, x ** 1 -> x."""
    return x


def _is_neutral_tensor(node: ir.Node) -> bool:
    tensor = constant_tensor(node.inputs[1])
    if tensor is None or tensor.size < 2:
        return False
    array = constant(node.inputs[1])
    neutral = 0 if node.op_type == "Add" else 1
    # Look at one element before all: weights are rarely neutral, and may be large.
    return array is not None and array.flat[0] == neutral and bool(np.all(array == neutral))


@rule(
    "cleanup/neutral-tensor",
    match=EveryNode(_is_neutral_tensor, frozenset({"Add", "Mul"})),
    exact=Exact.BITWISE,
)
def neutral_tensor(op: Op) -> ir.Value | None:
    """Neutral: x + [0, ...], [1, ...] x -> x where the constant does not enlarge x."""
    x, out = op.root.inputs[0], op.root.outputs[0]
    require(
        x is not None
        and x.shape is not None
        and x.shape == out.shape
        and None not in [_d(d) for d in x.shape],
        "may broadcast x",
        x,
    )
    return x


def _d(dim: int | ir.SymbolicDim) -> int | str | None:
    return dim if isinstance(dim, int) else dim.value


def _involution(op: Op, x: ir.Value) -> ir.Value:
    return op.Neg(op.Neg(x, _shared=True))


def _not_not(op: Op, x: ir.Value) -> ir.Value:
    return op.Not(op.Not(x, _shared=True))


@rule("cleanup/involution", match=(_involution, _not_not), exact=Exact.BITWISE)
def involution(op: Op, x: ir.Value) -> ir.Value:
    """-(-x), not not x -> x."""
    return x


def _relu_relu(op: Op, x: ir.Value) -> ir.Value:
    return op.Relu(op.Relu(x, _shared=True, _as="inner"))


def _abs_abs(op: Op, x: ir.Value) -> ir.Value:
    return op.Abs(op.Abs(x, _shared=True, _as="inner"))


@rule("cleanup/idempotent", match=(_relu_relu, _abs_abs), exact=Exact.BITWISE)
def idempotent(op: Op, inner: ir.Value) -> ir.Value:
    """f(f(x)) -> f(x) for Relu and Abs."""
    return inner


def _variadic(op: Op, x: ir.Value) -> ir.Value:
    return op.Sum(x)


def _max_of_one(op: Op, x: ir.Value) -> ir.Value:
    return op.Max(x)


def _min_of_one(op: Op, x: ir.Value) -> ir.Value:
    return op.Min(x)


def _mean_of_one(op: Op, x: ir.Value) -> ir.Value:
    return op.Mean(x)


def _concat_of_one(op: Op, x: ir.Value) -> ir.Value:
    return op.Concat(x)


@rule(
    "cleanup/variadic-of-one",
    match=(_variadic, _max_of_one, _min_of_one, _mean_of_one, _concat_of_one),
    exact=Exact.BITWISE,
)
def variadic_of_one(op: Op, x: ir.Value) -> ir.Value:
    """Sum(x), Max(x), Min(x), Mean(x), Concat(x) -> x."""
    return x


def _where(op: Op, condition: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    return op.Where(condition, a, b)


@rule("cleanup/where-constant", match=_where, exact=Exact.BITWISE)
def where_constant(op: Op, condition: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """Where(all true, a, b) -> a;  Where(all false, a, b) -> b."""
    mask = constant(condition)
    require(mask is not None and mask.size > 0, "the condition is not constant", condition)
    keep = a if np.all(mask) else b if not np.any(mask) else None
    if keep is None:
        decline("the condition chooses element by element", condition)
    out = op.root.outputs[0].shape
    require(keep.shape is not None and keep.shape == out, "may broadcast what is kept", keep)
    require(all(_d(d) is not None for d in keep.shape or ()), "a dimension is unknown", keep)
    return keep


def _relu_clip(op: Op, x: ir.Value, high: ir.Value) -> ir.Value:
    return op.Relu(op.Clip(x, 0, high, _shared=True, _as="clipped"))


@rule("cleanup/relu-of-clip", match=_relu_clip, exact=Exact.BITWISE)
def relu_of_clip(op: Op, x: ir.Value, high: ir.Value, clipped: ir.Value) -> ir.Value:
    """relu(clip(x, 0, h)) -> clip(x, 0, h) for h >= 0: clipping below 0 first changes nothing."""
    top = scalar(high)
    require(top is not None and top >= 0, "the upper bound may be negative", high)
    return clipped


RULES = (
    fold_constant,
    identity,
    dropout,
    cast,
    cast_cast,
    neutral_element,
    neutral_tensor,
    involution,
    idempotent,
    variadic_of_one,
    where_constant,
    relu_of_clip,
)
