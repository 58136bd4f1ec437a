"""Quantization to few bits, and arithmetic on quantized values."""

from collections.abc import Sequence

import onnx_ir as ir
import torch

from addax.backends._torch_ops.convolution import conv_integer
from addax.backends._torch_ops.dtypes import EIGHT_BIT_FLOATS, integer_range, torch_dtype
from addax.backends._torch_ops.matmul import integer_matmul
from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor

OPS = Converters()


@OPS.op("QuantizeLinear", since=10)
def quantize(
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
    site: Site,
) -> Tensor:
    """`round(x / scale) + zero`, kept within the range of the output's type."""
    scale = _spread(site, 1, scale, axis, block_size)
    scaled = (x if precision == 0 else x.to(site.torch_dtype(precision))) / scale
    if zero is not None:
        dtype = site.dtype(2)
        zero = _spread(site, 2, zero, axis, block_size)
    else:
        dtype = ir.DataType(output_dtype) if output_dtype else ir.DataType.UINT8
    if dtype in EIGHT_BIT_FLOATS:
        return _to_float8(
            scaled if zero is None else scaled + zero.to(scaled.dtype), dtype, saturate
        )
    return _saturated(scaled, zero, dtype)


def _spread(site: Site, index: int, scale: Tensor, axis: int, block_size: int) -> Tensor:
    """A scale or zero point in a shape that broadcasts to the data, input 0."""
    if block_size:
        repeated = scale.repeat_interleave(block_size, axis)
        return repeated.narrow(axis, 0, site.sizes(0, site.tensor(0))[site.axis(axis)])
    shape = site.shape(index)
    if site.rank(index) != 1 or site.rank(0) <= 1:
        return scale.reshape(()) if shape == (1,) and site.rank(0) == 0 else scale
    after = site.rank(0) - 1 - site.axis(axis) if shape != (1,) else 0
    return scale.reshape(-1, *(1,) * after)


def _to_float8(x: Tensor, dtype: ir.DataType, saturate: int) -> Tensor:
    carrier = torch_dtype(dtype) or torch.float32
    greatest = torch.finfo(carrier).max
    return (torch.clamp(x, -greatest, greatest) if saturate else x).to(carrier)


def _saturated(scaled: Tensor, zero: Tensor | None, dtype: ir.DataType) -> Tensor:
    rounded = torch.round(scaled)
    rounded = rounded if zero is None else rounded + zero.to(rounded.dtype)
    low, high = integer_range(dtype)
    return torch.clamp(rounded, low, high).to(torch_dtype(dtype))


@OPS.op("DequantizeLinear", since=10)
def dequantize(
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    site: Site,
) -> Tensor:
    """`(x - zero) scale`."""
    dtype = site.torch_dtype(output_dtype or site.dtype(1))
    scale = _spread(site, 1, scale, axis, block_size)
    is_integer = site.dtype(0).is_integer()
    wide = x.to(torch.int32 if is_integer else torch.float32)
    if zero is not None:
        wide = wide - _spread(site, 2, zero, axis, block_size).to(wide.dtype)
    return (wide.to(torch.float32) * scale.to(torch.float32)).to(dtype)


@OPS.op("QLinearMatMul", since=10)
def quantized_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    *,
    site: Site,
) -> Tensor:
    """The product of quantized matrices, quantized."""
    rows = [site.rank(index) == 1 and site.shape(index) != (1,) for index in (1, 2)]
    columns = [site.rank(index) == 1 and site.shape(index) != (1,) for index in (4, 5)]
    a_scale = a_scale.unsqueeze(-1) if rows[0] else a_scale
    a_zero = a_zero.unsqueeze(-1) if rows[1] else a_zero
    b_scale = b_scale.unsqueeze(-2) if columns[0] else b_scale
    b_zero = b_zero.unsqueeze(-2) if columns[1] else b_zero
    product = integer_matmul(a.to(torch.int32) - a_zero, b.to(torch.int32) - b_zero)
    scaled = product.double() * (a_scale.double() * b_scale.double() / y_scale.double())
    return _saturated(scaled, y_zero, site.dtype(7))


@OPS.op("QLinearConv", since=10)
def quantized_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    site: Site,
) -> Tensor:
    """The convolution of quantized tensors, quantized; `b` counts in steps of both scales."""
    ones = (1,) * (site.rank(0) - 2)
    per_channel = (-1, *ones, 1)
    product = conv_integer(
        x.to(torch.int32) - x_zero,
        w.to(torch.int32) - w_zero.reshape(per_channel),
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape or site.sizes(3, w)[2:],
        pads=pads,
        strides=strides,
        site=site,
    )
    product = product if b is None else product + b.reshape(-1, *ones)
    factor = x_scale.double() * w_scale.double().reshape(-1, *ones) / y_scale.double()
    return _saturated(product.double() * factor, y_zero, site.dtype(7))
