"""Zero pads whose border is filled with constants afterwards, as DBB's BNAndPad is exported.

The border of Pad(x) is overwritten, by ScatterND between transposes, with what a normalization
makes of zero: Pad(x) + T, where T is zero inside.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir import attribute, const_ints, producer, static_shape
from addax.ir.affine import Tensor
from addax.ir.query import constant

_LONGEST = 16  # nodes between a pad and the last that fills its border


def filled_border(value: ir.Value) -> tuple[ir.Node, Tensor] | None:
    """The Pad behind a value and T, if the value is Pad(x) + T with T on the border alone."""
    chain = _chain(value)
    pad = None if not chain else producer(chain[-1].inputs[0], "Pad")
    dims = None if pad is None else static_shape(pad.outputs[0])
    if pad is None or dims is None or not any(n.op_type == "ScatterND" for n in chain):
        return None
    order = [*reversed(chain)]
    places = np.arange(1.0, 1.0 + np.prod(dims)).reshape(dims)
    reached = _replayed(places, order, np.zeros_like)
    filled = _replayed(np.zeros(dims), order, lambda updates: updates)
    if reached.shape != dims or not np.all((reached == places) | (reached == 0)):
        return None
    count, pads = len(dims), const_ints(pad.inputs[1])
    inner = tuple(slice(pads[i], dims[i] - pads[count + i]) for i in range(count))
    if not np.all(reached[inner] == places[inner]) or not np.all(filled == filled[:1]):
        return None
    return pad, Tensor((1, *dims[1:]), lambda op: _built(op, order, dims))


def inside_borders(graph: ir.Graph) -> set[ir.Node]:
    """The nodes that fill borders, but for the last of each chain."""
    found: set[ir.Node] = set()
    for node in graph:
        if producer(node.outputs[0], "Transpose", "ScatterND") is not None and (
            filled_border(node.outputs[0]) is not None
        ):
            found.update(_chain(node.outputs[0])[1:])
    return found


def _chain(value: ir.Value) -> list[ir.Node]:
    """The transposes and constant scatters that make a value, the last first."""
    chain: list[ir.Node] = []
    node = producer(value, "Transpose", "ScatterND")
    while node is not None and len(chain) < _LONGEST:
        if node.op_type == "ScatterND" and (
            any(constant(v) is None for v in node.inputs[1:])
            or attribute(node, "reduction", "none") != "none"
        ):
            return []
        if node.op_type == "Transpose" and attribute(node, "perm") is None:
            return []
        chain.append(node)
        node = producer(node.inputs[0], "Transpose", "ScatterND")
    return chain


def _replayed(x: np.ndarray, order: Sequence[ir.Node], update: Any) -> np.ndarray:
    """What the chain makes of an array; `update` says what is scattered."""
    for node in order:
        if node.op_type == "Transpose":
            x = x.transpose(attribute(node, "perm"))
        else:
            indices, updates = constant(node.inputs[1]), constant(node.inputs[2])
            x = x.copy()
            if indices is not None and updates is not None:
                x[tuple(np.moveaxis(indices, -1, 0))] = update(updates.astype(np.float64))
    return x


def _built(op: Any, order: Sequence[ir.Node], dims: tuple[int, ...]) -> Any:
    """T by the operators of the chain, so that where it comes from is known."""
    first = next(node for node in order if node.op_type == "ScatterND")
    x = op.Expand(op.CastLike(0.0, first.inputs[2]), list(dims))
    for node in order:
        x = getattr(op, node.op_type)(x, *node.inputs[1:], **dict(node.attributes))
    return op.Slice(x, [0], [1], [0])
