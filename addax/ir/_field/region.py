"""The part of a graph that a rewrite is about: the replaced node, up to what both sides read."""

from collections.abc import Iterable

import onnx_ir as ir

from addax.ir.builder import Replacement

_MOST_NODES = 256


def nodes_replaced(
    replacement: Replacement, matched: Iterable[ir.Node], *, depth: int
) -> list[ir.Node]:
    """The nodes to evaluate for the old side, in order of evaluation.

    Args:
        replacement: The rewrite; nothing of it is changed.
        matched: The nodes that the pattern covers.
        depth: How many nodes to go upstream from the replaced node and from what the replacement
            reads; rules may look further than their pattern, and read values beside it.
    """
    ends = _read(replacement)
    chosen = dict.fromkeys(matched) | {replacement.root: None}
    layer = [*chosen, *(v.producer() for v in ends)] if depth else []
    for _ in range(depth):
        layer = [node for node in layer if node is not None and len(chosen) < _MOST_NODES]
        chosen |= dict.fromkeys(node for node in layer if node is not None)
        above = [v.producer() for n in layer if n is not None for v in n.inputs if v is not None]
        layer = [node for node in dict.fromkeys(above) if node not in chosen]
    inputs = [v for node in chosen for v in node.inputs if v is not None]
    for value in [*inputs, *ends]:
        _add_shape_arithmetic(value, chosen)
    return _ordered(chosen)


def _read(replacement: Replacement) -> list[ir.Value]:
    made = {v for node in replacement.nodes for v in node.outputs}
    readers = [*replacement.nodes, *(n for body in replacement.bodies for n in body)]
    values = [v for node in readers for v in node.inputs]
    values += replacement.outputs
    return [v for v in values if v is not None and v not in made]


def _add_shape_arithmetic(value: ir.Value, chosen: dict[ir.Node, None]) -> None:
    """Integers are concrete, so what computes them belongs to the region, back to Shape."""
    waiting = [value]
    while waiting and len(chosen) < _MOST_NODES:
        value = waiting.pop()
        source = value.producer()
        if source is None or source in chosen or not _is_concrete(value):
            continue
        if source.op_type not in {"Shape", "Size"} and not all(
            v is None or _is_concrete(v) for v in source.inputs
        ):
            continue
        chosen[source] = None
        if source.op_type not in {"Shape", "Size"}:
            waiting += [v for v in source.inputs if v is not None]


def _is_concrete(value: ir.Value) -> bool:
    return value.dtype is not None and (value.dtype.is_integer() or value.dtype == ir.DataType.BOOL)


def _ordered(chosen: dict[ir.Node, None]) -> list[ir.Node]:
    ordered: dict[ir.Node, None] = {}
    waiting = [(node, False) for node in reversed(list(chosen))]
    while waiting:
        node, ready = waiting.pop()
        if node in ordered:
            continue
        if ready:
            ordered[node] = None
            continue
        waiting.append((node, True))
        sources = (v.producer() for v in node.inputs if v is not None)
        waiting += [(s, False) for s in sources if s is not None and s in chosen]
    return [node for node in ordered if node.op_type != "Constant"]
