"""Comparisons, truth values and bits."""

from collections.abc import Callable
from typing import Any

import numpy as np

from addax.ir._judge.arrays import Array, wide
from addax.ir._judge.ops.arithmetic import add_binary
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)


def equal(a: Array, b: Array) -> Any:
    """A == B, for strings too."""
    return np.asarray(np.equal(a, b), dtype=np.bool_)


_BINARY: dict[str, Callable[..., Any]] = {
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Equal": equal,
    "Greater": np.greater,
    "Less": np.less,
}
for _name, _call in _BINARY.items():
    add_binary(KERNELS, _name, _call)

_OTHERS: dict[str, Callable[..., Any]] = {
    "BitwiseAnd": np.bitwise_and,
    "BitwiseNot": np.bitwise_not,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
    "GreaterOrEqual": np.greater_equal,
    "IsNaN": np.isnan,
    "LessOrEqual": np.less_equal,
    "Not": np.logical_not,
    "Where": np.where,
}
for _name, _call in _OTHERS.items():
    KERNELS.add(_name, _call)


@KERNELS.op("IsInf")
def is_inf(x: Array, *, detect_negative: int = 1, detect_positive: int = 1) -> Any:
    """Whether an element is infinite, of the signs asked for."""
    found = np.isinf(wide(x)) if x.dtype.kind == "f" else np.isinf(x.astype(np.float32))
    if not detect_negative:
        found = found & (x > 0)
    if not detect_positive:
        found = found & (x < 0)
    return found


@KERNELS.op("BitShift")
def bit_shift(x: Array, y: Array, *, direction: str) -> Any:
    """X shifted by Y bits; bits beyond the ends are lost."""
    shifted = np.left_shift(x, y) if direction == "LEFT" else np.right_shift(x, y)
    # C leaves a shift by the width or more open; the ONNX text does not: everything is lost.
    gone = -(x < 0).astype(x.dtype) if direction == "RIGHT" and x.dtype.kind == "i" else 0
    return np.where(y < 8 * x.dtype.itemsize, shifted, gone).astype(x.dtype)
