"""Movement: transposes, reshapes and expansions composed, cancelled, or seen to do nothing.

Algebra     P_q P_p x = P_{p q} x, and P_id x = x;      reshape_t(reshape_s(x)) = reshape_t(x);
            P x = reshape(x) where only axes of size 1 move;
            reshape_t(P(reshape_s(x))) = P'(reshape_u(x)) where t only splits axes of P's result;
            P_q f(P_p x, c) = f(x, P_q c) for elementwise f and P_q P_p = 1
Source      the ONNX operators' definitions
Exactness   bitwise: elements move, none is computed
Cost        never adds a node; the transposes that stay move the same elements
"""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    const_ints,
    constant,
    decline,
    elements,
    known_rank,
    known_shape,
    producer,
    producing,
    rank,
    require,
    rule,
    same_shape,
    shape,
    single_use,
    static_shape,
)
from addax.ir.query import constant_tensor
from addax.passes import _unit_axes
from addax.passes._family import Phase
from addax.passes._reshape_target import Target, must_spell, spell

PHASE = Phase.CANONICAL

# Each keeps the elements in their order and changes only where the axes end.
RESHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")
_DEEP = 16  # elementwise operators between two transposes that are looked through
# Elementwise operators of one tensor; their further inputs, if any, are scalars.
_UNARY = (
    "Abs", "Cast", "Ceil", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu",
    "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Tanh",
    "ThresholdedRelu",
)  # fmt: skip
_BROADCAST = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
    "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip


def _not_constant(x: ir.Value) -> None:
    """Leave movement of constants to `cleanup`, which knows when it may store them again."""
    require(constant_tensor(x) is None, "constants are moved when they are folded", x)


def order(node: ir.Node) -> tuple[int, ...]:
    """The permutation of a Transpose; declines if neither it nor the rank is known."""
    perm = attribute(node, "perm")
    return tuple(reversed(range(known_rank(node.inputs[0])))) if perm is None else tuple(perm)


def _inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


def _is_identity(perm: tuple[int, ...]) -> bool:
    return perm == tuple(range(len(perm)))


# --- transposes ---------------------------------------------------------------------------------


def _transpose(op: Op, x: ir.Value) -> ir.Value:
    return op.Transpose(x)


def _transpose_twice(op: Op, x: ir.Value) -> ir.Value:
    return op.Transpose(op.Transpose(x, _shared=True))


@rule("movement/transpose-transpose", match=_transpose_twice, exact=Exact.BITWISE)
def transpose_transpose(op: Op, x: ir.Value) -> ir.Value:
    """P_q P_p x -> P_{p q} x, or x."""
    _not_constant(x)
    inner = order(producing(op.root.inputs[0]))
    perm = tuple(inner[axis] for axis in order(op.root))
    return x if _is_identity(perm) else op.Transpose(x, perm=perm)


@rule("movement/transpose-nothing", match=_transpose, exact=Exact.BITWISE)
def transpose_nothing(op: Op, x: ir.Value) -> ir.Value:
    """P_id x -> x."""
    require(_is_identity(order(op.root)), "the axes move", x)
    return x


@rule("movement/transpose-of-ones", match=_transpose, exact=Exact.BITWISE)
def transpose_of_ones(op: Op, x: ir.Value) -> ir.Value:
    """P x -> reshape(x) where the axes of other sizes than 1 keep their order."""
    _not_constant(x)
    dims = known_shape(x)
    perm = order(op.root)
    moved = [axis for axis in perm if dims[axis] != 1]
    require(moved == sorted(moved), "an axis of a size other than 1 moves", x)
    require(not _is_identity(perm), "nothing moves", x)
    return must_spell([dims[axis] for axis in perm], dims).apply(op, x)


def _above(op_type: str) -> Callable[[Op], Any]:
    return lambda op: op.Transpose(getattr(op, op_type)(..., _as="y"))


