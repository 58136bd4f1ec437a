"""Conversions between number formats."""

from importlib import import_module
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx.helper import np_dtype_to_tensor_dtype

from addax.ir._judge.arrays import REAL, Array, as_text, promoted, promoted_type
from addax.ir._judge.table import Kernels, Site

KERNELS = Kernels()
TABLES = (KERNELS,)

_PROMOTED_FROM = {4: np.float32, 8: np.float64}


@KERNELS.op("Cast")
def cast(x: Array, *, to: Any, saturate: int = 1, round_mode: str = "up", site: Site) -> Any:
    """X in another format; a floating one becomes the precision of the evaluation."""
    return converted(x, to, saturate, round_mode, site)


@KERNELS.op("CastLike")
def cast_like(
    x: Array, like: Array, *, saturate: int = 1, round_mode: str = "up", site: Site
) -> Any:
    """X in the format of another tensor."""
    if _is_plain(x.dtype) and _is_plain(like.dtype):
        return x.astype(like.dtype, copy=False)
    to = 8 if like.dtype.kind in "OSU" else np_dtype_to_tensor_dtype(like.dtype)
    return converted(x, to, saturate, round_mode, site)


def converted(x: Array, to: Any, saturate: int, round_mode: str, site: Site) -> Any:
    """`x` in the ONNX data type `to`."""
    target = ir.DataType(to)
    if target == ir.DataType.STRING:
        return as_text(_printed(x))
    dtype = promoted_type(target.numpy(), site.precision)
    if x.dtype.kind in "OSU":
        parsed = x.astype(np.str_).astype(dtype if dtype.isbuiltin == 1 else np.float64)
        return parsed.astype(dtype, copy=False)
    if _is_plain(x.dtype) and _is_plain(dtype):
        return x.astype(dtype, copy=False)
    return stored(x, target, saturate, round_mode).astype(dtype, copy=False)


def stored(x: Array, target: ir.DataType, saturate: int, round_mode: str = "up") -> Array:
    """`x` in one of the narrow formats, as onnx rounds to them."""
    cast_to: Any = import_module("onnx.reference.ops.op_cast").cast_to
    result: Array = cast_to(x, int(target), bool(saturate), round_mode)
    return result


def _printed(x: Array) -> Array:
    return x.astype(np.float32).astype(np.str_) if x.dtype in REAL else x.astype(np.str_)


def _is_plain(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuc" or dtype in REAL  # NumPy's kind of float8_e5m2 is "f" too


@KERNELS.op("BitCast")
def bit_cast(x: Array, *, to: Any, site: Site) -> Any:
    """The bits of X read as another format of the same width.

    Raises:
        ValueError: the widths differ, or X is promoted and may have been either of the halves.
    """
    dtype = np.dtype(ir.DataType(to).numpy())
    if site.precision is not None and x.dtype in REAL and dtype.itemsize in _PROMOTED_FROM:
        x = x.astype(_PROMOTED_FROM[dtype.itemsize])
    if x.dtype.itemsize != dtype.itemsize:
        raise ValueError(f"the bits of {x.dtype.name} cannot be read as {dtype.name}")
    return promoted(x.view(dtype), site.precision)
