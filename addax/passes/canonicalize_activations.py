"""Canonicalize activations: Gelu, Sigmoid, HardSwish, Mish, Relu and Softmax are one node each.

Algebra     gelu(x) = x (1 + erf(x / sqrt 2)) / 2;
            gelu_tanh(x) = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2;
            sigmoid(x) = 1 / (1 + e^-x);   hardsigmoid(x) = clip(a x + b, 0, 1);
            hardswish(x) = x hardsigmoid(x), a = 1/6, b = 1/2;   mish(x) = x tanh(softplus(x));
            softmax(x) = e^(x - max x) / sum e^(x - max x);   swish(x) = x sigmoid(a x) stays two
Source      Hendrycks and Gimpel 2016 (1606.08415); Howard et al. 2019 (1905.02244) section 5.2;
            Misra 2019 (1908.08681)
Exactness   reassociated: factors such as sqrt(2 / pi) are accepted within 2 ulp of the element
            type. What an exporter has rounded further is another function: where it writes 1.4142
            for sqrt 2, the result is gelu(a x) / a, whose scales fold into the layers around it
Cost        removes 2 to 8 elementwise nodes a function
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    decline,
    is_float,
    is_near,
    known_dtype,
    known_rank,
    producer,
    producing,
    rank,
    require,
    rule,
    scalar,
)
from addax.passes._family import Phase
from addax.passes._reductions import trailing_axes

PHASE = Phase.CANONICAL

_DEEP = 6  # levels of a polynomial that are read


# --- Gelu ---------------------------------------------------------------------------------------


def _half_last(op: Op, x: ir.Value, s: Any) -> Any:
    return op.Mul(op.Mul(x, op.Add(s, 1)), 0.5)


def _half_first(op: Op, x: ir.Value, s: Any) -> Any:
    return op.Mul(op.Mul(x, 0.5, _shared=True), op.Add(s, 1))


def _half_inside(op: Op, x: ir.Value, s: Any) -> Any:
    return op.Mul(x, op.Mul(op.Add(s, 1), 0.5))


def _half_distributed(op: Op, x: ir.Value, s: Any) -> Any:
    return op.Mul(x, op.Add(op.Mul(s, 0.5), 0.5))


_HALVES = (_half_last, _half_first, _half_inside, _half_distributed)


def _gated(half: Callable[[Op, ir.Value, Any], Any], sigmoid: str) -> Callable[..., Any]:
    """A half of x (1 + s(u)) in one of its spellings."""

    def pattern(op: Op, x: ir.Value, u: ir.Value) -> Any:
        return half(op, x, getattr(op, sigmoid)(u))

    return pattern


@rule(
    "canonicalize-activations/gelu",
    match=tuple(_gated(half, "Erf") for half in _HALVES),
    exact=Exact.REASSOCIATED,
)
def gelu(op: Op, x: ir.Value, u: ir.Value) -> ir.Value:
    """x (1 + erf(x / sqrt 2)) / 2 -> Gelu(x);  x (1 + erf(a x / sqrt 2)) / 2 -> Gelu(a x) / a."""
    require(op.opset >= 20, "Gelu needs opset 20", x)
    found = _polynomial(u, x, _DEEP)
    if found is None or found.keys() != {1}:
        decline("the argument is not the function's polynomial in x", u)
    slope = found[1] * math.sqrt(2)
    if abs(slope - 1) <= 2 * float(known_dtype(x).eps):
        return op.Gelu(x)
    require(1 / 16 <= slope <= 16, "the slope is not near 1", u)
    return op.Mul(op.Gelu(op.Mul(x, slope)), 1 / slope)


@rule(
    "canonicalize-activations/gelu-tanh",
    match=tuple(_gated(half, "Tanh") for half in _HALVES),
    exact=Exact.REASSOCIATED,
)
def gelu_tanh(op: Op, x: ir.Value, u: ir.Value) -> ir.Value:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 -> Gelu(x, approximate="tanh")."""
    require(op.opset >= 20, "Gelu needs opset 20", x)
    slope = math.sqrt(2 / math.pi)
    _is_polynomial(u, x, {1: slope, 3: 0.044715 * slope})
    _not_double(x)
    return op.Gelu(x, approximate="tanh")


