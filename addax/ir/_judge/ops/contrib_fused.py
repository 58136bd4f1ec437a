"""ONNX Runtime's fused float ops: products, convolutions and normalizations with their neighbours.

Meanings as in onnxruntime's ContribOperators.md; attention and quantization are beside this file.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from addax.ir._judge.arrays import Array, wide
from addax.ir._judge.ops import activation, matmul
from addax.ir._judge.ops.conv import conv
from addax.ir._judge.ops.norm import EPSILON, last_axes, rms_normalized, standardized
from addax.ir._judge.table import Kernels, Site

KERNELS = Kernels("com.microsoft")
TABLES = (KERNELS,)

_EPSILON = float(np.float32(1e-12))


def _activated(y: Array, name: str, params: Sequence[float]) -> Any:
    match name:
        case "":
            return y
        case "Relu":
            return activation.relu(y)
        case "Tanh":
            return np.tanh(y)
        case "Sigmoid":
            return activation.sigmoid(y)
        case "LeakyRelu":
            return activation.leaky_relu(y, alpha=params[0] if params else activation.LEAK)
        case "Clip":
            low, high = params
            return np.clip(y, low, high)
        case "HardSigmoid":
            return activation.hard_sigmoid(y, alpha=params[0], beta=params[1])
        case _:
            raise ValueError(f"fused activation {name!r} is unknown")


@KERNELS.op("FusedConv")
def fused_conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    z: Array | None = None,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Any:
    """activation(Conv(x, w, b) + z)."""
    y = conv(
        x,
        w,
        b,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    return _activated(y if z is None else y + z, activation, activation_params)


@KERNELS.op("FusedGemm")
def fused_gemm(
    a: Array,
    b: Array,
    c: Array | None = None,
    *,
    activation: str = "",
    activation_alpha: float = activation.LEAK,
    activation_beta: float = 0.0,
    activation_gamma: float = 0.0,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> Any:
    """activation(Gemm(a, b, c))."""
    del activation_gamma
    y = matmul.gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    return _activated(y, activation, (activation_alpha, activation_beta))


@KERNELS.op("FusedMatMul", "TransposeMatMul")
def fused_matmul(
    a: Array,
    b: Array,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
    transBatchA: int = 0,  # noqa: N803
    transBatchB: int = 0,  # noqa: N803
) -> Any:
    """FusedMatMul: alpha A B, operands transposed in their last two dimensions or batch first."""
    y = matmul.product(_turned(a, transA, transBatchA), _turned(b, transB, transBatchB))
    return y if alpha == 1.0 else (y * y.dtype.type(alpha))


def _turned(x: Array, last: int, batch: int) -> Array:
    if batch:
        x = np.moveaxis(x, 0, -2)
    return x.swapaxes(-1, -2) if last and x.ndim > 1 else x


@KERNELS.op("GemmFastGelu")
def gemm_fast_gelu(x: Array, w: Array, bias: Array | None = None) -> Any:
    """FastGelu(x w + bias)."""
    return activation.fast_gelu(matmul.product(x, w), bias)


@KERNELS.op("BiasAdd")
def bias_add(x: Array, bias: Array, skip: Array) -> Any:
    """X + bias + skip."""
    return x + bias + skip


@KERNELS.op("BiasSplitGelu")
def bias_split_gelu(x: Array, bias: Array) -> Any:
    """The first half of x + bias times Gelu of the second, along the last dimension."""
    left, right = np.split(x + bias, 2, axis=-1)
    return left * activation.gelu(right)


@KERNELS.op("SkipLayerNormalization")
def skip_layer_normalization(
    x: Array,
    skip: Array,
    gamma: Array,
    beta: Array | None = None,
    bias: Array | None = None,
    *,
    epsilon: float = _EPSILON,
    site: Site,
) -> Any:
    """LayerNormalization of x + skip + bias, its mean and 1 / deviation, and the sum itself."""
    summed = _sum(x, skip, bias)
    y, average, inverse = standardized(summed, (-1,), epsilon)
    y = y * wide(gamma)
    if beta is not None:
        y += wide(beta)
    made = (y.astype(x.dtype, copy=False), average, inverse, summed.astype(x.dtype, copy=False))
    return made[: site.outputs]


@KERNELS.op("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(
    x: Array,
    skip: Array,
    gamma: Array,
    bias: Array | None = None,
    *,
    epsilon: float = _EPSILON,
    site: Site,
) -> Any:
    """RMSNormalization of x + skip + bias, (no mean), 1 / deviation, and the sum itself."""
    summed = _sum(x, skip, bias)
    y, inverse = rms_normalized(summed, (-1,), epsilon)
    y = (y * wide(gamma)).astype(x.dtype, copy=False)
    made = (y, np.zeros_like(inverse), inverse, summed.astype(x.dtype, copy=False))
    return made[: site.outputs]


def _sum(x: Array, skip: Array, bias: Array | None) -> Any:
    summed = wide(x) + wide(skip)
    return summed if bias is None else summed + wide(bias)


@KERNELS.op("SimplifiedLayerNormalization")
def simplified_layer_normalization(
    x: Array, scale: Array, *, axis: int = -1, epsilon: float = EPSILON, stash_type: int = 1
) -> Any:
    """RMSNormalization under its name in this domain."""
    del stash_type
    y, inverse = rms_normalized(wide(x), last_axes(x, axis), epsilon)
    return (y * wide(scale)).astype(x.dtype, copy=False), inverse


@KERNELS.op("EmbedLayerNormalization")
def embed_layer_normalization(
    input_ids: Array,
    segment_ids: Array | None,
    words: Array,
    positions: Array,
    segments: Array | None,
    gamma: Array,
    beta: Array,
    mask: Array | None = None,
    position_ids: Array | None = None,
    *,
    epsilon: float = _EPSILON,
    mask_index_type: int = 1,
    site: Site,
) -> Any:
    """LayerNormalization of summed embeddings, how many tokens the mask keeps, and the sum."""
    del mask_index_type
    batch, length = input_ids.shape
    places = np.arange(length)[None] if position_ids is None else position_ids
    summed = wide(words)[input_ids] + wide(positions)[places]
    if segments is not None and segment_ids is not None:
        summed = summed + wide(segments)[segment_ids]
    y, _, _ = standardized(summed, (-1,), epsilon)
    y = y * wide(gamma) + wide(beta)
    kept = np.zeros(batch, np.int32) if mask is None else mask.sum(axis=1, dtype=np.int32)
    made = (y.astype(words.dtype, copy=False), kept, summed.astype(words.dtype, copy=False))
    return made[: site.outputs]