@rule(
    "movement/transpose-across",
    match=tuple(map(_above, _UNARY + _BROADCAST)),
    exact=Exact.BITWISE,
)
def transpose_across(op: Op, y: ir.Value) -> ir.Value:
    """P_q f(P_p x, c) -> f(x, P_q c) for elementwise f, any number of them deep."""
    found = _Pull(op, order(op.root))
    result = found.without(y, _DEEP)
    require(found.cancelled, "no transpose to cancel with", y)
    return result


class _Pull:
    """Rebuilds the elementwise operators that a transpose reads, without the transposes."""

    def __init__(self, op: Op, perm: tuple[int, ...]) -> None:
        self.op, self.perm, self.undone = op, perm, _inverse(perm)
        self.cancelled = 0

    def without(self, value: ir.Value, depth: int) -> ir.Value:
        """What the transpose of `value` by `perm` is made of; declines where one would remain."""
        node = producer(value, "Transpose")
        if node is not None and node.inputs[0] is not None:
            require(order(node) == self.undone, "the transposes do not cancel", value)
            self.cancelled += 1
            return node.inputs[0]
        if constant_tensor(value) is not None:
            return self._constant(value)
        if rank(value) == 0:
            return value
        unary, broadcast = producer(value, *_UNARY), producer(value, *_BROADCAST)
        known = unary or broadcast
        if known is None or depth == 0 or not single_use(value):
            decline("an operand is not transposed", value)
        return self._rebuilt(known, 1 if unary else len(known.inputs), depth - 1)

    def _rebuilt(self, node: ir.Node, moving: int, depth: int) -> ir.Value:
        moved = [self.without(v, depth) for v in node.inputs[:moving] if v is not None]
        make = getattr(self.op, node.op_type)
        return make(*moved, *node.inputs[moving:], **dict(node.attributes))

    def _constant(self, value: ir.Value) -> ir.Value:
        array = constant(value)
        if array is None or array.size == 1:
            return value
        full = [1] * (len(self.perm) - array.ndim) + list(array.shape)
        return self.op.Transpose(self.op.Reshape(value, full), perm=self.perm)


# --- reshapes -----------------------------------------------------------------------------------


def _one(op_type: str) -> Callable[[Op, ir.Value], Any]:
    return lambda op, x: getattr(op, op_type)(x, ...)


def _two(outer: str, inner: str) -> Callable[[Op, ir.Value], Any]:
    return lambda op, x: getattr(op, outer)(getattr(op, inner)(x, ..., _shared=True), ...)


def _around(outer: str, inner: str) -> Callable[[Op, ir.Value], Any]:
    return lambda op, x: getattr(op, outer)(op.Transpose(getattr(op, inner)(x, ...)), ...)


@rule("movement/reshape-nothing", match=tuple(map(_one, RESHAPES)), exact=Exact.BITWISE)
def reshape_nothing(op: Op, x: ir.Value) -> ir.Value:
    """Reshape(x) -> x where it has that shape already; the same for its relatives."""
    _not_constant(x)
    out = op.root.outputs[0]
    is_vector = rank(x) in (0, 1) and rank(x) == rank(out)
    require(is_vector or same_shape(x, out), "the shape changes", x)
    return x


@rule(
    "movement/reshape-reshape",
    match=tuple(_two(outer, inner) for outer in RESHAPES for inner in RESHAPES),
    exact=Exact.BITWISE,
)
def reshape_reshape(op: Op, x: ir.Value) -> ir.Value:
    """Reshape(Reshape(x, s), t) -> Reshape(x, t); the same for its relatives, or x."""
    _not_constant(x)
    root, out = op.root, op.root.outputs[0]
    if same_shape(x, out):
        return x
    require(op.opset >= 5, "the target is an attribute before opset 5", x)
    merged = _unit_axes.merge(op, x, (producing(root.inputs[0]), root))
    if merged is not None:
        return merged
    sizes = constant(root.inputs[1]) if root.op_type == "Reshape" else None
    given = [] if sizes is None else sizes.tolist()
    target = spell(shape(out), shape(x), given.index(-1) if -1 in given else None)
    if target is None and sizes is not None and 0 not in given:
        target = Target(tuple(given))
    if target is None:
        decline("the target depends on sizes that are known only at run time", x)
    return target.apply(op, x)


