"""Canonicalize attributes: one way to say an axis, a padding, or nothing special.

Algebra     softmax_{r-1} = softmax_{-1} for rank r, and so for norms and reductions, whose axes
            are counted from the end; the axes of what moves data are counted from the front;
            SAME_UPPER pads p = max((ceil(n / s) - 1) s + (k - 1) d + 1 - n, 0), half of it rounded
            down before, the rest after; SAME_LOWER the other way round
Source      the ONNX operators' definitions
Exactness   bitwise
Cost        none; equal nodes become equal texts, which is how common subexpressions are found
"""

import functools
from collections.abc import Callable
from typing import Any

import onnx
import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    const_ints,
    decline,
    known_rank,
    require,
    rule,
    shape,
)
from addax.ir.pattern import default_attribute
from addax.ir.query import constant_tensor
from addax.ir.rule import EveryNode
from addax.passes._family import Phase

PHASE = Phase.CANONICAL

_LAST = ("Softmax", "LogSoftmax", "Hardmax", "LayerNormalization", "RMSNormalization")
_FRONT = (
    "ArgMax", "ArgMin", "Concat", "Gather", "GatherElements", "OneHot", "ScatterElements", "Split",
    "TopK",
)  # fmt: skip
_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
_WINDOWS = frozenset({"AveragePool", "Conv", "ConvTranspose", "LpPool", "MaxPool"})
_PLAIN = {"strides": 1, "dilations": 1, "pads": 0, "output_padding": 0}
_PADDED = ("Conv", "MaxPool", "AveragePool", "LpPool")


def _any(op_type: str) -> Callable[[Op], Any]:
    return lambda op: getattr(op, op_type)(...)


def _again(op: Op, **changed: Any) -> tuple[ir.Value, ...]:
    """The root once more, with some attributes changed; None takes one away."""
    node = op.root
    made = getattr(op, node.op_type)(
        *node.inputs, _outputs=len(node.outputs), **{**node.attributes, **changed}
    )
    return made if isinstance(made, tuple) else (made,)


# --- defaults -----------------------------------------------------------------------------------


def _says_a_default(node: ir.Node) -> bool:
    if not node.attributes or node.domain:
        return False
    op_type = node.op_type
    return any(_is_default(op_type, attr) for attr in node.attributes.values()) and any(
        value is not None and constant_tensor(value) is None for value in node.inputs
    )  # what reads constants alone is for `cleanup`, which knows what may be computed


def _is_default(op_type: str, attr: ir.Attr) -> bool:
    if attr.is_ref():
        return False
    if op_type in _WINDOWS and attr.name in _PLAIN:
        return all(number == _PLAIN[attr.name] for number in attr.value)
    default = default_attribute("", op_type, attr.name)
    return default is not None and bool(attr.value == default)


@functools.cache
def _differs_here(op_type: str, name: str, opset: int) -> bool:
    """Whether the opset's own default is not that of today, such as Softmax's axis before 13."""
    try:
        schema = onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return True
    known = schema.attributes.get(name)
    if known is None or not known.default_value.name:
        return name not in _PLAIN
    value = onnx.helper.get_attribute_value(known.default_value)
    value = value.decode() if isinstance(value, bytes) else value
    return bool(value != default_attribute("", op_type, name))


@rule("canonicalize-attributes/defaults", match=EveryNode(_says_a_default), exact=Exact.BITWISE)
def defaults(op: Op) -> tuple[ir.Value, ...]:
    """F(x, default) -> f(x)."""
    node = op.root
    said = [
        name
        for name, attr in node.attributes.items()
        if _is_default(node.op_type, attr) and not _differs_here(node.op_type, name, op.opset)
    ]
    require(said, "it is not the default of this opset")
    return _again(op, **dict.fromkeys(said))


# --- axes ---------------------------------------------------------------------------------------


