"""Canonicalize affine: chains of scales and shifts by constants become one scale and one shift.

Algebra     (x + a) + b = x + (a + b);   (x a) b = x (a b);   (x + b) a = x a + a b;
            and the same with c - x and -x;  the normal forms are x a, x + b, x a + b, c - x, -x
Source      the ring's axioms
Exactness   reassociated: constants are combined in float64 and rounded once;
            |y' - y| <= 3 eps (|x a| + |a b| + |b|), or no rounding at all where only signs move
Cost        never adds a node; a combined constant may not outgrow the larger of the two
"""

import numpy as np
import onnx_ir as ir

from addax.ir import Exact, Op, const, is_float, require, rule
from addax.passes._family import Phase

PHASE = Phase.CANONICAL


def _combinable(a: ir.Value, b: ir.Value) -> None:
    """Decline constants that grow when they are combined, or that are not finite."""
    left, right = const(a), const(b)
    require(is_float(a), "not floating point", a)
    try:
        size = int(np.prod(np.broadcast_shapes(left.shape, right.shape)))
    except ValueError:
        size = left.size + right.size
    require(size <= max(left.size, right.size), "the combined constant would be larger", a, b)
    require(
        np.isfinite(left.astype(np.float64)).all() and np.isfinite(right.astype(np.float64)).all(),
        "a constant is not finite", a, b,
    )  # fmt: skip


def _product(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    """Both constants multiplied, if no product falls below the ordinary numbers of the type."""
    _combinable(a, b)
    made: ir.Value = op.Mul(a, b)
    sizes = np.abs(op.exact(made))
    smallest = 0.0 if a.dtype is None else float(a.dtype.tiny)
    require(np.all((sizes == 0) | (sizes >= smallest)), "the product underflows", a, b)
    return made


# --- shifts -------------------------------------------------------------------------------------


def _shift_of_shift(op: Op, x: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    return op.Add(op.Add(x, a), b)


@rule("canonicalize-affine/merge-shifts", match=_shift_of_shift, exact=Exact.REASSOCIATED)
def merge_shifts(op: Op, x: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """(x + a) + b -> x + (a + b)."""
    _combinable(a, b)
    return op.Add(x, op.Add(a, b))


def _shift_of_reflection(op: Op, c: ir.Value, x: ir.Value, b: ir.Value) -> ir.Value:
    return op.Add(op.Sub(c, x), b)


@rule("canonicalize-affine/shift-reflection", match=_shift_of_reflection, exact=Exact.REASSOCIATED)
def shift_reflection(op: Op, c: ir.Value, x: ir.Value, b: ir.Value) -> ir.Value:
    """(c - x) + b -> (c + b) - x."""
    _combinable(c, b)
    return op.Sub(op.Add(c, b), x)


def _reflection_of_shift(op: Op, c: ir.Value, x: ir.Value, a: ir.Value) -> ir.Value:
    return op.Sub(c, op.Add(x, a))


@rule("canonicalize-affine/reflect-shift", match=_reflection_of_shift, exact=Exact.REASSOCIATED)
def reflect_shift(op: Op, c: ir.Value, x: ir.Value, a: ir.Value) -> ir.Value:
    """c - (x + a) -> (c - a) - x."""
    _combinable(c, a)
    return op.Sub(op.Sub(c, a), x)


def _reflection_of_reflection(op: Op, c: ir.Value, b: ir.Value, x: ir.Value) -> ir.Value:
    return op.Sub(c, op.Sub(b, x))


@rule(
    "canonicalize-affine/merge-reflections",
    match=_reflection_of_reflection,
    exact=Exact.REASSOCIATED,
)
def merge_reflections(op: Op, c: ir.Value, b: ir.Value, x: ir.Value) -> ir.Value:
    """c - (b - x) -> x + (c - b)."""
    _combinable(c, b)
    return op.Add(x, op.Sub(c, b))


# --- scales -------------------------------------------------------------------------------------


def _scale_of_scale(op: Op, x: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    return op.Mul(op.Mul(x, a), b)


@rule("canonicalize-affine/merge-scales", match=_scale_of_scale, exact=Exact.REASSOCIATED)
def merge_scales(op: Op, x: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """(x a) b -> x (a b)."""
    return op.Mul(x, _product(op, a, b))


def _scale_of_negative(op: Op, x: ir.Value, a: ir.Value) -> ir.Value:
    return op.Mul(op.Neg(x), a)


def _negative_of_scale(op: Op, x: ir.Value, a: ir.Value) -> ir.Value:
    return op.Neg(op.Mul(x, a))


@rule(
    "canonicalize-affine/negate-scale",
    match=(_scale_of_negative, _negative_of_scale),
    exact=Exact.BITWISE,
)
def negate_scale(op: Op, x: ir.Value, a: ir.Value) -> ir.Value:
    """(-x) a -> x (-a);  -(x a) -> x (-a)."""
    const(a)
    require(is_float(a), "not floating point", a)
    return op.Mul(x, op.Neg(a))


def _negative_of_shift(op: Op, x: ir.Value, a: ir.Value) -> ir.Value:
    return op.Neg(op.Add(x, a))


@rule("canonicalize-affine/negate-shift", match=_negative_of_shift, exact=Exact.BITWISE)
def negate_shift(op: Op, x: ir.Value, a: ir.Value) -> ir.Value:
    """-(x + a) -> (-a) - x."""
    const(a)
    require(is_float(a), "not floating point", a)
    return op.Sub(op.Neg(a), x)


# --- scales go before shifts --------------------------------------------------------------------


def _scale_of_shift(op: Op, x: ir.Value, b: ir.Value, a: ir.Value) -> ir.Value:
    return op.Mul(op.Add(x, b), a)


@rule("canonicalize-affine/distribute", match=_scale_of_shift, exact=Exact.REASSOCIATED)
def distribute(op: Op, x: ir.Value, b: ir.Value, a: ir.Value) -> ir.Value:
    """(x + b) a -> x a + a b."""
    return op.Add(op.Mul(x, a), _product(op, b, a))


def _scale_of_reflection(op: Op, c: ir.Value, x: ir.Value, a: ir.Value) -> ir.Value:
    return op.Mul(op.Sub(c, x), a)


@rule("canonicalize-affine/scale-reflection", match=_scale_of_reflection, exact=Exact.REASSOCIATED)
def scale_reflection(op: Op, c: ir.Value, x: ir.Value, a: ir.Value) -> ir.Value:
    """(c - x) a -> x (-a) + c a."""
    return op.Add(op.Mul(x, op.Neg(a)), _product(op, c, a))


def _reflection_of_scale(op: Op, c: ir.Value, x: ir.Value, a: ir.Value) -> ir.Value:
    return op.Sub(c, op.Mul(x, a))


@rule("canonicalize-affine/reflect-scale", match=_reflection_of_scale, exact=Exact.BITWISE)
def reflect_scale(op: Op, c: ir.Value, x: ir.Value, a: ir.Value) -> ir.Value:
    """c - x a -> x (-a) + c."""
    const(c)
    const(a)
    require(is_float(a), "not floating point", a)
    return op.Add(op.Mul(x, op.Neg(a)), c)


RULES = (
    merge_shifts,
    shift_reflection,
    reflect_shift,
    merge_reflections,
    merge_scales,
    negate_scale,
    negate_shift,
    distribute,
    scale_reflection,
    reflect_scale,
)
