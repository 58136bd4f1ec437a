"""Products of matrices."""

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor

OPS = Converters()

OPS.add("MatMul", torch.matmul, inputs=2)
OPS.add("Det", torch.linalg.det)


@OPS.op("Gemm", since=7)
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803  # ONNX's name
    transB: int = 0,  # noqa: N803
    site: Site,
) -> Tensor:
    """`alpha a b + beta c`, each matrix transposed on request."""
    is_bias = c is None or site.static_shape(2) == (site.static_shape(1) or ())[:1]
    if transB and not transA and alpha == beta == 1.0 and is_bias:
        return F.linear(a, b, c)
    product = torch.matmul(a.t() if transA else a, b.t() if transB else b)
    product = product if alpha == 1.0 else product * _coefficient(alpha, site)
    if c is None or beta == 0.0:
        return product
    return product + (c if beta == 1.0 else c * _coefficient(beta, site))


@OPS.op("Gemm")
def gemm_before_numpy_broadcasting(
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    broadcast: int = 0,
    transA: int = 0,  # noqa: N803  # ONNX's name
    transB: int = 0,  # noqa: N803
    site: Site,
) -> Tensor:
    """`alpha a b + beta c`; `broadcast` allows what later opsets always allow."""
    return gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB, site=site)


def _coefficient(number: float, site: Site) -> float:
    """A coefficient of an integer product must be an integer, lest the type change."""
    if site.dtype(0).is_floating_point():
        return number
    site.require(number == int(number), f"{number} times an integer matrix is not defined")
    return int(number)


@OPS.op("Einsum")
def einsum(*xs: Tensor, equation: str) -> Tensor:
    """The sum of products that the equation writes."""
    return torch.einsum(equation, *xs)


def integer_matmul(a: Tensor, b: Tensor) -> Tensor:
    """The exact product of matrices of 8-bit integers, as 32-bit integers."""
    # Doubles hold every sum of fewer than 2^37 products exactly, and have fast kernels everywhere.
    return torch.matmul(a.double(), b.double()).to(torch.int32)


@OPS.op("MatMulInteger")
def matmul_integer(
    a: Tensor,
    b: Tensor,
    a_zero: Tensor | None = None,
    b_zero: Tensor | None = None,
    *,
    site: Site,
) -> Tensor:
    """The product of integers from which zero points are taken first."""
    a, b = a.to(torch.int32), b.to(torch.int32)
    if a_zero is not None:
        a = a - (a_zero.unsqueeze(-1) if site.rank(2) == 1 else a_zero)
    if b_zero is not None:
        b = b - (b_zero.unsqueeze(-2) if site.rank(3) == 1 else b_zero)
    return integer_matmul(a, b)
