"""Broadcast: repetition that says nothing, says it twice, or is implied by what reads it.

Algebra     expand_t(expand_s(x)) = expand_{max(s, t)}(x);  expand(x) = x where the shapes agree;
            f(expand(x), y) = f(x, y) for elementwise f where y has the shape of the result;
            tile_r(x) = expand_r(x) where r repeats only axes of size 1
Source      the ONNX operators' definitions
Exactness   bitwise: elements are repeated, none is computed
Cost        never adds a node; repeats fewer elements
"""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from addax.ir import Exact, Op, const_ints, require, rule, same_shape, shape
from addax.ir.query import constant_tensor
from addax.passes._family import Phase

PHASE = Phase.CANONICAL

_TWO = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
    "Mean", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Xor",
)  # fmt: skip


def _not_constant(x: ir.Value) -> None:
    """Leave repetition of constants to `cleanup`, which knows how large they may become."""
    require(constant_tensor(x) is None, "constants are repeated when they are folded", x)


def _expand(op: Op, x: ir.Value, target: ir.Value) -> ir.Value:
    return op.Expand(x, target)


@rule("broadcast/expand-nothing", match=_expand, exact=Exact.BITWISE)
def expand_nothing(op: Op, x: ir.Value, target: ir.Value) -> ir.Value:
    """Expand(x, t) -> x where x has that shape already."""
    require(same_shape(x, op.root.outputs[0]), "the shape changes", x, target)
    return x


def _expand_twice(op: Op, x: ir.Value, inner: ir.Value, outer: ir.Value) -> ir.Value:
    return op.Expand(op.Expand(x, inner, _shared=True), outer)


@rule("broadcast/expand-expand", match=_expand_twice, exact=Exact.BITWISE)
def expand_expand(op: Op, x: ir.Value, inner: ir.Value, outer: ir.Value) -> ir.Value:
    """Expand(Expand(x, s), t) -> Expand(x, the larger of s and t on each axis)."""
    _not_constant(x)
    first, second = const_ints(inner, "the inner target"), const_ints(outer, "the outer target")
    length = max(len(first), len(second))
    aligned = zip(_aligned(first, length), _aligned(second, length), strict=True)
    # A target of 1 keeps the axis. So does -1, as runtimes and exporters read it.
    return op.Expand(x, [b if a in (1, -1) else a for a, b in aligned])


def _aligned(target: tuple[int, ...], length: int) -> tuple[int, ...]:
    return (1,) * (length - len(target)) + target


def _left(op_type: str) -> Callable[[Op, ir.Value, ir.Value], Any]:
    return lambda op, x, y: getattr(op, op_type)(op.Expand(x, ..., _shared=True), y)


def _right(op_type: str) -> Callable[[Op, ir.Value, ir.Value], Any]:
    return lambda op, x, y: getattr(op, op_type)(y, op.Expand(x, ..., _shared=True))


@rule(
    "broadcast/expand-implied",
    match=tuple(side(op_type) for op_type in _TWO for side in (_left, _right)),
    exact=Exact.BITWISE,
)
def expand_implied(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    """f(Expand(x), y) -> f(x, y) where y has the shape of the result; so for f(y, Expand(x))."""
    root = op.root
    require(root.inputs[0] is not root.inputs[1], "both operands are the expanded value", y)
    require(same_shape(y, root.outputs[0]), "the other operand may not have the full shape", y)
    inputs = [y if value is y else x for value in root.inputs]
    return getattr(op, root.op_type)(*inputs, **dict(root.attributes))


def _tile(op: Op, x: ir.Value, repeats: ir.Value) -> ir.Value:
    return op.Tile(x, repeats)


@rule("broadcast/tile-nothing", match=_tile, exact=Exact.BITWISE)
def tile_nothing(op: Op, x: ir.Value, repeats: ir.Value) -> ir.Value:
    """Tile(x, [1, ...]) -> x."""
    times = op.contents(repeats)
    require(times is not None and all(n == 1 for n in times), "something is repeated", repeats)
    return x


@rule("broadcast/tile-to-expand", match=_tile, exact=Exact.BITWISE)
def tile_to_expand(op: Op, x: ir.Value, repeats: ir.Value) -> ir.Value:
    """Tile(x, r) -> Expand(x, r) where every axis that r repeats has size 1."""
    _not_constant(x)
    pairs = zip(op.contents(repeats) or (), shape(x) or (), strict=False)
    repeated = [d for n, d in pairs if n != 1]
    require(
        repeated and all(d == 1 for d in repeated),
        "an axis of a size other than 1 may be repeated", x, repeats,
    )  # fmt: skip
    return op.Expand(x, repeats)


RULES = (expand_nothing, expand_expand, expand_implied, tile_nothing, tile_to_expand)
