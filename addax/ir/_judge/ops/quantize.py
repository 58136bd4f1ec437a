"""Quantization: scales and zero points for a tensor, an axis, or blocks along an axis."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir._judge.arrays import HALF, Array, promoted_type, wide
from addax.ir._judge.ops.cast import stored
from addax.ir._judge.ops.conv import convolved
from addax.ir._judge.ops.matmul import integer_product, shifted
from addax.ir._judge.ops.reduce import limits
from addax.ir._judge.ops.window import Window
from addax.ir._judge.table import Kernels, Site

KERNELS = Kernels()
CONTRIB = Kernels("com.microsoft")
TABLES = (KERNELS, CONTRIB)


def spread(v: Array, x: Array, axis: int, block_size: int) -> Array:
    """Scales or zero points, shaped to broadcast with `x`.

    Raises:
        ValueError: they fit neither `x` nor its `axis` nor blocks along it.
    """
    if v.size == 1 and v.ndim <= 1:
        return v.reshape(())
    axis %= x.ndim
    if block_size:
        if v.ndim != x.ndim or -(-x.shape[axis] // block_size) != v.shape[axis]:
            raise ValueError(f"blocks of {block_size} of {x.shape} do not fit scales {v.shape}")
        return np.repeat(v, block_size, axis=axis)[_up_to(x.shape[axis], axis)]
    if v.ndim != 1 or v.size != x.shape[axis]:
        raise ValueError(f"scales {v.shape} do not fit axis {axis} of {x.shape}")
    return v.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


def _up_to(count: int, axis: int) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, slice(count))


def rounded(x: Array, zero: Array | None, dtype: np.dtype[Any]) -> Any:
    """round(x) + zero, ties to even, saturated to an integer format."""
    y = np.rint(x)
    if zero is not None:
        y = y + zero.astype(y.dtype)
    return np.clip(y, *limits(dtype)).astype(dtype)


def _is_integer(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" or ir.DataType.from_numpy(dtype).is_integer()


@KERNELS.op("QuantizeLinear")
@CONTRIB.op("QuantizeLinear")
def quantize_linear(
    x: Array,
    scale: Array,
    zero_point: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
    site: Site,
) -> Any:
    """saturate(round(x / scale) + zero_point)."""
    wanted = ir.DataType(output_dtype).numpy() if output_dtype else np.dtype(np.uint8)
    dtype = wanted if zero_point is None else zero_point.dtype
    divisor = spread(scale, x, axis, block_size)
    zero = None if zero_point is None else spread(zero_point, x, axis, block_size)
    if precision and site.precision is None:
        work = ir.DataType(precision).numpy()
        ratio = wide(x.astype(work) / divisor.astype(work))
    else:
        ratio = wide(x) / wide(divisor)
    if _is_integer(dtype):
        return rounded(ratio, zero, dtype)
    return stored(ratio, ir.DataType.from_numpy(dtype), saturate)


@KERNELS.op("DequantizeLinear")
@CONTRIB.op("DequantizeLinear")
def dequantize_linear(
    x: Array,
    scale: Array,
    zero_point: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    site: Site,
) -> Any:
    """(x - zero_point) scale, in the type of `scale` or `output_dtype`."""
    dtype = ir.DataType(output_dtype).numpy() if output_dtype else scale.dtype
    factor = wide(spread(scale, x, axis, block_size))
    values = x.astype(np.float64 if x.dtype == np.int32 else factor.dtype)
    if zero_point is not None:
        values = values - spread(zero_point, x, axis, block_size).astype(values.dtype)
    return (values.astype(factor.dtype) * factor).astype(
        promoted_type(dtype, site.precision), copy=False
    )


@KERNELS.op("DynamicQuantizeLinear")
def dynamic_quantize_linear(x: Array) -> Any:
    """X in uint8 with the scale and zero point that cover its range and 0."""
    return dynamically_quantized(x)


def dynamically_quantized(x: Array) -> tuple[Any, Any, Any]:
    """Codes, scale = (max(x, 0) - min(x, 0)) / 255, and zero point."""
    low = np.minimum(x.min(initial=0), 0)
    high = np.maximum(x.max(initial=0), 0)
    scale = np.asarray((high - low) / x.dtype.type(255))
    if scale == 0:
        scale = np.ones_like(scale)
    zero = np.asarray(np.clip(np.rint(-low / scale), 0, 255), dtype=np.uint8)
    return rounded(x / scale, zero, np.dtype(np.uint8)), scale, zero


def requantized(total: Array, factor: Array, zero: Array) -> Any:
    """An integer total in another scale."""
    work = np.float32 if factor.dtype in HALF else factor.dtype
    return rounded(total.astype(work) * factor.astype(work), zero, zero.dtype)


@KERNELS.op("QLinearMatMul")
def q_linear_matmul(
    a: Array, a_scale: Array, a_zero: Array, b: Array, b_scale: Array, b_zero: Array,
    y_scale: Array, y_zero: Array,
) -> Any:  # fmt: skip
    """MatMul of quantized tensors, quantized."""
    narrow = shifted(a, a_zero, -2).astype(np.int16), shifted(b, b_zero, -1).astype(np.int16)
    rows = a_scale.reshape(-1, 1) if a_scale.ndim == 1 and a_scale.size > 1 else a_scale
    total = integer_product(*narrow, np.int64)
    return requantized(total, np.asarray(wide(rows) * wide(b_scale) / wide(y_scale)), y_zero)


@KERNELS.op("QLinearConv")
def q_linear_conv(
    x: Array, x_scale: Array, x_zero: Array, w: Array, w_scale: Array, w_zero: Array,
    y_scale: Array, y_zero: Array, b: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Any:  # fmt: skip
    """Conv of quantized tensors, quantized; the bias is in units of x_scale w_scale."""
    del kernel_shape
    window = Window.of(x.shape[2:], w.shape[2:], strides, dilations, pads, auto_pad)
    centred = shifted(x, x_zero, 1).astype(np.float64), shifted(w, w_zero, 0).astype(np.float64)
    total = convolved(*centred, window, group)
    channels = (-1, *(1,) * (x.ndim - 2))
    if b is not None:
        total += b.reshape(channels)
    scale = w_scale.reshape(channels) if w_scale.size > 1 else w_scale.reshape(())
    return requantized(total, np.asarray(x_scale * scale / y_scale), y_zero)
