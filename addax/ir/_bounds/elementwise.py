"""Error analysis of elementwise operators: arithmetic, functions, comparisons, choices."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from addax.ir._bounds import number
from addax.ir._bounds.number import Bounded, rounding, settled
from addax.ir._bounds.table import Context, Errors, Inputs, Rule, Rules, is_real
from addax.ir._judge.arrays import REAL, Array

RULES = Rules()
CONTRIB = Rules("com.microsoft")
TABLES = (RULES, CONTRIB)

# Runtimes compute transcendental functions by short polynomials: within this many roundings.
_TRANSCENDENTAL = 8


def _real(inputs: Inputs, dtype: np.dtype[Any]) -> list[Bounded]:
    return [b if is_real(b) else Bounded(b.value, b.error, dtype) for b in inputs if b is not None]


def _exact_integers(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors | None:
    """Integer arithmetic is exact, or unsure as a whole."""
    if context.dtype in REAL:
        return None
    if all(b is None or b.is_exact for b in inputs):
        return [None] * len(outputs)
    return [np.full(y.shape, np.inf) for y in outputs]


def _arithmetic(call: Callable[[Bounded, Bounded], Bounded]) -> Rule:
    def rule(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
        integers = _exact_integers(context, inputs, outputs)
        if integers is not None:
            return integers
        return [reduce(call, _real(inputs, context.dtype)).error]

    return rule


RULES.op("Add", "Sum")(_arithmetic(number.add))
RULES.op("Sub")(_arithmetic(number.subtract))
RULES.op("Mul")(_arithmetic(number.multiply))
RULES.op("Div")(_arithmetic(number.divide))


@RULES.op("Mean")
def _mean(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    del outputs
    total = reduce(number.add, _real(inputs, context.dtype))
    return [number.divide(total, number.exact(float(len(inputs)), context.dtype)).error]


@RULES.op("Neg", "Identity", "Abs", "Relu", "Dropout")
def _no_rounding(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """Functions of slope at most one that are computed without rounding."""
    del context
    return [inputs[0].error if inputs[0] else None] + [None] * (len(outputs) - 1)


@RULES.op("Max", "Min", "Clip")
def _lattice(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """A choice among operands moves at most as far as the one that moves furthest."""
    if all(b is None or b.is_exact for b in inputs):
        return [None]
    if context.dtype not in REAL:
        return [np.full(outputs[0].shape, np.inf)]
    largest = reduce(np.maximum, [b.errors for b in inputs if b is not None])
    return [np.broadcast_to(largest, outputs[0].shape)]


def _function(
    make: Callable[[Callable[[Array], Any], Bounded], Bounded],
) -> Rule:
    def rule(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
        operand = inputs[0]
        if not is_real(operand) or operand is None:
            exact = operand is None or operand.is_exact
            return [None if exact else np.full(outputs[0].shape, np.inf)]
        return [make(lambda x: context.on([x, *(b.value for b in inputs[1:] if b)]), operand).error]

    return rule


def _monotone(count: float) -> Rule:
    return _function(lambda call, x: number.monotone(call, x, count))


def _lipschitz(slope: float) -> Rule:
    return _function(lambda call, x: number.lipschitz(call, slope, x, _TRANSCENDENTAL))


RULES.op("Floor", "Ceil", "Round", "Sign")(_monotone(0))
RULES.op("Sqrt", "LeakyRelu", "HardSigmoid", "ThresholdedRelu")(_monotone(4))
RULES.op(
    "Exp", "Log", "Asin", "Acos", "Atan", "Sinh", "Asinh", "Acosh", "Atanh", "Elu", "Selu", "Celu",
    "Softplus", "Softsign",
)(_monotone(_TRANSCENDENTAL))  # fmt: skip
# The largest slope of each; the formulas add up terms as large as the operand.
RULES.op("Erf", "Gelu")(_lipschitz(1.13))
RULES.op("Tanh", "Sigmoid", "Sin", "Cos", "Shrink")(_lipschitz(1))
RULES.op("HardSwish")(_lipschitz(1.5))
RULES.op("Mish")(_lipschitz(1.09))
CONTRIB.op("Gelu")(_lipschitz(1.13))


@RULES.op("Swish")
@CONTRIB.op("QuickGelu")
def _swish(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """d/dx of x sigmoid(a x) is at most 1.1 for each a."""
    return _lipschitz(1.1)(context, inputs, outputs)


@RULES.op("Shrink")
def _shrink(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """Steps at its thresholds: monotone where the bias is at most the threshold."""
    return _monotone(2)(context, inputs, outputs)


@RULES.op("Reciprocal")
def _reciprocal(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    del outputs
    return [number.divide(number.exact(1.0, context.dtype), *_real(inputs, context.dtype)).error]


@RULES.op("PRelu")
def _prelu(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """Either x, for x >= 0, or slope x; the product's bound serves on both sides of 0."""
    x, slope = _real(inputs, context.dtype)
    product = number.multiply(x, slope)
    below = x.value < 0
    crosses = (x.errors >= x.magnitude) & ~x.is_exact if x.error is not None else np.False_
    either = np.maximum(x.errors, product.errors)
    error = np.where(crosses, either, np.where(below, product.errors, x.errors))
    return [np.broadcast_to(error, outputs[0].shape)]


