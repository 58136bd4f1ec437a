"""The values that flow through an evaluation: arrays, their formats, their names in messages.

A tensor is an `ndarray` (never a NumPy scalar), a sequence a `list`, an empty optional `None`.
"""

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array: TypeAlias = npt.NDArray[Any]

HALF = frozenset({np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)})
REAL = HALF | {np.dtype(np.float32), np.dtype(np.float64)}


def promoted(x: Array, precision: npt.DTypeLike | None) -> Array:
    """`x` in `precision` if it is a floating tensor (not an 8-, 6- or 4-bit one), else `x`."""
    if precision is None or x.dtype == precision or x.dtype not in REAL:
        return x
    return x.astype(precision)


def promoted_type(dtype: npt.DTypeLike, precision: npt.DTypeLike | None) -> np.dtype[Any]:
    """The dtype that a tensor of `dtype` has in an evaluation in `precision`."""
    dtype = np.dtype(dtype)
    return dtype if precision is None or dtype not in REAL else np.dtype(precision)


def wide(x: Array) -> Array:
    """`x` in float32 if it is float16 or bfloat16: composed formulas round once, at their end."""
    return x.astype(np.float32) if x.dtype in HALF else x


def decode(tensor: ir.TensorProtocol, precision: npt.DTypeLike | None) -> Array:
    """The read-only array of a constant, promoted; strings become an object array of `str`."""
    x = np.asarray(tensor.numpy())
    if tensor.dtype == ir.DataType.STRING:
        x = as_text(x)
    x = promoted(x, precision).view()
    x.flags.writeable = False
    return x


def as_text(x: Array) -> Array:
    """An object array of `str` from an array of `str` or UTF-8 `bytes`."""
    flat = [item.decode() if isinstance(item, bytes) else str(item) for item in x.ravel().tolist()]
    return np.array(flat, dtype=object).reshape(x.shape)


def settled(value: Any) -> Any:
    """A kernel's result as a value of the evaluation: NumPy and Python scalars become arrays."""
    if isinstance(value, np.ndarray | list) or value is None:
        return value
    return np.asarray(value)


def described(value: Any) -> str:
    """The type and shape of a value for messages, such as `float32[2,3]`."""
    if value is None:
        return "absent"
    if isinstance(value, list):
        return f"sequence({', '.join(described(item) for item in value)})"
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype.name}[{','.join(str(d) for d in value.shape)}]"
    return type(value).__name__
