"""Padding: pads that add nothing, pad twice, or that the reader can add itself.

Algebra     pad_q(pad_p(x)) = pad_{p + q}(x) for one constant; pad_0(x) = x;
            conv_q(pad_p(x)) = conv_{p + q}(x) for zeros on the spatial axes; for averages that
            count what is padded, and for maxima padded with -inf, or with 0 where x >= 0
Source      the ONNX operators' definitions
Exactness   bitwise where elements move alone; reassociated for windows: a kernel may sum a
            window at the border in another order
Cost        removes a copy of the tensor
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    const_ints,
    known_rank,
    producer,
    producing,
    require,
    rule,
    scalar,
)
from addax.passes._family import Phase

PHASE = Phase.CANONICAL

Pads = list[tuple[int, int]]


def _pads(node: ir.Node) -> Pads:
    """Elements before and after on each axis; declines where they are not constant."""
    given = const_ints(node.inputs[1], "the amount of padding")
    full = known_rank(node.inputs[0])
    named = node.inputs[3] if len(node.inputs) > 3 else None
    axes = range(full) if named is None else const_ints(named, "the list of padded axes")
    pads = [(0, 0)] * full
    half = len(given) // 2
    for i, axis in enumerate(axes):
        pads[axis % full] = (given[i], given[i + half])
    return pads


def _value(node: ir.Node) -> Any:
    """What a Pad in constant mode inserts; declines where that is known only at run time."""
    require(attribute(node, "mode", "constant") == "constant", "it repeats or mirrors elements")
    given = node.inputs[2] if len(node.inputs) > 2 else None
    value = 0 if given is None else scalar(given)
    require(value is not None, "what is inserted is known only at run time", given)
    return value


def _pad(op: Op, x: ir.Value, amount: ir.Value) -> ir.Value:
    return op.Pad(x, amount, ...)


@rule("padding/pad-nothing", match=_pad, exact=Exact.BITWISE)
def pad_nothing(op: Op, x: ir.Value, amount: ir.Value) -> ir.Value:
    """Pad(x, zeros) -> x."""
    require(not any(const_ints(amount, "the amount of padding")), "it pads", amount)
    return x


def _pad_twice(op: Op, x: ir.Value, p: ir.Value, q: ir.Value) -> ir.Value:
    return op.Pad(op.Pad(x, p, ...), q, ...)


@rule("padding/pad-pad", match=_pad_twice, exact=Exact.BITWISE)
def pad_pad(op: Op, x: ir.Value) -> ir.Value:
    """Pad(Pad(x, p), q) -> Pad(x, p + q) for one constant and no cropping."""
    inner = producing(op.root.inputs[0])
    first, second = _pads(inner), _pads(op.root)
    require(_value(inner) == _value(op.root), "they insert different values", x)
    require(min(map(min, first + second)) >= 0, "a negative pad crops", x)
    ends = [[a[i] + b[i] for a, b in zip(first, second, strict=True)] for i in (0, 1)]
    return op.Pad(x, ends[0] + ends[1], *op.root.inputs[2:3])


# --- windows ------------------------------------------------------------------------------------


def _padded_conv(op: Op, x: ir.Value, p: ir.Value, w: ir.Value) -> ir.Value:
    return op.Conv(op.Pad(x, p, ...), w, ...)


@rule("padding/pad-into-conv", match=_padded_conv, exact=Exact.REASSOCIATED)
def pad_into_conv(op: Op, x: ir.Value, w: ir.Value) -> ir.Value:
    """Conv(Pad(x), w) -> Conv(x, w, pads=...) where zeros are put around the image."""
    require(_value(producing(op.root.inputs[0])) == 0, "it does not pad with zeros", x)
    attributes = _with_pads(op.root)
    return op.Conv(x, w, *op.root.inputs[2:], **attributes)


def _padded_average(op: Op, x: ir.Value, p: ir.Value) -> ir.Value:
    return op.AveragePool(op.Pad(x, p, ...))


@rule("padding/pad-into-average", match=_padded_average, exact=Exact.REASSOCIATED)
def pad_into_average(op: Op, x: ir.Value) -> ir.Value:
    """AveragePool(Pad(x)) -> AveragePool(x, pads=..., count_include_pad=1)."""
    require(_value(producing(op.root.inputs[0])) == 0, "it does not pad with zeros", x)
    counts = attribute(op.root, "count_include_pad", 0)
    require(counts or not any(attribute(op.root, "pads", ())), "some padding is not counted", x)
    attributes = _with_pads(op.root)
    _below_kernel(op.root, attributes["pads"])
    return op.AveragePool(x, **{**attributes, "count_include_pad": 1})


def _padded_maximum(op: Op, x: ir.Value, p: ir.Value) -> ir.Value:
    return op.MaxPool(op.Pad(x, p, ...))


@rule("padding/pad-into-maximum", match=_padded_maximum, exact=Exact.BITWISE)
def pad_into_maximum(op: Op, x: ir.Value) -> ir.Value:
    """MaxPool(Pad(x)) -> MaxPool(x, pads=...) where the padding is never a maximum of its own."""
    value = _value(producing(op.root.inputs[0]))
    is_harmless = value == -np.inf or (value == 0 and producer(x, "Relu", "Sigmoid", "Abs"))
    require(is_harmless, "the padding may be larger than an element", x)
    attributes = _with_pads(op.root)
    _below_kernel(op.root, attributes["pads"])
    return op.MaxPool(x, **attributes)


def _with_pads(window: ir.Node) -> dict[str, Any]:
    """The attributes of a window operator that pads as the Pad before it does."""
    pads = _pads(producing(window.inputs[0]))
    require(not any(map(any, pads[:2])), "it pads the batch or the channels")
    require(min(map(min, pads)) >= 0, "a negative pad crops")
    mode = attribute(window, "auto_pad", "NOTSET")
    require(mode in ("NOTSET", "VALID"), "the window computes its own padding")
    require(not attribute(window, "ceil_mode", 0), "the last window may hang over the border")
    added = [before for before, _ in pads[2:]] + [after for _, after in pads[2:]]
    own = attribute(window, "pads") if mode == "NOTSET" else None
    total = [a + b for a, b in zip(own or (0,) * len(added), added, strict=True)]
    kept = {name: item for name, item in window.attributes.items() if name != "auto_pad"}
    return {**kept, "pads": total}


def _below_kernel(window: ir.Node, pads: list[int]) -> None:
    """Decline where a window could see nothing but padding."""
    kernel = attribute(window, "kernel_shape")
    require(set(attribute(window, "dilations", (1,))) == {1}, "the window is dilated")
    is_below = all(p < k for p, k in zip(pads, (*kernel, *kernel), strict=True))
    require(is_below, "a window would see nothing but padding")


RULES = (pad_nothing, pad_pad, pad_into_conv, pad_into_average, pad_into_maximum)