def _flatten(op: Op, x: ir.Value) -> ir.Value:
    return op.Flatten(x)


@rule("movement/flatten", match=_flatten, exact=Exact.BITWISE)
def flatten(op: Op, x: ir.Value) -> ir.Value:
    """Flatten(x) -> Reshape(x, target)."""
    _not_constant(x)
    return must_spell(shape(op.root.outputs[0]), shape(x)).apply(op, x)


def _squeeze(op: Op, x: ir.Value) -> ir.Value:
    return op.Squeeze(x)


@rule("movement/squeeze-all", match=_squeeze, exact=Exact.BITWISE)
def squeeze_all(op: Op, x: ir.Value) -> ir.Value:
    """Squeeze(x) -> Squeeze(x, the axes of size 1)."""
    _not_constant(x)
    require(op.opset >= 13, "axes are an attribute before opset 13", x)
    dims = static_shape(x)
    require(dims is not None, "an axis may or may not have size 1", x)
    return op.Squeeze(x, [axis for axis, d in enumerate(dims or ()) if d == 1])


def _squeeze_axes(op: Op, x: ir.Value, axes: ir.Value) -> ir.Value:
    return op.Squeeze(x, axes)


def _unsqueeze_axes(op: Op, x: ir.Value, axes: ir.Value) -> ir.Value:
    return op.Unsqueeze(x, axes)


@rule("movement/axes-from-front", match=(_squeeze_axes, _unsqueeze_axes), exact=Exact.BITWISE)
def axes_from_front(op: Op, x: ir.Value, axes: ir.Value) -> ir.Value:
    """Squeeze(x, [-1]) -> Squeeze(x, [r - 1]), axes in order; so for Unsqueeze."""
    given = const_ints(axes, "the list of axes")
    full = known_rank(x if op.root.op_type == "Squeeze" else op.root.outputs[0])
    wanted = sorted(axis % full for axis in given)
    require(list(given) != wanted, "they are named so already", axes)
    return getattr(op, op.root.op_type)(x, wanted)


@rule(
    "movement/reshape-around-transpose",
    match=tuple(_around(outer, inner) for outer in RESHAPES for inner in RESHAPES),
    exact=Exact.BITWISE,
)
def reshape_around_transpose(op: Op, x: ir.Value) -> ir.Value:
    """Reshape(P(Reshape(x, s)), t) -> P'(Reshape(x, u)) where t splits axes and joins none."""
    _not_constant(x)
    middle = producing(op.root.inputs[0])
    perm, after = order(middle), known_shape(op.root.outputs[0])
    groups = _split_axes(known_shape(middle.outputs[0]), after)
    if groups is None:
        decline("the outer reshape joins axes that the transpose brings together", x)
    moved = [k for i in _inverse(perm) for k in groups[i]]
    dims = tuple(after[k] for k in moved)
    made = x if shape(x) == dims else must_spell(dims, shape(x)).apply(op, x)
    return _permuted(op, made, _inverse(tuple(moved)))


def _permuted(op: Op, x: ir.Value, perm: tuple[int, ...]) -> ir.Value:
    return x if _is_identity(perm) else op.Transpose(x, perm=perm)


def _split_axes(
    before: tuple[int | str, ...], after: tuple[int | str, ...]
) -> list[list[int]] | None:
    """For each axis of `before` the axes of `after` that it is split into; None if some join.

    Axes of size 1 come and go: one that goes has no axes, one that comes belongs to a neighbour.
    """
    groups: list[list[int]] = []
    k = 0
    for d in before:
        start = k
        while elements(after[start:k]) != d:
            k += 1
            if k > len(after):
                return None
        groups.append(list(range(start, k)))
    rest = range(k, len(after))
    if 0 in before or any(after[i] != 1 for i in rest):
        return None
    if groups:
        groups[-1] += rest
    return groups


RULES = (
    transpose_nothing,
    transpose_transpose,
    transpose_of_ones,
    transpose_across,
    reshape_nothing,
    reshape_reshape,
    reshape_around_transpose,
    flatten,
    squeeze_all,
    axes_from_front,
)
