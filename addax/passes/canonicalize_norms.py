"""Canonicalize norms: LayerNorm and RMSNorm are one node each, with their scale and shift.

Algebra     m = mean x;  d = x - m;  LN(x) = d / sqrt(mean d^2 + eps) g + b, over the last axes;
            RMS(x) = x / sqrt(mean x^2 + eps) g;
            x inv + (b - m inv) = (x - m) inv + b;   d (g / r) = (d / r) g;
            sum x / n = mean x
Source      Ba, Kiros and Hinton 2016 (1607.06450) equations 3 and 4; Zhang and Sennrich 2019
            (1910.07467) equation 4
Exactness   reassociated; statistics of halves are taken in float32, which is where one node is
            better than its parts
Cost        removes 6 to 10 nodes a norm. Before opset 23 RMSNorm has no node: its spelling is
            x reciprocal(sqrt(mean(x x) + eps)), where the reciprocal is one number a row
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    const,
    decline,
    is_near,
    known_dtype,
    known_shape,
    producing,
    require,
    rule,
    scalar,
    shape,
)
from addax.passes._family import Phase
from addax.passes._reductions import reduced_axes, trailing_axes

PHASE = Phase.CANONICAL

_REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")


# --- means --------------------------------------------------------------------------------------


def _restored(restore: str, reduction: str) -> Callable[[Op, ir.Value], Any]:
    return lambda op, x: getattr(op, restore)(
        getattr(op, reduction)(x, ..., keepdims=0, _as="reduced"), ...
    )


@rule(
    "canonicalize-norms/kept-axes",
    match=tuple(_restored(r, name) for r in ("Reshape", "Unsqueeze") for name in _REDUCTIONS),
    exact=Exact.BITWISE,
)
def kept_axes(op: Op, x: ir.Value, reduced: ir.Value) -> ir.Value:
    """Reshape(mean(x, keepdims=0), with ones for the axes) -> mean(x, keepdims=1)."""
    node = producing(reduced)
    dims = list(known_shape(x))
    for axis in reduced_axes(node):
        dims[axis] = 1
    require(shape(op.root.outputs[0]) == tuple(dims), "the axes do not come back as ones", x)
    attributes = {name: a for name, a in node.attributes.items() if name != "keepdims"}
    made: ir.Value = getattr(op, node.op_type)(*node.inputs, keepdims=1, **attributes)
    return made


def _scaled_sum(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    return op.Mul(op.ReduceSum(x, ..., _as="total"), c)


@rule("canonicalize-norms/mean", match=_scaled_sum, exact=Exact.REASSOCIATED)
def mean(op: Op, x: ir.Value, c: ir.Value, total: ir.Value) -> ir.Value:
    """(sum x) (1/n) -> mean x."""
    node, dims = producing(total), known_shape(x)
    sizes = [dims[axis] for axis in reduced_axes(node)]
    count = int(np.prod([d for d in sizes if isinstance(d, int)]))
    require(all(isinstance(d, int) for d in sizes) and count > 0, "the count is unknown", x)
    require(is_near(c, 1 / count, total), "the factor is not one over the count", c)
    return _mean(op, x, reduced_axes(node), attribute(node, "keepdims", 1))


def _mean(op: Op, x: ir.Value, axes: tuple[int, ...], keepdims: int = 1) -> ir.Value:
    """ReduceMean with its axes where the opset has them."""
    if op.opset >= 18:
        return op.ReduceMean(x, list(axes), keepdims=keepdims)
    return op.ReduceMean(x, axes=list(axes), keepdims=keepdims)


# --- LayerNorm ----------------------------------------------------------------------------------


def _divided(op: Op, x: ir.Value, eps: ir.Value) -> ir.Value:
    d = op.Sub(x, op.ReduceMean(x, ..., _as="average"))
    return op.Div(d, op.Sqrt(op.Add(op.ReduceMean(op.Mul(d, d), ..., _as="variance"), eps)))


def _multiplied(op: Op, x: ir.Value, eps: ir.Value) -> ir.Value:
    d = op.Sub(x, op.ReduceMean(x, ..., _as="average"))
    variance = op.ReduceMean(op.Mul(d, d), ..., _as="variance")
    return op.Mul(d, op.Reciprocal(op.Sqrt(op.Add(variance, eps))))


def _cast_inside(op: Op, x: ir.Value, eps: ir.Value) -> ir.Value:
    d = op.Cast(op.Sub(x, op.ReduceMean(x, ..., _as="average")), to=1)
    variance = op.ReduceMean(op.Mul(d, d), ..., _as="variance")
    return op.Cast(op.Mul(d, op.Reciprocal(op.Sqrt(op.Add(variance, eps)))))


@rule(
    "canonicalize-norms/layer-norm",
    match=(_divided, _multiplied, _cast_inside),
    exact=Exact.REASSOCIATED,
)
def layer_norm(
    op: Op, x: ir.Value, eps: ir.Value, average: ir.Value, variance: ir.Value
) -> ir.Value:
    """(x - m) / sqrt(mean (x - m)^2 + eps) -> LayerNormalization(x, 1)."""
    require(op.opset >= 17, "LayerNormalization needs opset 17", x)
    count = trailing_axes(average)
    require(trailing_axes(variance) == count, "mean and variance over different axes", x)
    return op.LayerNormalization(
        x, _ones(op, x, count), axis=-count, epsilon=_epsilon(eps, variance)
    )


def _batch_norm_style(op: Op, x: ir.Value, m: ir.Value, inv: ir.Value, b: ir.Value) -> ir.Value:
    return op.Add(op.Mul(x, inv), op.Sub(b, op.Mul(m, inv)))


@rule("canonicalize-norms/difference", match=_batch_norm_style, exact=Exact.REASSOCIATED)
def difference(op: Op, x: ir.Value, m: ir.Value, inv: ir.Value, b: ir.Value) -> ir.Value:
    """x inv + (b - m inv) -> (x - m) inv + b, for m with one number a row."""
    require((shape(m) or (0,))[-1] == 1, "m is no statistic of the last axis", m)
    return op.Add(op.Mul(op.Sub(x, m), inv), b)


def _gain_first(op: Op, d: ir.Value, r: ir.Value, g: ir.Value) -> ir.Value:
    return op.Mul(d, op.Mul(op.Reciprocal(r, _as="inv"), g))


@rule("canonicalize-norms/gain-last", match=_gain_first, exact=Exact.REASSOCIATED)
def gain_last(op: Op, d: ir.Value, inv: ir.Value, g: ir.Value) -> ir.Value:
    """d (g / r) -> (d / r) g for a constant g."""
    const(g, "the gain")
    return op.Mul(op.Mul(d, inv), g)


def _epsilon(eps: ir.Value, beside: ir.Value) -> float:
    """A positive number that an attribute holds exactly; declines otherwise."""
    number = scalar(eps)
    if number is None:
        decline("epsilon is not one constant", eps)
    require(number > 0 and np.float32(number) == number, "epsilon is no positive float32", eps)
    require(is_near(eps, float(number), beside), "epsilon raises the rank", eps)
    return float(number)


def _ones(op: Op, x: ir.Value, count: int) -> ir.Value:
    """The scale that changes nothing, for the last `count` axes of `x`."""
    dims = known_shape(x)[-count:]
    sizes = [d for d in dims if isinstance(d, int)]
    require(len(sizes) == count, "the size of a normalised axis is unknown", x)
    dtype = known_dtype(x)
    require(dtype != ir.DataType.DOUBLE, "the norm's statistics would be float32", x)
    return op.initializer(np.ones(sizes, dtype.numpy()), "ones")


def _cast_around(op: Op, x: ir.Value, ones: ir.Value) -> ir.Value:
    return op.Cast(op.LayerNormalization(op.Cast(x, to=1), ones, stash_type=1, _as="y"))


@rule("canonicalize-norms/cast-around", match=_cast_around, exact=Exact.REASSOCIATED)
def cast_around(op: Op, x: ir.Value, ones: ir.Value, y: ir.Value) -> ir.Value:
    """Half(LN(Float(x), 1)) -> LN(x, 1), whose statistics are float32 by definition."""
    require(x.dtype == op.root.outputs[0].dtype, "the casts are not each other's inverse", x)
    array = const(ones, "the scale")
    require(np.all(array == 1), "the scale is applied before the cast", ones)
    scale = op.initializer(np.ones(array.shape, known_dtype(x).numpy()), "ones")
    return op.LayerNormalization(x, scale, **dict(producing(y).attributes))


# --- scale and shift ----------------------------------------------------------------------------


def _scaled_layer_norm(op: Op, x: ir.Value, g: ir.Value, s: ir.Value) -> ir.Value:
    return op.Mul(op.LayerNormalization(x, g, ..., _as="y"), s)


def _scaled_rms_norm(op: Op, x: ir.Value, g: ir.Value, s: ir.Value) -> ir.Value:
    return op.Mul(op.RMSNormalization(x, g, _as="y"), s)


@rule(
    "canonicalize-norms/scale",
    match=(_scaled_layer_norm, _scaled_rms_norm),
    exact=Exact.REASSOCIATED,
)
def scale(op: Op, x: ir.Value, g: ir.Value, s: ir.Value, y: ir.Value) -> ir.Value:
    """LN(x, g, b) s -> LN(x, g s, b s);  RMS(x, g) s -> RMS(x, g s)."""
    _fits(s, g)
    node = producing(y)
    parts = [op.Mul(part, _spread(op, s, g)) for part in node.inputs[1:]]
    made: ir.Value = getattr(op, node.op_type)(x, *parts, **dict(node.attributes))
    return made


def _shifted_layer_norm(op: Op, x: ir.Value, g: ir.Value, t: ir.Value) -> ir.Value:
    return op.Add(op.LayerNormalization(x, g, ..., _as="y"), t)


@rule("canonicalize-norms/shift", match=_shifted_layer_norm, exact=Exact.REASSOCIATED)
def shift(op: Op, x: ir.Value, g: ir.Value, t: ir.Value, y: ir.Value) -> ir.Value:
    """LN(x, g, b) + t -> LN(x, g, b + t)."""
    _fits(t, g)
    node = producing(y)
    given = node.inputs[2] if len(node.inputs) > 2 else None
    spread = _spread(op, t, g)
    bias = spread if given is None else op.Add(given, spread)
    return op.LayerNormalization(x, g, bias, **dict(node.attributes))


def _fits(s: ir.Value, g: ir.Value) -> None:
    """Decline unless `s` is a constant that broadcasts into the constant `g`."""
    array, into = const(s, "the scale or shift"), const(g, "the norm's scale")
    require(array.ndim <= into.ndim, "the constant has more axes than the norm's scale", s)
    shared = into.shape[into.ndim - array.ndim :]
    require(
        all(d in (1, n) for d, n in zip(array.shape, shared, strict=True)),
        "the constant does not fit the norm's scale", s,
    )  # fmt: skip


def _spread(op: Op, s: ir.Value, g: ir.Value) -> ir.Value:
    return op.Expand(s, list(known_shape(g)))


def _biased_layer_norm(op: Op, x: ir.Value, g: ir.Value, b: ir.Value) -> ir.Value:
    return op.LayerNormalization(x, g, b)


@rule("canonicalize-norms/zero-bias", match=_biased_layer_norm, exact=Exact.BITWISE)
def zero_bias(op: Op, x: ir.Value, g: ir.Value, b: ir.Value) -> tuple[ir.Value, ...]:
    """LN(x, g, 0) -> LN(x, g)."""
    require(not np.any(const(b, "the bias")), "the bias is not zero", b)
    count = len(op.root.outputs)
    made = op.LayerNormalization(x, g, _outputs=count, **dict(op.root.attributes))
    return made if isinstance(made, tuple) else (made,)


# --- RMSNorm ------------------------------------------------------------------------------------


def _rms_divided(op: Op, x: ir.Value, eps: ir.Value) -> ir.Value:
    return op.Div(x, op.Sqrt(op.Add(op.ReduceMean(op.Mul(x, x), ...), eps), _as="root"))


@rule("canonicalize-norms/rms-divided", match=_rms_divided, exact=Exact.REASSOCIATED)
def rms_divided(op: Op, x: ir.Value, root: ir.Value) -> ir.Value:
    """x / sqrt(mean(x x) + eps) -> x reciprocal(sqrt(mean(x x) + eps)): one division a row."""
    return op.Mul(x, op.Reciprocal(root))


def _rms_multiplied(op: Op, x: ir.Value, eps: ir.Value) -> ir.Value:
    square = op.ReduceMean(op.Mul(x, x), ..., _as="square")
    return op.Mul(x, op.Reciprocal(op.Sqrt(op.Add(square, eps))))


@rule("canonicalize-norms/rms-norm", match=_rms_multiplied, exact=Exact.REASSOCIATED)
def rms_norm(op: Op, x: ir.Value, eps: ir.Value, square: ir.Value) -> ir.Value:
    """x reciprocal(sqrt(mean(x x) + eps)) -> RMSNormalization(x, 1)."""
    require(op.opset >= 23, "RMSNormalization needs opset 23", x)
    count = trailing_axes(square)
    return op.RMSNormalization(x, _ones(op, x, count), axis=-count, epsilon=_epsilon(eps, square))


RULES = (
    kept_axes,
    mean,
    layer_norm,
    difference,
    gain_last,
    cast_around,
    scale,
    shift,
    zero_bias,
    rms_divided,
    rms_norm,
)
