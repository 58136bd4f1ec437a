"""Axes of size 1: what a chain of Squeeze and Unsqueeze inserts and removes in the end.

Squeeze and Unsqueeze keep the other axes in their order, so a chain of them is known by how many
ones it inserts and how many it removes in each gap between the axes that it keeps.
"""

from collections.abc import Iterable

import onnx_ir as ir

from addax.ir import Op, constant, rank


def named_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes that a Squeeze or Unsqueeze names, as it does; None if they are not constant."""
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if axes is None else tuple(int(axis) for axis in axes.reshape(-1))


def merge(op: Op, x: ir.Value, chain: Iterable[ir.Node]) -> ir.Value | None:
    """The Squeeze or Unsqueeze that does what `chain` does to `x`, or `x`; None if there is none.

    None as well where an operator of the chain is another one, or its axes are not known.
    """
    known = rank(x)
    if known is None:
        return None
    state = _after(list(range(known)), chain)
    if state is None:
        return None
    kept = [axis for axis in state if axis is not None]
    inserted: list[int] = []
    removed: list[int] = []
    position = 0
    for low, high in zip([-1, *kept], [*kept, known], strict=True):
        gone = list(range(low + 1, high))
        end = position
        while end < len(state) and state[end] is None:
            end += 1
        new = list(range(position, end))
        common = min(len(gone), len(new))
        removed += gone[common:]
        inserted += new[common:]
        position = end + 1
    if removed and inserted:
        return None
    if not removed and not inserted:
        return x
    merged: ir.Value = op.Squeeze(x, removed) if removed else op.Unsqueeze(x, inserted)
    return merged


def _after(state: list[int | None], chain: Iterable[ir.Node]) -> list[int | None] | None:
    """The axes at the end of the chain: those of `x` by number, None for inserted ones."""
    for node in chain:
        axes = named_axes(node)
        if axes is None or node.op_type not in ("Squeeze", "Unsqueeze"):
            return None
        if node.op_type == "Squeeze":
            gone = {axis % len(state) for axis in axes}
            state = [axis for i, axis in enumerate(state) if i not in gone]
        else:
            full = len(state) + len(axes)
            new = {axis % full for axis in axes}
            old = iter(state)
            state = [None if i in new else next(old) for i in range(full)]
    return state
