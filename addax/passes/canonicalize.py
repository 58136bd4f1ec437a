"""Canonicalize: one spelling for sums, products, quotients, powers and linear layers.

Algebra     c + x = x + c;   x - c = x + (-c);   x / c = x (1/c);   x^2 = x x;   x^(1/2) = sqrt(x);
            1 / x = reciprocal(x);   a + (-b) = a - b;   -(a - b) = b - a;
            Gemm(A, B, C) = alpha op(A) op(B) + beta C
Source      the ONNX operators' definitions
Exactness   bitwise, but for reciprocals of constants, which are rounded once (x / c is within 3/2
            eps of x (1/c)), for powers, and for weights that take in alpha
Cost        never adds work; a Gemm of two factors of alpha, beta, bias becomes the nodes that it is
"""

import functools

import numpy as np
import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    const,
    const_ints,
    decline,
    is_float,
    known_dtype,
    known_rank,
    known_shape,
    producing,
    require,
    rule,
)
from addax.ir.query import constant_tensor, store_once
from addax.ir.rule import EveryNode
from addax.passes._family import Phase

PHASE = Phase.CANONICAL

_COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min", "And", "Or", "Xor", "Equal"})
_BROADCASTING = frozenset({"Add", "Mul"})


def _is_constant_first(node: ir.Node) -> bool:
    return (
        len(node.inputs) == 2
        and constant_tensor(node.inputs[0]) is not None
        and constant_tensor(node.inputs[1]) is None
    )


@rule(
    "canonicalize/constant-second",
    match=EveryNode(_is_constant_first, _COMMUTATIVE),
    exact=Exact.BITWISE,
)
def constant_second(op: Op) -> ir.Value:
    """c + x -> x + c, and so for every commutative operator."""
    first, second = op.root.inputs
    made: ir.Value = getattr(op, op.root.op_type)(second, first)
    return made


def _has_leading_ones(node: ir.Node) -> bool:
    tensor = constant_tensor(node.inputs[1])
    return (
        tensor is not None
        and tensor.shape.rank() > 0
        and tensor.shape[0] == 1
        and constant_tensor(node.inputs[0]) is None
    )


@rule(
    "canonicalize/leading-ones",
    match=EveryNode(_has_leading_ones, _BROADCASTING),
    exact=Exact.BITWISE,
)
def leading_ones(op: Op) -> ir.Value:
    """x + c[1, ..., N] -> x + c[N] and x c[1, ..., N] -> x c[N], where x has the rank of c."""
    x, c = op.root.inputs
    dims = const(c).shape
    require(known_rank(x) >= len(dims), "the constant raises the rank", c)
    store_once(c)
    kept = next((i for i, d in enumerate(dims) if d != 1), len(dims))
    made: ir.Value = getattr(op, op.root.op_type)(x, op.Reshape(c, list(dims[kept:])))
    return made