@rule("canonicalize-attributes/last-axis", match=tuple(map(_any, _LAST)), exact=Exact.BITWISE)
def last_axis(op: Op) -> tuple[ir.Value, ...]:
    """softmax_{r-1} -> softmax_{-1}, norms from axis r-k -> from axis -k."""
    node = op.root
    axis = attribute(node, "axis")
    require(axis is not None and axis >= 0, "the axis is counted from the end")
    if node.op_type.endswith("max"):
        is_last = axis == known_rank(node.inputs[0]) - 1
        require(is_last or op.opset >= 13, "before opset 13 every axis from this one on counts")
    return _again(op, axis=axis - known_rank(node.inputs[0]))


@rule("canonicalize-attributes/front-axis", match=tuple(map(_any, _FRONT)), exact=Exact.BITWISE)
def front_axis(op: Op) -> tuple[ir.Value, ...]:
    """Concat, Split, Gather, ... along axis -k -> along axis r-k."""
    node = op.root
    axis = attribute(node, "axis", default_attribute("", node.op_type, "axis"))
    require(axis is not None and axis < 0, "the axis is counted from the front")
    counted = node.outputs[0] if node.op_type == "OneHot" else node.inputs[0]
    return _again(op, axis=axis + known_rank(counted))


@rule(
    "canonicalize-attributes/reduced-axes",
    match=tuple(map(_any, _REDUCTIONS)),
    exact=Exact.BITWISE,
)
def reduced_axes(op: Op) -> tuple[ir.Value, ...]:
    """Reduce over axes r-j, r-k -> over axes -k, -j in ascending order."""
    node = op.root
    named = node.inputs[1] if len(node.inputs) > 1 else None
    axes = attribute(node, "axes") if named is None else const_ints(named, "the reduced axes")
    require(axes is not None, "every axis is reduced")
    rank = known_rank(node.inputs[0])
    wanted = sorted(axis % rank - rank for axis in axes or ())
    require(list(axes or ()) != wanted, "the axes are counted from the end")
    if named is None:
        return _again(op, axes=wanted)
    made: ir.Value = getattr(op, node.op_type)(node.inputs[0], wanted, **dict(node.attributes))
    return (made,)


# --- padding ------------------------------------------------------------------------------------


@rule("canonicalize-attributes/auto-pad", match=tuple(map(_any, _PADDED)), exact=Exact.BITWISE)
def auto_pad(op: Op) -> tuple[ir.Value, ...]:
    """Convolve or pool with auto_pad SAME or VALID -> with the pads that it means here."""
    node = op.root
    how = attribute(node, "auto_pad", "NOTSET")
    require(how != "NOTSET", "the padding is explicit")
    require(attribute(node, "ceil_mode", 0) == 0, "the size is rounded up")
    if how == "VALID":
        return _again(op, auto_pad=None, pads=None)
    totals = [_total(*window) for window in zip(*_windows(node), strict=True)]
    low, high = [t // 2 for t in totals], [t - t // 2 for t in totals]
    pads = low + high if how == "SAME_UPPER" else high + low
    return _again(op, auto_pad=None, pads=pads)


def _windows(node: ir.Node) -> tuple[list[int], list[int], list[int], list[int]]:
    """Input sizes, kernel sizes, strides and dilations along the spatial axes."""
    sizes = (shape(node.inputs[0]) or ())[2:]
    kernel = attribute(node, "kernel_shape")
    if kernel is None:  # a convolution
        kernel = (shape(node.inputs[1]) or ())[2:]
    known = [n for n in sizes if isinstance(n, int)]
    kernels = [n for n in kernel or () if isinstance(n, int)]
    if not sizes or not len(known) == len(kernels) == len(sizes):
        decline("a spatial size is known only at run time", node.inputs[0])
    ones = [1] * len(sizes)
    strides, dilations = attribute(node, "strides", ones), attribute(node, "dilations", ones)
    return known, kernels, list(strides), list(dilations)


def _total(size: int, kernel: int, stride: int, dilation: int) -> int:
    outputs = -(-size // stride)
    return max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)


RULES = (defaults, last_axis, front_axis, reduced_axes, auto_pad)