def _not_double(x: ir.Value) -> None:
    """Decline for doubles, which ONNX Runtime then computes with constants in float32, or not."""
    require(x.dtype != ir.DataType.DOUBLE, "runtimes have no such function of doubles", x)


def _is_polynomial(u: ir.Value, x: ir.Value, wanted: dict[int, float]) -> None:
    """Decline unless u = sum_k wanted[k] x^k, to 2 ulp for each constant in a coefficient."""
    found = _polynomial(u, x, _DEEP)
    if found is None or found.keys() != wanted.keys():
        decline("the argument is not the function's polynomial in x", u)
    eps = float(known_dtype(x).eps)
    require(
        all(abs(found[k] - c) <= (k + 1) * eps * abs(c) for k, c in wanted.items()),
        "the coefficients are those of another function", u,
    )  # fmt: skip


def _polynomial(u: ir.Value | None, x: ir.Value, depth: int) -> dict[int, float] | None:
    """The coefficients of `u` as a polynomial in `x`; None if it is none that is easily read."""
    if u is x:
        return {1: 1.0}
    number = scalar(u)
    if number is not None:
        raises = (rank(u) or 0) > (rank(x) or 0)
        return {0: float(number)} if is_float(u) and not raises else None
    node = producer(u, "Add", "Mul", "Pow")
    if node is None or depth == 0:
        return None
    left = _polynomial(node.inputs[0], x, depth - 1)
    if node.op_type == "Pow":
        return _power(left, scalar(node.inputs[1]))
    right = _polynomial(node.inputs[1], x, depth - 1)
    if left is None or right is None:
        return None
    terms = [*left.items(), *right.items()]
    if node.op_type == "Mul":
        terms = [(i + j, a * b) for i, a in left.items() for j, b in right.items()]
    return {k: math.fsum(c for j, c in terms if j == k) for k, _ in terms}


def _power(base: dict[int, float] | None, exponent: Any) -> dict[int, float] | None:
    """The square or cube of a single term."""
    if base is None or len(base) != 1 or exponent not in (2, 3):
        return None
    ((degree, coefficient),) = base.items()
    return {degree * int(exponent): coefficient ** int(exponent)}


# --- sigmoids -----------------------------------------------------------------------------------


def _logistic(op: Op, x: ir.Value) -> ir.Value:
    return op.Reciprocal(op.Add(op.Exp(op.Neg(x)), 1))


@rule("canonicalize-activations/sigmoid", match=_logistic, exact=Exact.REASSOCIATED)
def sigmoid(op: Op, x: ir.Value) -> ir.Value:
    """1 / (1 + e^-x) -> Sigmoid(x)."""
    return op.Sigmoid(x)


def _swish(op: Op, x: ir.Value) -> ir.Value:
    return op.Swish(x)


@rule("canonicalize-activations/swish", match=_swish, exact=Exact.REASSOCIATED)
def swish(op: Op, x: ir.Value) -> ir.Value:
    """Swish(x, a) -> x Sigmoid(a x)."""
    slope = attribute(op.root, "alpha", 1.0)
    return op.Mul(x, op.Sigmoid(x if slope == 1 else op.Mul(x, slope)))


def _mish(op: Op, x: ir.Value) -> ir.Value:
    return op.Mul(x, op.Tanh(op.Softplus(x)))


@rule("canonicalize-activations/mish", match=_mish, exact=Exact.REASSOCIATED)
def mish(op: Op, x: ir.Value) -> ir.Value:
    """x tanh(softplus(x)) -> Mish(x)."""
    require(op.opset >= 18, "Mish needs opset 18", x)
    return op.Mish(x)


# --- piecewise linear ---------------------------------------------------------------------------


