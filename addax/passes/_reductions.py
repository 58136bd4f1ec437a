"""Which axes a reduction takes: attributes in old opsets, a second input in newer ones."""

import onnx_ir as ir

from addax.ir import attribute, const_ints, decline, known_rank, producing


def trailing_axes(reduced: ir.Value) -> int:
    """How many last axes the node behind `reduced` reduces; declines if they are not the last.

    Reads `axes` wherever the opset has it. Axes of size 1 are kept (`keepdims`), or it declines.
    """
    node = producing(reduced)
    if attribute(node, "keepdims", 1) != 1:
        decline("the reduction drops its axes", reduced)
    axes = reduced_axes(node)
    rank = known_rank(node.inputs[0])
    count = len(axes)
    if sorted(axis % rank for axis in axes) != list(range(rank - count, rank)):
        decline("the reduced axes are not the last ones", reduced)
    return count


def reduced_axes(node: ir.Node) -> tuple[int, ...]:
    """The axes of a reduction as it names them; every axis if it names none."""
    named = node.inputs[1] if len(node.inputs) > 1 else None
    if named is not None:
        axes = const_ints(named, "the reduced axes")
    else:
        axes = tuple(attribute(node, "axes", ()))
    if not axes and attribute(node, "noop_with_empty_axes", 0) == 0:
        axes = tuple(range(known_rank(node.inputs[0])))
    return axes
