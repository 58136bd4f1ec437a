"""Which torch element type carries which ONNX element type."""

import onnx_ir as ir
import torch

_CARRIERS = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.FLOAT8E4M3FN: torch.float8_e4m3fn,
    ir.DataType.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    ir.DataType.FLOAT8E5M2: torch.float8_e5m2,
    ir.DataType.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    ir.DataType.FLOAT8E8M0: torch.float8_e8m0fnu,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.UINT16: torch.uint16,
    ir.DataType.UINT32: torch.uint32,
    ir.DataType.UINT64: torch.uint64,
    ir.DataType.BOOL: torch.bool,
    ir.DataType.COMPLEX64: torch.complex64,
    ir.DataType.COMPLEX128: torch.complex128,
}
_IN_BYTES = {
    ir.DataType.INT4: torch.int8,
    ir.DataType.INT2: torch.int8,
    ir.DataType.UINT4: torch.uint8,
    ir.DataType.UINT2: torch.uint8,
}
_INTEGER_RANGES = {
    ir.DataType.INT2: (-2, 1),
    ir.DataType.UINT2: (0, 3),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
}
WIDE_UNSIGNED = frozenset({ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64})
"""Types that torch can store and move, with almost no arithmetic on them."""
NARROW = frozenset(_IN_BYTES)
"""Integers of fewer than 8 bits: torch keeps each in a byte."""
EIGHT_BIT_FLOATS = frozenset(d for d in _CARRIERS if d.name.startswith("FLOAT8"))


def torch_dtype(dtype: ir.DataType) -> torch.dtype | None:
    """The torch type that holds every value of `dtype`; None for strings and 4-bit floats."""
    return _CARRIERS.get(dtype) or _IN_BYTES.get(dtype)


def onnx_dtype(dtype: torch.dtype) -> ir.DataType | None:
    """The ONNX type that `dtype` is; None for types that ONNX lacks."""
    return next((onnx for onnx, carrier in _CARRIERS.items() if carrier == dtype), None)


def integer_range(dtype: ir.DataType) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    if dtype in _INTEGER_RANGES:
        return _INTEGER_RANGES[dtype]
    info = torch.iinfo(_CARRIERS[dtype])
    return int(info.min), int(info.max)