def _shifted_relu6(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    return op.Mul(op.Clip(op.Add(x, 3), 0, 6), c)


@rule("canonicalize-activations/hard-sigmoid", match=_shifted_relu6, exact=Exact.REASSOCIATED)
def hard_sigmoid(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    """Clip(x + 3, 0, 6) / 6 -> HardSigmoid(x, 1/6, 1/2)."""
    require(is_near(c, 1 / 6, x), "the factor is not 1/6", c)
    _not_double(x)
    return op.HardSigmoid(x, alpha=1 / 6, beta=0.5)


def _clipped_line(op: Op, x: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    return op.Clip(op.Add(op.Mul(x, a), b), 0, 1)


@rule("canonicalize-activations/clipped-line", match=_clipped_line, exact=Exact.REASSOCIATED)
def clipped_line(op: Op, x: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """Clip(a x + b, 0, 1) -> HardSigmoid(x, a, b) for numbers a and b."""
    slope, offset = scalar(a), scalar(b)
    if slope is None or offset is None:
        decline("the slope or the offset is not one number", a, b)
    require(rank(a) == rank(b) == 0, "a number of rank 1 or more may raise the rank", a, b)
    for number in (slope, offset):
        require(np.float32(number) == number, "the number is wider than an attribute", a, b)
    _not_double(x)
    return op.HardSigmoid(x, alpha=float(slope), beta=float(offset))


def _gated_by_hard_sigmoid(op: Op, x: ir.Value) -> ir.Value:
    return op.Mul(x, op.HardSigmoid(x, beta=0.5, _as="gate"))


@rule("canonicalize-activations/hard-swish", match=_gated_by_hard_sigmoid, exact=Exact.REASSOCIATED)
def hard_swish(op: Op, x: ir.Value, gate: ir.Value) -> ir.Value:
    """x HardSigmoid(x, 1/6, 1/2) -> HardSwish(x)."""
    require(op.opset >= 14, "HardSwish needs opset 14", x)
    slope = attribute(producing(gate), "alpha", 0.2)
    require(abs(slope * 6 - 1) <= 2.0**-22, "the slope is not 1/6", gate)
    return op.HardSwish(x)


def _relu6_product(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    return op.Mul(op.Mul(x, op.Clip(op.Add(x, 3), 0, 6)), c)


def _product_of_sixth(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    return op.Mul(op.Mul(x, c), op.Clip(op.Add(x, 3), 0, 6))


@rule(
    "canonicalize-activations/hard-swish-product",
    match=(_relu6_product, _product_of_sixth),
    exact=Exact.REASSOCIATED,
)
def hard_swish_product(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    """x Clip(x + 3, 0, 6) / 6 -> HardSwish(x)."""
    require(op.opset >= 14, "HardSwish needs opset 14", x)
    require(is_near(c, 1 / 6, x), "the factor is not 1/6", c)
    _not_double(x)
    return op.HardSwish(x)


def _clip_below(op: Op, x: ir.Value) -> ir.Value:
    return op.Clip(x, 0)


def _clip_without_top(op: Op, x: ir.Value) -> ir.Value:
    return op.Clip(x, 0, None)


def _clip_to_infinity(op: Op, x: ir.Value) -> ir.Value:
    return op.Clip(x, 0, math.inf)


def _maximum_with_zero(op: Op, x: ir.Value) -> ir.Value:
    return op.Max(x, 0)


@rule(
    "canonicalize-activations/relu",
    match=(_clip_below, _clip_without_top, _clip_to_infinity, _maximum_with_zero),
    exact=Exact.BITWISE,
)
def relu(op: Op, x: ir.Value) -> ir.Value:
    """Clip(x, 0), Clip(x, 0, infinity), Max(x, 0) -> Relu(x)."""
    require(is_float(x), "Relu of integers is rare in runtimes", x)
    return op.Relu(x)


def _maximum(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    return op.Max(x, c)


def _minimum(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    return op.Min(x, c)


@rule("canonicalize-activations/clip", match=(_maximum, _minimum), exact=Exact.BITWISE)
def clip(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    """Max(x, c) -> Clip(x, c);  Min(x, c) -> Clip(x, , c);  for a number c."""
    bound = scalar(c)
    require(bound is not None and is_float(c), "the bound is not one floating number", c)
    require(bound == bound, "the bound is not a number", c)
    require(known_rank(x) >= known_rank(c), "the bound raises the rank", c)
    require(op.opset >= 11, "bounds are attributes before opset 11", x)
    limit = op.Reshape(c, []) if known_rank(c) else c
    return op.Clip(x, limit) if op.root.op_type == "Max" else op.Clip(x, None, limit)


def _inner_clip(op: Op, x: ir.Value) -> ir.Value:
    return op.Clip(op.Clip(x, ..., _shared=True), ...)


def _relu_of_clip(op: Op, x: ir.Value) -> ir.Value:
    return op.Relu(op.Clip(x, ..., _shared=True))


def _clip_of_relu(op: Op, x: ir.Value) -> ir.Value:
    return op.Clip(op.Relu(x, _shared=True), ...)


@rule(
    "canonicalize-activations/clip-of-clip",
    match=(_inner_clip, _relu_of_clip, _clip_of_relu),
    exact=Exact.BITWISE,
)
def clip_of_clip(op: Op, x: ir.Value) -> ir.Value:
    """Clip(Clip(x, a, b), c, d) -> Clip(x, Clip(a, c, d), Clip(b, c, d)); Relu is Clip(., 0)."""
    require(op.opset >= 11, "bounds are attributes before opset 11", x)
    a, b = _bounds(op, producing(op.root.inputs[0]))
    c, d = _bounds(op, op.root)
    low = c if a is None else op.Clip(a, c, d)
    high = d if b is None else op.Clip(b, c, d)
    return op.Clip(x, low) if high is None else op.Clip(x, low, high)


def _bounds(op: Op, node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """The constant bounds of a Clip or Relu; None where there is none."""
    if node.op_type == "Relu":
        zero = np.zeros((), known_dtype(node.inputs[0]).numpy())
        return op.initializer(zero, "zero"), None
    low, high = (*node.inputs[1:], None, None)[:2]
    for bound in (low, high):
        number = scalar(bound)
        require(bound is None or number is not None, "a bound is not constant", bound)
        require(bound is None or number == number, "a bound is not a number", bound)
    return low, high


def _clip(op: Op, x: ir.Value) -> ir.Value:
    return op.Clip(x, ...)


@rule("canonicalize-activations/useless-bound", match=_clip, exact=Exact.REASSOCIATED)
def useless_bound(op: Op, x: ir.Value) -> ir.Value:
    """Clip(x, low, high) -> the same without bounds that every finite number keeps."""
    low, high = (*op.root.inputs[1:], None, None)[:2]
    limits = known_dtype(x)
    lowest, highest = scalar(low), scalar(high)
    keeps_low = low is not None and (lowest is None or lowest > limits.min)
    keeps_high = high is not None and (highest is None or highest < limits.max)
    require((keeps_low, keeps_high) != (low is not None, high is not None), "every bound counts", x)
    if keeps_high:
        return op.Clip(x, low if keeps_low else None, high)
    return op.Clip(x, low) if keeps_low else x


# --- Softmax ------------------------------------------------------------------------------------


def _exponentials_over_sum(op: Op, x: ir.Value) -> ir.Value:
    e = op.Exp(op.Sub(x, op.ReduceMax(x, ..., _as="top")))
    return op.Div(e, op.ReduceSum(e, ..., _as="total"))


@rule("canonicalize-activations/softmax", match=_exponentials_over_sum, exact=Exact.REASSOCIATED)
def softmax(op: Op, x: ir.Value, top: ir.Value, total: ir.Value) -> ir.Value:
    """e^(x - max x) / sum e^(x - max x) -> Softmax(x), over the last axis."""
    require(trailing_axes(top) == trailing_axes(total) == 1, "maximum and sum over several axes", x)
    return op.Softmax(x, axis=-1)


RULES = (
    gelu,
    gelu_tanh,
    sigmoid,
    swish,
    mish,
    hard_sigmoid,
    clipped_line,
    hard_swish,
    hard_swish_product,
    relu,
    clip,
    clip_of_clip,
    useless_bound,
    softmax,
)