@RULES.op("Pow")
def _power(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """The corners of (x +- e, y +- e), with 0 between them where x may change its sign."""
    integers = _exact_integers(context, inputs, outputs)
    if integers is not None:
        return integers
    x, y = _real(inputs, context.dtype)
    value = np.asarray(outputs[0], np.float64)
    # Runtimes compute x**y as exp(y log x).
    exponent = np.abs(y.value * np.log(np.where(x.value == 0, 1, x.magnitude)))
    error = rounding(np.abs(value) * (1 + exponent), context.dtype, _TRANSCENDENTAL)
    if x.is_exact and y.is_exact:
        return [settled(error)]
    whole = np.all(y.value == np.rint(y.value)) and y.is_exact
    for dx in (-1, 0, 1):
        for dy in (-1, 1):
            at = x.value + dx * x.errors
            corner = context.on([at if whole else np.maximum(at, 0), y.value + dy * y.errors])
            error = np.maximum(error, np.abs(corner - value) * (1 + 1e-6))
    through_zero = (x.magnitude <= x.errors) & (y.value < 0)
    doubled = error + rounding(np.abs(value), context.dtype, _TRANSCENDENTAL)
    return [settled(np.where(through_zero, np.inf, doubled))]


@RULES.op("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
def _comparison(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    del context
    a, b = inputs[0], inputs[1]
    if a is None or b is None or (a.is_exact and b.is_exact):
        return [None]
    slack = a.errors + b.errors
    unsure = (slack > 0) & ~(np.abs(a.value * 1.0 - b.value) > slack)
    return [np.where(np.broadcast_to(unsure, outputs[0].shape), np.inf, 0)]


@RULES.op("And", "Or", "Xor", "Not", "IsNaN", "IsInf", "Mod", "BitwiseAnd", "BitwiseNot",
          "BitwiseOr", "BitwiseXor", "BitShift")  # fmt: skip
def _elementwise_choice(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """Exact on exact operands; unsure wherever an operand has an error."""
    del context
    if all(b is None or b.is_exact for b in inputs):
        return [None]
    moved = reduce(np.add, [b.errors for b in inputs if b is not None])
    return [np.where(np.broadcast_to(moved, outputs[0].shape) > 0, np.inf, 0)]


@RULES.op("Where")
def _where(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """The chosen operand's error; where the choice is unsure, the distance to the other too."""
    condition, a, b = inputs
    if condition is None or a is None or b is None:
        return [None]
    if condition.is_exact and a.is_exact and b.is_exact:
        return [None]
    error = np.where(condition.value, a.errors, b.errors)
    if not condition.is_exact:
        apart = np.abs(a.value * 1.0 - b.value) + np.maximum(a.errors, b.errors)
        error = np.where(condition.errors > 0, apart, error)
    if context.dtype not in REAL:
        error = np.where(error > 0, np.inf, 0)
    return [np.broadcast_to(settled(error), outputs[0].shape)]


@RULES.op("Cast", "CastLike")
def _cast(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    x = inputs[0]
    if x is None or (x.is_exact and context.dtype not in REAL):
        return [None]
    if context.dtype in REAL:
        if not is_real(x) and not x.is_exact:
            return [x.errors + 1 if x.dtype.kind == "b" else np.full(x.value.shape, np.inf)]
        widens = is_real(x) and number.form(x.dtype).unit >= number.form(context.dtype).unit
        if widens and np.all(~(x.magnitude > number.form(context.dtype).largest)):
            return [x.error]
        return [x.errors + rounding(x.magnitude * 1.0, context.dtype)]
    # To integers or truth values: unsure where the interval holds more than one result.
    low, high = (context.on([x.value + sign * x.errors]) for sign in (-1, 1))
    is_zero = (x.magnitude <= x.errors) & ~(x.errors == 0) if context.dtype.kind == "b" else False
    unsure = (low != high) | is_zero | ~np.isfinite(x.errors)
    return [np.where(np.broadcast_to(unsure, outputs[0].shape), np.inf, 0)]


@CONTRIB.op("BiasGelu", "FastGelu")
def _bias_gelu(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    del outputs
    operands = _real(inputs, context.dtype)
    x = reduce(number.add, operands)
    plain = [np.zeros(1)] if len(operands) > 1 else []
    return [number.lipschitz(lambda v: context.on([v, *plain]), 1.13, x, _TRANSCENDENTAL).error]
