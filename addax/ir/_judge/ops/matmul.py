"""Matrix products. Halves are multiplied and added in float32 and rounded once."""

from typing import Any

import numpy as np

from addax.ir._judge.arrays import HALF, Array, wide
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)


def product(a: Array, b: Array) -> Any:
    """a[..., M, K] b[..., K, N], in the type of a; one BLAS call where b is a matrix."""
    if a.dtype in HALF:
        return product(wide(a), wide(b)).astype(a.dtype)
    if a.dtype.kind in "iu":
        return integer_product(a, b, a.dtype)
    if a.ndim > 2 and b.ndim == 2 and a.size:
        return np.matmul(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
    return np.matmul(a, b)


def integer_product(a: Array, b: Array, dtype: Any) -> Any:
    """The product of integer tensors modulo the range of `dtype`.

    Narrow integers go through float64, where BLAS is exact: |a b| < 2**32, so sums of 2**20 fit.
    """
    narrow = a.dtype.itemsize <= 2 and b.dtype.itemsize <= 2 and a.shape[-1] < 1 << 20
    work = np.float64 if narrow else np.int64
    result = np.matmul(a.astype(work), b.astype(work))
    return np.asarray(result, dtype=np.int64).astype(dtype)


@KERNELS.op("MatMul")
def matmul(a: Array, b: Array) -> Any:
    """A B over the last two dimensions."""
    return product(a, b)


@KERNELS.op("Gemm")
def gemm(
    a: Array,
    b: Array,
    c: Array | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
    broadcast: int = 0,
) -> Any:
    """Gemm: alpha A B + beta C, with A or B transposed on request."""
    del broadcast
    dtype = a.dtype
    a, b = wide(a), wide(b)
    y = product(a.T if transA else a, b.T if transB else b)
    if alpha != 1.0:
        y = y * alpha
    if c is not None and beta != 0.0:
        y = y + (wide(c) if beta == 1.0 else wide(c) * beta)
    return y.astype(dtype, copy=False)


def shifted(x: Array, zero_point: Array | None, axis: int) -> Array:
    """Centred codes, x - zero_point in int32; a vector of zero points lies along `axis`."""
    y = x.astype(np.int32)
    if zero_point is None:
        return y
    zero = zero_point.astype(np.int32)
    if zero.ndim == 1 and zero.size > 1:
        zero = zero.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    elif zero.size == 1:
        zero = zero.reshape(())
    return y - zero


@KERNELS.op("MatMulInteger")
def matmul_integer(
    a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None
) -> Any:
    """(A - a_zero)(B - b_zero) in int32; zero points for each row of A and column of B."""
    narrow = shifted(a, a_zero, -2).astype(np.int16), shifted(b, b_zero, -1).astype(np.int16)
    return integer_product(*narrow, np.int32)


@KERNELS.op("Einsum")
def einsum(*inputs: Array, equation: str) -> Any:
    """The sum of products that the equation says."""
    widened = [wide(x) for x in inputs]
    result = np.einsum(equation.replace(" ", ""), *widened, optimize=len(inputs) > 1)
    return np.asarray(result).astype(inputs[0].dtype, copy=False)
