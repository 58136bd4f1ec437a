"""Products, convolutions and average pools: the judge's own kernels, on limbs of residues."""

from collections.abc import Sequence
from itertools import product as cartesian
from math import prod
from typing import Any

import numpy as np

from addax.errors import UnsupportedOpError
from addax.ir._field.ops.activation import number
from addax.ir._field.residues import PRIME, Residues, bilinear, inverse
from addax.ir._judge.ops import conv as convolutions
from addax.ir._judge.ops.matmul import product
from addax.ir._judge.ops.window import Window, surrounded
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)


@KERNELS.op("MatMul")
def matmul(a: Any, b: Any) -> Any:
    """A B over the last two dimensions."""
    a, b = np.asarray(a), np.asarray(b)
    return bilinear(product, a, b, a.shape[-1])


@KERNELS.op("Gemm")
def gemm(
    a: Any,
    b: Any,
    c: Any = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> Any:
    """Gemm: alpha A B + beta C, with A or B transposed on request."""
    y = matmul(a.T if transA else a, b.T if transB else b)
    if alpha != 1.0:
        y = y * number(alpha) % PRIME
    return y if c is None else (y + np.asarray(c) * number(beta)) % PRIME


@KERNELS.op("Einsum")
def einsum(*inputs: Any, equation: str) -> Any:
    """The sum of products that the equation says, of one or two operands."""
    equation = equation.replace(" ", "")
    if len(inputs) == 1:
        return np.einsum(equation, np.asarray(inputs[0])) % PRIME
    if len(inputs) > 2:
        raise UnsupportedOpError(f"Einsum of {len(inputs)} operands is not known here")
    a, b = map(np.asarray, inputs)
    return bilinear(
        lambda a, b: np.einsum(equation, a, b, optimize=True), a, b, _summed(equation, a, b)
    )


def _summed(equation: str, *operands: Residues) -> int:
    """How many products an element of the result adds up."""
    inputs, arrow, output = equation.partition("->")
    sizes: dict[str, int] = {}
    for term, x in zip(inputs.split(","), operands, strict=True):
        head, _, tail = term.partition("...")
        sizes |= dict(zip(head, x.shape, strict=False))
        sizes |= dict(zip(reversed(tail), reversed(x.shape), strict=False))
    if not arrow:
        output = "".join(label for label in sizes if inputs.count(label) == 1)
    return prod(size for label, size in sizes.items() if label not in output)


@KERNELS.op("Conv")
def conv(x: Any, w: Any, b: Any = None, **attributes: Any) -> Any:
    """y[n, m, o] = b[m] + sum over c, k of w[m, c, k] x[n, c, o stride + k dilation - pad]."""
    return _biased(convolutions.conv, x, w, b, attributes)


@KERNELS.op("ConvTranspose")
def conv_transpose(x: Any, w: Any, b: Any = None, **attributes: Any) -> Any:
    """The transpose of the linear map Conv."""
    return _biased(convolutions.conv_transpose, x, w, b, attributes)


def _biased(call: Any, x: Any, w: Any, b: Any, attributes: dict[str, Any]) -> Residues:
    x, w = np.asarray(x), np.asarray(w)
    terms = max(w.size // max(w.shape[0], 1), w.size // max(w.shape[1], 1))
    y = bilinear(lambda x, w: call(x, w, **attributes), x, w, terms)
    return y if b is None else (y + np.asarray(b).reshape(-1, *(1,) * (x.ndim - 2))) % PRIME


@KERNELS.op("AveragePool")
def average_pool(
    x: Any,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Any:
    """The mean of each window, over its elements in X or in X and its padding."""
    window = Window.of(
        x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, bool(ceil_mode)
    )
    x = np.asarray(x)
    counted = np.ones((1, 1, *x.shape[2:]), dtype=np.int64)
    if count_include_pad:
        x = surrounded(x, window.before, window.behind, 0)
        counted = surrounded(counted, window.before, window.behind, 1)
        rank = len(window.kernel)
        window = Window(
            tuple(x.shape[2:]), window.kernel, window.strides, window.dilations,
            (0,) * rank, (0,) * rank, window.ceil,
        )  # fmt: skip
    return _sums(x, window) * inverse(_sums(counted, window)) % PRIME


def _sums(x: Residues, window: Window) -> Residues:
    out = window.outputs()
    x = surrounded(x, window.before, window.after(out), 0)
    taps = cartesian(*map(range, window.kernel))
    parts = (x[(slice(None), slice(None), *window.at(tap, out))] for tap in taps)
    return np.asarray(sum(parts)) % PRIME
