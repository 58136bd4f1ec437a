"""Arithmetic on constants: operators computed in float64 and rounded once at the end."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import UnsupportedOpError
from addax.ir._judge.arrays import Array, settled
from addax.ir._judge.meaning import Body, meaning
from addax.ir._judge.table import Site
from addax.ir.rule import decline

# Operators that only move elements: their results need no float64 and no rounding.
MOVEMENT = frozenset(
    {
        "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad",
        "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip


def compute(
    op_type: str,
    arrays: Sequence[Array | None],
    dtypes: Sequence[ir.DataType | None],
    attributes: Mapping[str, Any],
    opset: int,
    outputs: int = 1,
) -> list[tuple[Array, ir.DataType]]:
    """Apply a standard operator to constants; each result comes with its element type.

    Args:
        op_type: An operator of the standard domain.
        arrays: Its inputs; floating ones in float64.
        dtypes: The element types that the inputs have in the graph.
        attributes: Python values or `ir.Attr`.
        opset: The version of the standard domain.
        outputs: How many outputs to compute.

    Returns:
        Floating results in float64, to be rounded to the element type beside them.
    """
    call = _call(op_type, attributes, opset, outputs)
    try:
        with np.errstate(all="ignore"):  # overflow and NaN are judged by `round_to` and the guards
            made = call(*arrays)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # Dead code may divide by zero: it is the runtime's business whether it ever runs.
        decline(f"{op_type} fails on its constants: {error}")
    results = [settled(r) for r in (made if isinstance(made, tuple) else (made,))][:outputs]
    floating = _floating_type(attributes, dtypes)
    return [
        (r, floating if r.dtype.kind == "f" else ir.DataType.from_numpy(r.dtype)) for r in results
    ]


_PLAIN = frozenset(
    {
        ir.AttributeType.FLOAT,
        ir.AttributeType.INT,
        ir.AttributeType.INTS,
        ir.AttributeType.STRING,
    }
)


def _call(
    op_type: str, attributes: Mapping[str, Any], opset: int, outputs: int
) -> Callable[..., Any]:
    """What computes an operator in float64; remembered, since finding it takes longer than sums."""
    attrs = [
        item if isinstance(item, ir.Attr) else ir.convenience.convert_attribute(name, item)
        for name, item in attributes.items()
    ]
    if all(attr.type in _PLAIN for attr in attrs):
        plain = tuple(
            (
                attr.name,
                attr.type,
                tuple(attr.value) if isinstance(attr.value, list) else attr.value,
            )
            for attr in attrs
        )
        return _remembered(op_type, plain, opset, outputs)
    return _found(op_type, attrs, opset, outputs)


@functools.lru_cache(maxsize=1024)
def _remembered(
    op_type: str, plain: tuple[tuple[str, ir.AttributeType, Any], ...], opset: int, outputs: int
) -> Callable[..., Any]:
    attrs = [ir.Attr(name, kind, value) for name, kind, value in plain]
    return _found(op_type, attrs, opset, outputs)


def _found(op_type: str, attrs: Sequence[ir.Attr], opset: int, outputs: int) -> Callable[..., Any]:
    node = ir.Node("", op_type, (), attrs, num_outputs=outputs)
    site = Site(outputs, opset, {"": opset}, np.dtype(np.float64))
    try:
        call = meaning(node, node.attributes, site, {})
    except UnsupportedOpError:
        decline(f"{op_type} has no known meaning on constants")
    if isinstance(call, Body):
        decline(f"{op_type} has no direct meaning on constants")
    return call


def _floating_type(
    attributes: Mapping[str, Any], dtypes: Sequence[ir.DataType | None]
) -> ir.DataType:
    """The element type of a floating result: a cast's target, else the first floating input's."""
    if "to" in attributes:
        target = attributes["to"]
        return ir.DataType(target.value if isinstance(target, ir.Attr) else target)
    known = (d for d in dtypes if d is not None and d.is_floating_point())
    return next(known, ir.DataType.FLOAT)


def round_to(array: Array, dtype: ir.DataType) -> ir.Tensor[Any]:
    """The tensor nearest to `array` in `dtype`; declines where a finite value would overflow."""
    if array.dtype == dtype.numpy():
        return ir.Tensor(array, dtype=dtype)
    with np.errstate(over="ignore"):
        rounded = array.astype(dtype.numpy(), order="C")
    if not np.isfinite(rounded).all() and not _same_infinities(rounded, array):
        decline(f"a folded constant overflows {dtype}")
    return ir.Tensor(rounded, dtype=dtype)


def _same_infinities(rounded: Array, array: Array) -> bool:
    return np.array_equal(np.isfinite(rounded.astype(np.float64)), np.isfinite(array))
