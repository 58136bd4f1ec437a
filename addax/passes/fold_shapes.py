"""Fold shapes: what is computed from the sizes of tensors, known or read where it is cheapest.

Algebra     shape(x) = [d0, d1, ...] where the sizes are numbers; a size that has a name is read
            from the input of the network that has an axis of this name; shape(f(x)) = shape(x)
            for elementwise f; reshape(x, t) and expand(x, t) with constant t wherever the shape
            of the result can be spelt so
Source      the ONNX operators' definitions; equal names are equal sizes
Exactness   bitwise
Cost        what reads a size from an input keeps nothing else alive; never more work

A Reshape target gets no -1 beside another size that is known only at run time: if that were
zero, -1 would be ambiguous where the network's own target was not.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    constant,
    decline,
    known_rank,
    known_shape,
    producer,
    producing,
    rank,
    require,
    rule,
    same_shape,
    shape,
)
from addax.ir.query import constant_tensor
from addax.ir.rule import EveryNode
from addax.passes import _cuts
from addax.passes._family import Phase
from addax.passes._reshape_target import must_spell

PHASE = Phase.CANONICAL

_RANGE_OPSET = 15  # from here on Shape takes `start` and `end`
_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)
_ARITHMETIC = frozenset(
    {
        "Abs", "Add", "And", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand",
        "Gather", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul", "Neg",
        "Not", "Or", "Range", "ReduceProd", "ReduceSum", "Reshape", "Shape", "Size", "Slice",
        "Split", "Squeeze", "Sub", "Unsqueeze", "Where",
    }
)  # fmt: skip
_SAME_SHAPE = (
    "Abs", "Add", "Cast", "Clip", "Div", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid",
    "HardSwish", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "Mish", "Mul", "Neg",
    "Pow", "Relu", "Selu", "Sigmoid", "Softmax", "Softplus", "Sqrt", "Sub", "Tanh", "Where",
)  # fmt: skip


def _is_sizes(node: ir.Node) -> bool:
    """Whether a node computes what may be a size or a list of sizes."""
    value = node.outputs[0]
    is_list = value.shape is not None and value.shape.rank() <= 1
    return value.dtype in _INTEGERS and is_list and len(node.outputs) == 1


def _may_be_known(node: ir.Node) -> bool:
    if node.op_type == "Shape" and rank(node.inputs[0]) is not None:
        dims = shape(node.inputs[0]) or ()
        return all(isinstance(dims[axis], int) for axis in _read_axes(node))
    return _is_sizes(node)


def _may_be_elsewhere(node: ir.Node) -> bool:
    source = node.inputs[0] if node.op_type == "Shape" else None
    return (source is None or not source.is_graph_input()) and _is_sizes(node)


def _is_list_of_sizes(node: ir.Node) -> bool:
    dims = node.outputs[0].shape
    return dims is not None and dims.rank() == 1 and dims[0] != 1 and _is_sizes(node)


def _contents(op: Op) -> tuple[int | str | None, ...]:
    """What the root computes, as far as it is known."""
    found = op.contents(op.root.outputs[0])
    if found is None:
        decline("nothing is known of the elements")
    return found


@rule("fold-shapes/known", match=EveryNode(_may_be_known, _ARITHMETIC), exact=Exact.BITWISE)
def known(op: Op) -> ir.Value:
    """Shape(x)[i], Size(x), ... -> the numbers."""
    out = op.root.outputs[0]
    found = _contents(op)
    require(all(isinstance(d, int) for d in found), "a size is known only at run time")
    dtype = np.int64 if out.dtype is None else out.dtype.numpy()
    return op.initializer(np.asarray(found, dtype).reshape((-1,) * (rank(out) or 0)), "size")


# --- where a size is read -----------------------------------------------------------------------


@rule(
    "fold-shapes/read-from-input",
    match=EveryNode(_may_be_elsewhere, _ARITHMETIC),
    exact=Exact.BITWISE,
)
def read_from_input(op: Op) -> ir.Value:
    """Shape(f(x))[i] -> Shape(x, start=j, end=j+1) for an input x whose axis j has that size."""
    root, out = op.root, op.root.outputs[0]
    require(op.opset >= _RANGE_OPSET, "Shape has no start before opset 15")
    require(out.dtype == ir.DataType.INT64, "the sizes have been cast", out)
    found = _contents(op)
    require(not all(isinstance(d, int) for d in found), "all sizes are numbers")
    value, start = _source(op, found)
    axes = range(start, start + len(found))
    reading = producer(root.inputs[0], "Shape") if root.op_type == "Squeeze" else root
    is_there = reading is not None and reading.op_type == "Shape" and reading.inputs[0] is value
    require(
        not is_there or reading is None or _read_axes(reading) != axes, "it is read there already"
    )
    sizes = _read(op, value, axes)
    return op.Squeeze(sizes, [0]) if rank(out) == 0 else sizes


def _source(op: Op, found: Sequence[int | str | None]) -> tuple[ir.Value, int]:
    """The input of the network that has these sizes on axes side by side, and the first axis."""
    position, name = next((i, d) for i, d in enumerate(found) if not isinstance(d, int))
    source = None if name is None else op.source(name)
    if source is None:
        decline("no input has an axis of this size")
    value, axis = source
    start = axis - position
    # Before the first axis, the slice is too short.
    beside = (shape(value) or ())[start : start + len(found)]
    require(beside == tuple(found), "no input has these sizes side by side", value)
    return value, start


def _read(op: Op, value: ir.Value, axes: range) -> ir.Value:
    """Shape(value, start, end) for these axes, in one spelling."""
    end = axes.stop if axes.stop < len(value.shape or ()) else None
    return op.Shape(value, start=axes.start or None, end=end)


def _read_axes(node: ir.Node) -> range:
    """The axes whose sizes a Shape gives."""
    full = range(known_rank(node.inputs[0]))
    return full[attribute(node, "start", 0) : attribute(node, "end")]


@rule(
    "fold-shapes/assemble",
    match=EveryNode(_is_list_of_sizes, _ARITHMETIC - {"Concat", "Shape"}),
    exact=Exact.BITWISE,
)
def assemble(op: Op) -> ir.Value:
    """Where(t == -1, s, t), ... -> Concat of numbers and of sizes of inputs."""
    out = op.root.outputs[0]
    require(op.opset >= _RANGE_OPSET, "Shape has no start before opset 15")
    require(out.dtype == ir.DataType.INT64, "the sizes have been cast", out)
    found = _contents(op)
    require(not all(isinstance(d, int) for d in found), "all sizes are numbers")
    pieces: list[Any] = []
    for is_number, run in groupby(found, lambda d: isinstance(d, int)):
        if is_number:
            pieces.append(list(run))
        else:
            pieces += [_read_one(op, name) for name in run]
    return op.Concat(*pieces, axis=0)


def _read_one(op: Op, name: int | str | None) -> ir.Value:
    value, axis = _source(op, (name,))
    return _read(op, value, range(axis, axis + 1))


def _slice_of_shape(op: Op, x: ir.Value) -> ir.Value:
    return op.Slice(op.Shape(x, _shared=True), ...)


@rule("fold-shapes/slice-of-shape", match=_slice_of_shape, exact=Exact.BITWISE)
def slice_of_shape(op: Op, x: ir.Value) -> ir.Value:
    """Shape(x)[a:b] -> Shape(x, start=a, end=b)."""
    require(op.opset >= _RANGE_OPSET, "Shape has no start before opset 15", x)
    cuts = _cuts.read(op.root)
    if cuts is None:
        decline("the bounds are known only at run time", x)
    axes = _read_axes(producing(op.root.inputs[0]))
    (cut,) = cuts.values()
    taken = cut.of(len(axes))
    require(taken.step == 1 and taken, "the sizes are not side by side", x)
    return _read(op, x, axes[taken.start : taken.stop])


def _shape_of(op_type: str) -> Callable[[Op], Any]:
    return lambda op: op.Shape(getattr(op, op_type)(..., _shared=True))


@rule("fold-shapes/shape-of-same", match=tuple(map(_shape_of, _SAME_SHAPE)), exact=Exact.BITWISE)
def shape_of_same(op: Op) -> ir.Value:
    """Shape(f(... x)) -> Shape(x) where each f keeps the shape, so that nothing waits for it."""
    made = op.root.inputs[0]
    dims = shape(made) or (None,)
    in_reach = op.opset >= _RANGE_OPSET and all(
        isinstance(d, int) or (d is not None and op.source(d) is not None) for d in dims
    )
    require(not in_reach, "its sizes can be read from an input", made)
    source = _alike_operand(made)
    require(source is not None, "no operand has the shape of the result", made)
    while (above := _alike_operand(source)) is not None:
        source = above
    return op.Shape(source, **dict(op.root.attributes))


def _alike_operand(value: ir.Value | None) -> ir.Value | None:
    """What an operator that keeps shapes made `value` of, if it has the same shape."""
    node = producer(value, *_SAME_SHAPE)
    alike = (v for v in (node.inputs if node else ()) if same_shape(v, value))
    return next((v for v in alike if constant_tensor(v) is None), None)


# --- targets ------------------------------------------------------------------------------------


def _reshape(op: Op, x: ir.Value, target: ir.Value) -> ir.Value:
    return op.Reshape(x, target)


@rule("fold-shapes/reshape-target", match=_reshape, exact=Exact.BITWISE)
def reshape_target(op: Op, x: ir.Value, target: ir.Value) -> ir.Value:
    """Reshape(x, t) -> Reshape(x, the one spelling of the shape of the result)."""
    require(constant_tensor(x) is None, "constants are reshaped when they are folded", x)
    sizes = op.contents(target) or ()
    free = sizes.index(-1) if -1 in sizes else None
    wanted = must_spell(shape(op.root.outputs[0]), shape(x), free)
    given = constant(target)
    is_same = given is not None and given.tolist() == list(wanted.sizes)
    literal = bool(attribute(op.root, "allowzero", 0))
    require(not is_same or literal != wanted.allow_zero, "it is spelt so already", target)
    return wanted.apply(op, x)


def _expand(op: Op, x: ir.Value, target: ir.Value) -> ir.Value:
    return op.Expand(x, target)


@rule("fold-shapes/expand-target", match=_expand, exact=Exact.BITWISE)
def expand_target(op: Op, x: ir.Value, target: ir.Value) -> ir.Value:
    """Expand(x, t) -> Expand(x, 1 where the axis stays and its size elsewhere)."""
    require(constant_tensor(x) is None, "constants are repeated when they are folded", x)
    before, after = known_shape(x), known_shape(op.root.outputs[0])
    before = (1,) * (len(after) - len(before)) + before
    wanted = [1 if a == b else b for a, b in zip(before, after, strict=True)]
    require(all(isinstance(d, int) for d in wanted), "a size is known only at run time", x)
    given = constant(target)
    require(given is None or given.tolist() != wanted, "it is spelt so already", target)
    return op.Expand(x, wanted)


RULES = (
    known,
    read_from_input,
    assemble,
    slice_of_shape,
    shape_of_same,
    reshape_target,
    expand_target,
)
