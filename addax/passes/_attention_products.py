"""The two products of attention where no weights are: scores Q K^T, and softmax times V."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from addax.ir import attribute, producer, rank, scalar, single_use
from addax.ir.dialect import DOMAIN
from addax.ir.query import constant_tensor

SCORES, VALUES, CODED = "scores", "values", "coded"
_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")
# What scores pass through on their way to the softmax: scales, masks, biases of positions.
_ON_THE_WAY = ("Mul", "Div", "Add", "Sub", "Where", "Max", "Min", "Clip", "Cast", *_MOVES)
_DEEP = 6


@dataclass(frozen=True, eq=False)
class Product:
    """A node that multiplies activations inside attention.

    Attributes:
        root: The node.
        kind: `SCORES` for Q K^T, `VALUES` for softmax times V, `CODED` for the V of a
            LogCodeAttention.
        left, right: What it multiplies; of `CODED`, V twice.
    """

    root: ir.Node
    kind: str
    left: ir.Value
    right: ir.Value


def softmax_of(value: ir.Value | None) -> ir.Node | None:
    """The softmax that gives `value`, also as Where(IsNaN(p), 0, p), which masks are exported as.

    A row that sees nothing is NaN in it, and 0 behind it.
    """
    chosen = producer(value, "Where")
    if chosen is None or chosen.domain or value is None or not single_use(value):
        return producer(value, "Softmax")
    unknown, nothing, known = chosen.inputs
    test = producer(unknown, "IsNaN")
    if test is None or known is None or test.inputs[0] is not known or scalar(nothing) != 0:
        return None
    if known.is_graph_output() or set(known.consumers()) != {test, chosen}:
        return None
    return producer(known, "Softmax")


def find_products(graph: ir.Graph) -> Iterator[Product]:
    """All of them in order."""
    for node in graph:
        found = _read(node)
        if found is not None:
            yield found


def _read(node: ir.Node) -> Product | None:
    if node.domain == DOMAIN and node.op_type == "LogCodeAttention" and node.inputs[2] is not None:
        return Product(node, CODED, node.inputs[2], node.inputs[2])
    if node.domain or node.op_type != "MatMul":
        return None
    left, right = node.inputs
    if left is None or right is None or any(constant_tensor(v) is not None for v in (left, right)):
        return None
    softmax = softmax_of(left)
    if softmax is not None:
        return Product(node, VALUES, left, right) if _is_over_last(softmax, left) else None
    reaches = _reaches_softmax(node.outputs[0], _DEEP)
    return Product(node, SCORES, left, right) if reaches else None


def _is_over_last(softmax: ir.Node, value: ir.Value) -> bool:
    axis, dims = attribute(softmax, "axis", -1), rank(value)
    return axis == -1 or (dims is not None and axis == dims - 1)


def _reaches_softmax(value: ir.Value, steps: int) -> bool:
    for node in value.consumers():
        if node.op_type == "Softmax" and not node.domain:
            return True
        if node.domain == DOMAIN and node.op_type == "LogCodeAttention":
            return node.inputs[0] is value
        passes = not node.domain and node.op_type in _ON_THE_WAY
        if passes and steps and _reaches_softmax(node.outputs[0], steps - 1):
            return True
    return False


def find_source(value: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
    """What `value` is a moved form of, and the moves, first to last, that nothing else reads.

    Bytes are moved in a quarter of the time of floats, so integers are made before the moves.
    """
    moves: list[ir.Node] = []
    while single_use(value):
        node = producer(value, *_MOVES)
        if node is None or node.inputs[0] is None:
            break
        moves.insert(0, node)
        value = node.inputs[0]
    return value, moves