def _sum(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    return op.Sum(x, y, ...)


@rule("canonicalize/sum", match=_sum, exact=Exact.REASSOCIATED)
def sum_of_many(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    """Sum(x, y, z, ...) -> ((x + y) + z) + ..."""
    return functools.reduce(op.Add, op.root.inputs[2:], op.Add(x, y))


def _cast_like(op: Op, x: ir.Value, like: ir.Value) -> ir.Value:
    return op.CastLike(x, like)


@rule("canonicalize/cast-like", match=_cast_like, exact=Exact.BITWISE)
def cast_like(op: Op, x: ir.Value, like: ir.Value) -> ir.Value:
    """CastLike(x, y) -> Cast(x, the type of y)."""
    return op.Cast(x, to=int(known_dtype(like)), **dict(op.root.attributes))


def _part_of_sequence(op: Op, x: ir.Value, index: ir.Value) -> ir.Value:
    return op.SequenceAt(op.SplitToSequence(x, ..., _shared=True, _as="parts"), index)


@rule("canonicalize/sequence-at", match=_part_of_sequence, exact=Exact.BITWISE)
def sequence_at(op: Op, x: ir.Value, index: ir.Value, parts: ir.Value) -> ir.Value:
    """SequenceAt(SplitToSequence(x, sizes), i) -> x[start : start + size], or x[i]."""
    node = producing(parts)
    axis = attribute(node, "axis", 0) % known_rank(x)
    total = known_shape(x)[axis]
    if not isinstance(total, int):
        decline("the length is known only at run time", x)
    given = const(node.inputs[1], "the sizes") if len(node.inputs) > 1 else None
    sizes = _part_sizes(1 if given is None else given.tolist(), total)
    (position,) = const_ints(index, "the index")
    require(-len(sizes) <= position < len(sizes), "there is no such part", index)
    start = sum(sizes[: position % len(sizes)])
    if given is None and attribute(node, "keepdims", 1) == 0:
        return op.Gather(x, start, axis=axis)
    return op.Slice(x, [start], [start + sizes[position]], [axis])


def _part_sizes(given: int | list[int], total: int) -> list[int]:
    """The lengths of the parts: as listed, or of one size but for what is left at the end."""
    if isinstance(given, list):
        return given
    return [min(given, total - start) for start in range(0, total, given)]


# --- subtraction and negation -------------------------------------------------------------------


def _subtract(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    return op.Sub(x, c)


@rule("canonicalize/subtract-constant", match=_subtract, exact=Exact.BITWISE)
def subtract_constant(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    """x - c -> x + (-c)."""
    const(c)
    require(is_float(c), "integers may have no negative", c)
    return op.Add(x, op.Neg(c))


def _minus_one_times(op: Op, x: ir.Value) -> ir.Value:
    return op.Mul(x, -1)


def _zero_minus(op: Op, x: ir.Value) -> ir.Value:
    return op.Sub(0, x)


@rule("canonicalize/negation", match=(_minus_one_times, _zero_minus), exact=Exact.BITWISE)
def negation(op: Op, x: ir.Value) -> ir.Value:
    """x (-1) -> -x;  0 - x -> -x."""
    return op.Neg(x)


def _add_negative(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    return op.Add(x, op.Neg(y, _shared=True))


@rule("canonicalize/add-negative", match=_add_negative, exact=Exact.BITWISE)
def add_negative(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    """x + (-y) -> x - y."""
    return op.Sub(x, y)


def _subtract_negative(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    return op.Sub(x, op.Neg(y, _shared=True))


@rule("canonicalize/subtract-negative", match=_subtract_negative, exact=Exact.BITWISE)
def subtract_negative(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    """x - (-y) -> x + y."""
    return op.Add(x, y)


def _negative_difference(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    return op.Neg(op.Sub(x, y))


@rule("canonicalize/negative-difference", match=_negative_difference, exact=Exact.BITWISE)
def negative_difference(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    """-(x - y) -> y - x."""
    return op.Sub(y, x)


# --- quotients and powers -----------------------------------------------------------------------


def _divide(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    return op.Div(x, c)


def _divisor(c: ir.Value) -> np.ndarray:
    """A constant whose reciprocal is an ordinary number of its own type."""
    array = const(c, "the divisor").astype(np.float64)
    require(is_float(c), "integer division", c)
    sizes, dtype = np.abs(array), known_dtype(c)
    require(
        np.all((sizes >= 1 / float(dtype.max)) & (sizes <= 1 / float(dtype.tiny))),
        "the divisor has no ordinary reciprocal", c,
    )  # fmt: skip
    return array


@rule("canonicalize/divide-by-power-of-two", match=_divide, exact=Exact.BITWISE)
def divide_by_power_of_two(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    """x / c -> x (1/c) where every c is a power of two, so that 1/c is exact."""
    mantissa, _ = np.frexp(_divisor(c))
    require(np.all(np.abs(mantissa) == 0.5), "not powers of two", c)
    return op.Mul(x, op.Reciprocal(c))


@rule("canonicalize/divide-by-constant", match=_divide, exact=Exact.REASSOCIATED)
def divide_by_constant(op: Op, x: ir.Value, c: ir.Value) -> ir.Value:
    """x / c -> x (1/c)."""
    _divisor(c)
    return op.Mul(x, op.Reciprocal(c))


def _one_over(op: Op, x: ir.Value) -> ir.Value:
    return op.Div(1, x)


@rule("canonicalize/one-over", match=_one_over, exact=Exact.BITWISE)
def one_over(op: Op, x: ir.Value) -> ir.Value:
    """1 / x -> reciprocal(x)."""
    require(is_float(x), "integer division", x)
    return op.Reciprocal(x)


def _square(op: Op, x: ir.Value) -> ir.Value:
    return op.Pow(x, 2)


@rule("canonicalize/square", match=_square, exact=Exact.REASSOCIATED)
def square(op: Op, x: ir.Value) -> ir.Value:
    """x^2 -> x x."""
    require(is_float(x), "powers of integers may wrap otherwise than products", x)
    return op.Mul(x, x)


def _square_root(op: Op, x: ir.Value) -> ir.Value:
    return op.Pow(x, 0.5)


@rule("canonicalize/square-root", match=_square_root, exact=Exact.REASSOCIATED)
def square_root(op: Op, x: ir.Value) -> ir.Value:
    """x^(1/2) -> sqrt(x)."""
    require(is_float(x), "powers of integers are integers", x)
    return op.Sqrt(x)


def _inverse_root(op: Op, x: ir.Value) -> ir.Value:
    return op.Pow(x, -0.5)


@rule("canonicalize/inverse-root", match=_inverse_root, exact=Exact.REASSOCIATED)
def inverse_root(op: Op, x: ir.Value) -> ir.Value:
    """x^(-1/2) -> 1 / sqrt(x)."""
    require(is_float(x), "powers of integers are integers", x)
    return op.Reciprocal(op.Sqrt(x))


def _inverse(op: Op, x: ir.Value) -> ir.Value:
    return op.Pow(x, -1)


@rule("canonicalize/inverse", match=_inverse, exact=Exact.REASSOCIATED)
def inverse(op: Op, x: ir.Value) -> ir.Value:
    """x^(-1) -> 1 / x."""
    require(is_float(x), "powers of integers are integers", x)
    return op.Reciprocal(x)


# --- linear layers ------------------------------------------------------------------------------


def _gemm(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    return op.Gemm(a, b, ...)


@rule("canonicalize/gemm", match=_gemm, exact=Exact.REASSOCIATED)
def gemm(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    """Gemm(A, B, C) -> op(A) (alpha op(B)) + beta C; constant factors are computed here."""
    node = op.root
    c = node.inputs[2] if len(node.inputs) > 2 else None
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    require(is_float(a) or alpha == beta == 1, "integers cannot be scaled by alpha and beta", a)
    store_once(b)
    x = op.Transpose(a, perm=[1, 0]) if attribute(node, "transA", 0) else a
    w = op.Transpose(b, perm=[1, 0]) if attribute(node, "transB", 0) else b
    if alpha == 1:
        product = op.MatMul(x, w)
    elif constant_tensor(b) is not None:
        product = op.MatMul(x, op.Mul(w, alpha))
    else:
        product = op.Mul(op.MatMul(x, w), alpha)
    if c is None or beta == 0:
        return product
    return op.Add(product, c if beta == 1 else op.Mul(c, beta))


RULES = (
    constant_second,
    leading_ones,
    sum_of_many,
    cast_like,
    sequence_at,
    subtract_constant,
    negation,
    add_negative,
    subtract_negative,
    negative_difference,
    divide_by_power_of_two,
    divide_by_constant,
    one_over,
    square,
    square_root,
    inverse_root,
    inverse,
    gemm,
)
