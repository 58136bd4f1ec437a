"""Sign-norms: norms and other positive factors before a comparison with 0 go.

Algebra     1[x / |x| > 0] = 1[x > 0];   sign(s x) = sign(x) for s > 0
Source      ShiftAddViT (2306.06446), whose binary attention divides queries by their norms first
Exactness   reassociated: equal over the reals; a quotient that underflows to 0 was not above it
Cost        never adds a node; a norm that nothing else reads goes, with a pass over all numbers
"""

from collections.abc import Callable

import onnx_ir as ir

from addax.ir import Exact, Op, constant, producer, require, rule, same_shape, scalar, single_use
from addax.ir.rule import EveryNode
from addax.passes._family import Phase

PHASE = Phase.FOLD

_COMPARISONS = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Sign"})
_MOVES = ("Reshape", "Squeeze", "Transpose", "Unsqueeze")
_FAR = 12  # nodes looked at behind a factor
_AT_LEAST_ZERO = ("Abs", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Relu", "Softmax")
_POSITIVE = ("Exp", "Sigmoid", "Softplus")
_AS_WHAT_THEY_READ = (
    "Expand", "Identity", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", *_MOVES
)  # fmt: skip


def _scaled(value: ir.Value | None) -> tuple[ir.Node | None, list[ir.Node]]:
    """The quotient or product that `value` is a rearrangement of, and what rearranges it."""
    moves: list[ir.Node] = []
    node = producer(value, "Div", "Mul", *_MOVES)
    while node is not None and node.op_type in _MOVES:
        if not single_use(node.outputs[0]):
            return None, []
        moves.insert(0, node)
        node = producer(node.inputs[0], "Div", "Mul", *_MOVES)
    return node, moves


def _lowest(value: ir.Value | None, far: int = _FAR) -> int | None:
    """1 if all numbers are above 0, 0 if none is below it, None if nobody knows."""
    array = constant(value)
    if array is not None:
        return None if not (array >= 0).all() else int((array > 0).all())
    node = None if value is None or not far else value.producer()
    if node is None or node.domain:
        return None
    if node.op_type in _POSITIVE:
        return 1
    known = [_lowest(v, far - 1) for v in node.inputs if v is not None]
    if node.op_type in _AS_WHAT_THEY_READ:
        return known[0]
    combine = _COMBINED.get(node.op_type)
    return None if combine is None else combine(node, known)


def _of_product(node: ir.Node, known: list[int | None]) -> int | None:
    if node.inputs[0] is node.inputs[1]:
        return known[0] or 0
    return _of_all(min, known)


def _of_clip(node: ir.Node, known: list[int | None]) -> int | None:
    low = known[1] if len(node.inputs) > 1 and node.inputs[1] is not None else None
    has_top = len(node.inputs) > 2 and node.inputs[2] is not None
    return 0 if low is not None and has_top else low


def _of_all(choose: Callable[..., int], known: list[int | None]) -> int | None:
    return None if None in known else choose(known)


_COMBINED: dict[str, Callable[[ir.Node, list[int | None]], int | None]] = {
    "Add": lambda _, known: _of_all(max, known),
    "Clip": _of_clip,
    "Max": lambda _, known: max((k for k in known if k is not None), default=None),
    "Mul": _of_product,
    "Sqrt": lambda _, known: known[0] or 0,
    **dict.fromkeys(_AT_LEAST_ZERO, lambda _node, _known: 0),
}


def _is_scaled(node: ir.Node) -> bool:
    return _scaled(node.inputs[0])[0] is not None


@rule(
    "sign-norms/positive-factor",
    match=EveryNode(_is_scaled, _COMPARISONS),
    exact=Exact.REASSOCIATED,
)
def positive_factor(op: Op) -> ir.Value:
    """s x > 0, x / s > 0 -> x > 0 for s > 0; also >=, <, <= and sign, and through transposes."""
    root = op.root
    require(
        root.op_type == "Sign" or scalar(root.inputs[1]) == 0, "the threshold is not 0",
        root.inputs[-1],
    )  # fmt: skip
    node, moves = _scaled(root.inputs[0])
    x, factor = node.inputs if node is not None else (None, None)
    if node is not None and node.op_type == "Mul" and _lowest(factor) is None:
        x, factor = factor, x
    lowest = _lowest(factor)
    require(lowest is not None, "the factor may be negative", factor)
    is_strict = root.op_type in ("Greater", "Less")
    # 0 / 0 is not a number, and that is neither above nor below 0, as 0 is not.
    require(
        lowest == 1 or (is_strict and node is not None and node.op_type == "Div"),
        "the factor may be 0", factor,
    )  # fmt: skip
    out = None if node is None else node.outputs[0]
    require(same_shape(x, out), "the factor may have more dimensions", x, factor)
    value = x
    for move in moves:
        value = getattr(op, move.op_type)(value, *move.inputs[1:], **dict(move.attributes))
    made: ir.Value = getattr(op, root.op_type)(value, *root.inputs[1:], **dict(root.attributes))
    return made


RULES = (positive_factor,)
