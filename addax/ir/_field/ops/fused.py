"""ONNX Runtime's fused ops and dropout, by the ops that they fuse."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from addax.errors import UnsupportedOpError
from addax.ir._field.ops import activation, linear, norm
from addax.ir._field.residues import PRIME
from addax.ir._field.table import FieldSite
from addax.ir._judge.table import Kernels

STANDARD = Kernels()
KERNELS = Kernels("com.microsoft")
TABLES = (STANDARD, KERNELS)

_EPSILON = float(np.float32(1e-12))


@STANDARD.op("Dropout")
def dropout(
    x: Any,
    rate: Any = None,
    training: Any = None,
    /,
    *,
    ratio: float = 0.5,
    seed: int = 0,
    is_test: int = 1,
) -> Any:
    """X itself, and a mask that keeps everything.

    Raises:
        UnsupportedOpError: in training: the result is random.
    """
    if training is not None and bool(np.asarray(training).any()):
        raise UnsupportedOpError("Dropout in training is random")
    return np.asarray(x), np.ones(x.shape, dtype=np.bool_)


@KERNELS.op("Gelu")
def gelu(x: Any, *, site: FieldSite) -> Any:
    """Gelu by the error function."""
    return activation.gelu(x, site=site)


@KERNELS.op("BiasGelu")
def bias_gelu(x: Any, bias: Any, *, site: FieldSite) -> Any:
    """Gelu(x + bias)."""
    return activation.gelu((x + bias) % PRIME, site=site)


@KERNELS.op("FastGelu")
def fast_gelu(x: Any, bias: Any = None, *, site: FieldSite) -> Any:
    """Gelu(x + bias) by the tanh formula."""
    summed = x if bias is None else (x + bias) % PRIME
    return activation.gelu(summed, approximate="tanh", site=site)


@KERNELS.op("GemmFastGelu")
def gemm_fast_gelu(x: Any, w: Any, bias: Any = None, *, site: FieldSite) -> Any:
    """FastGelu(x w + bias)."""
    return fast_gelu(linear.matmul(x, w), bias, site=site)


@KERNELS.op("QuickGelu")
def quick_gelu(x: Any, *, alpha: float = 1.702, site: FieldSite) -> Any:
    """QuickGelu: x sigmoid(alpha x)."""
    return activation.swish(x, alpha=float(np.float32(alpha)), site=site)


@KERNELS.op("FusedMatMul", "TransposeMatMul")
def fused_matmul(
    a: Any,
    b: Any,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
    transBatchA: int = 0,  # noqa: N803
    transBatchB: int = 0,  # noqa: N803
) -> Any:
    """FusedMatMul: alpha A B, operands transposed in their last two dimensions or batch first."""
    y = linear.matmul(_turned(a, transA, transBatchA), _turned(b, transB, transBatchB))
    return y * activation.number(alpha) % PRIME


def _turned(x: Any, last: int, batch: int) -> Any:
    x = np.moveaxis(np.asarray(x), 0, -2) if batch else np.asarray(x)
    return x.swapaxes(-1, -2) if last and x.ndim > 1 else x


def _activated(y: Any, name: str, params: Sequence[float], site: FieldSite) -> Any:
    match name:
        case "":
            return y
        case "Relu":
            return activation.relu(y, site=site)
        case "Tanh":
            return site.oracle.odd("Tanh", y)
        case "Sigmoid":
            return activation.sigmoid(y, site=site)
        case "LeakyRelu" if params:
            return activation.leaky_relu(y, alpha=params[0], site=site)
        case "Clip":
            return activation.clip_by_attributes(y, min=params[0], max=params[1], site=site)
        case "HardSigmoid":
            return activation.hard_sigmoid(y, alpha=params[0], beta=params[1], site=site)
        case _:
            raise UnsupportedOpError(f"fused activation {name!r} is not known here")


@KERNELS.op("FusedConv")
def fused_conv(
    x: Any,
    w: Any,
    b: Any = None,
    z: Any = None,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    site: FieldSite,
    **attributes: Any,
) -> Any:
    """activation(Conv(x, w, b) + z)."""
    y = linear.conv(x, w, b, **attributes)
    return _activated(y if z is None else (y + z) % PRIME, activation, activation_params, site)


@KERNELS.op("FusedGemm")
def fused_gemm(
    a: Any,
    b: Any,
    c: Any = None,
    *,
    activation: str = "",
    activation_alpha: float = 0.01,
    activation_beta: float = 0.0,
    activation_gamma: float = 0.0,
    site: FieldSite,
    **attributes: Any,
) -> Any:
    """activation(Gemm(a, b, c))."""
    y = linear.gemm(a, b, c, **attributes)
    return _activated(y, activation, (activation_alpha, activation_beta), site)


KERNELS.add("SimplifiedLayerNormalization", norm.rms_normalization)


@KERNELS.op("SkipLayerNormalization")
def skip_layer_normalization(
    x: Any,
    skip: Any,
    gamma: Any,
    beta: Any = None,
    bias: Any = None,
    *,
    epsilon: float = _EPSILON,
    site: FieldSite,
) -> Any:
    """LayerNormalization of x + skip + bias, its mean and 1 / deviation, and the sum itself."""
    summed = _summed(x, skip, bias)
    y, average, deviation = norm.standardized(summed, (summed.ndim - 1,), epsilon, site)
    return (norm.affine(y, gamma, beta), average, deviation, summed)[: site.outputs]


@KERNELS.op("SkipSimplifiedLayerNormalization")
def skip_rms_normalization(
    x: Any, skip: Any, gamma: Any, bias: Any = None, *, epsilon: float = _EPSILON, site: FieldSite
) -> Any:
    """RMSNormalization of x + skip + bias, (no mean), 1 / deviation, and the sum itself."""
    summed = _summed(x, skip, bias)
    squares = norm.mean(summed * summed % PRIME, (summed.ndim - 1,))
    deviation = norm.inverse_root(squares, epsilon, site)
    y = norm.affine(summed * deviation % PRIME, gamma, None)
    return (y, np.zeros_like(deviation), deviation, summed)[: site.outputs]


def _summed(x: Any, skip: Any, bias: Any) -> Any:
    summed = np.asarray(x) + np.asarray(skip)
    return (summed if bias is None else summed + np.asarray(bias)) % PRIME
