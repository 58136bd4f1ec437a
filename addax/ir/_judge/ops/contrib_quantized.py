"""ONNX Runtime's products with integer weights, as in its ContribOperators.md."""

from typing import Any

import numpy as np

from addax.ir._judge.arrays import Array, wide
from addax.ir._judge.ops.matmul import integer_product, product, shifted
from addax.ir._judge.ops.quantize import dynamically_quantized, rounded
from addax.ir._judge.table import Kernels

KERNELS = Kernels("com.microsoft")
TABLES = (KERNELS,)


def _scaled_product(
    a: Array, b: Array, a_zero: Array | None, b_zero: Array | None, factor: Any, bias: Array | None
) -> Any:
    """(a - a_zero)(b - b_zero) factor + bias; zero points of both lie along the columns."""
    narrow = shifted(a, a_zero, -1).astype(np.int16), shifted(b, b_zero, -1).astype(np.int16)
    y = integer_product(*narrow, np.int64).astype(factor.dtype) * factor
    return y if bias is None else y + bias


@KERNELS.op("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(
    a: Array, b: Array, b_scale: Array, b_zero: Array | None = None, bias: Array | None = None
) -> Any:
    """A, quantized to uint8 by its range, times integer B, in floating point."""
    codes, scale, zero = dynamically_quantized(a)
    return _scaled_product(codes, b, zero, b_zero, scale * b_scale, bias)


@KERNELS.op("MatMulIntegerToFloat")
def matmul_integer_to_float(
    a: Array,
    b: Array,
    a_scale: Array,
    b_scale: Array,
    a_zero: Array | None = None,
    b_zero: Array | None = None,
    bias: Array | None = None,
) -> Any:
    """Integer A times integer B, in floating point."""
    return _scaled_product(a, b, a_zero, b_zero, np.asarray(a_scale * b_scale), bias)


@KERNELS.op("MatMulNBits")
def matmul_n_bits(
    a: Array,
    b: Array,
    scales: Array,
    zero_points: Array | None = None,
    g_idx: Array | None = None,
    bias: Array | None = None,
    *,
    K: int,  # noqa: N803
    N: int,  # noqa: N803
    block_size: int,
    bits: int = 4,
    accuracy_level: int = 0,
    weight_prepacked: int = 0,
) -> Any:
    """a[..., K] times the transpose of weights[N, K] = (code - zero point) scale, by blocks.

    Codes are packed along K from the low bits of each byte on; `accuracy_level` allows a runtime
    to be less exact, and means nothing here.

    Raises:
        ValueError: the weights are packed for one device.
    """
    del accuracy_level
    if weight_prepacked:
        raise ValueError("weights packed for one device cannot be read")
    blocks = -(-K // block_size)
    codes = _unpacked(b.reshape(N, -1), bits)[:, :K]
    block = np.arange(K) // block_size if g_idx is None else g_idx
    if zero_points is None:
        zeros: Any = 1 << (bits - 1)
    elif zero_points.dtype == np.uint8:
        zeros = _unpacked(zero_points.reshape(N, -1), bits)[:, block].astype(np.int32)
    else:
        zeros = wide(zero_points).reshape(N, blocks)[:, block]
    factor = wide(scales).reshape(N, blocks)[:, block]
    weights = (codes.astype(factor.dtype) - zeros) * factor
    y = product(wide(a), weights.astype(factor.dtype).T)
    if bias is not None:
        y = y + wide(bias)
    return y.astype(a.dtype, copy=False)


def _unpacked(packed: Array, bits: int) -> Any:
    """The codes of rows of bytes, low bits first."""
    if bits == 8:
        return packed
    if 8 % bits:
        spread = np.unpackbits(packed, axis=-1, bitorder="little")
        count = spread.shape[-1] // bits
        spread = spread[:, : count * bits].reshape(len(packed), count, bits)
        return (spread << np.arange(bits, dtype=np.uint8)).sum(axis=-1, dtype=np.uint8)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts: Array = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return parts.reshape(len(packed), -1)


def _quantized(y: Array, scale: Array, zero: Array | None, dtype: Any) -> Any:
    return rounded(y / scale, zero, np.dtype(dtype))


def _real(x: Array, scale: Array, zero: Array | None) -> Any:
    return shifted(x, zero, 0) * scale


@KERNELS.op("QLinearAdd")
def q_linear_add(
    a: Array, a_scale: Array, a_zero: Array | None,
    b: Array, b_scale: Array, b_zero: Array | None,
    c_scale: Array, c_zero: Array | None = None,
) -> Any:  # fmt: skip
    """The sum of quantized tensors, quantized."""
    return _quantized(
        _real(a, a_scale, a_zero) + _real(b, b_scale, b_zero), c_scale, c_zero, a.dtype
    )


@KERNELS.op("QLinearMul")
def q_linear_mul(
    a: Array, a_scale: Array, a_zero: Array | None,
    b: Array, b_scale: Array, b_zero: Array | None,
    c_scale: Array, c_zero: Array | None = None,
) -> Any:  # fmt: skip
    """The product of quantized tensors, quantized."""
    return _quantized(
        _real(a, a_scale, a_zero) * _real(b, b_scale, b_zero), c_scale, c_zero, a.dtype
    )
