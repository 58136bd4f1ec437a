"""ONNX Runtime's fused ops, which its optimizer leaves in saved models.

Meanings as in onnxruntime's ContribOperators.md; attention is beside this file.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.convolution import conv
from addax.backends._torch_ops.matmul import gemm
from addax.backends._torch_ops.quantization import dequantize, quantize
from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor

OPS = Converters()

CONTRIB = "com.microsoft"
_TINY = 1e-12
_FUSED: dict[str, Callable[..., Tensor]] = {
    "": lambda x: x,
    "Relu": F.relu,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "LeakyRelu": lambda x, alpha=0.01, *_: F.leaky_relu(x, alpha),
    "Clip": lambda x, low, high: torch.clamp(x, low, high),
    "HardSigmoid": lambda x, alpha, beta: torch.clamp(x * alpha + beta, 0, 1),
}

OPS.op("QuantizeLinear", domain=CONTRIB)(quantize)
OPS.op("DequantizeLinear", domain=CONTRIB)(dequantize)


@OPS.op("Gelu", domain=CONTRIB)
def gelu(x: Tensor) -> Tensor:
    """Gelu by the error function."""
    return F.gelu(x)


@OPS.op("BiasGelu", domain=CONTRIB)
def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Gelu(x + bias)."""
    return F.gelu(x + bias)


@OPS.op("FastGelu", domain=CONTRIB)
def fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gelu(x + bias) by the tanh formula."""
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@OPS.op("QuickGelu", domain=CONTRIB)
def quick_gelu(x: Tensor, *, alpha: float = 1.702) -> Tensor:
    """`x sigmoid(alpha x)`."""
    return x * torch.sigmoid(x * alpha)


@OPS.op("FusedConv", domain=CONTRIB)
def fused_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    z: Tensor | None = None,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    site: Site,
) -> Tensor:
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
        site=site,
    )
    return _activated(site, y if z is None else y + z, activation, activation_params)


def _activated(site: Site, y: Tensor, name: str, numbers: Sequence[float]) -> Tensor:
    function = _FUSED.get(name)
    if function is None:
        site.decline(f"activation {name!r} is none of {', '.join(sorted(filter(None, _FUSED)))}")
    return function(y, *numbers)


@OPS.op("FusedGemm", domain=CONTRIB)
def fused_gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    activation: str = "",
    activation_alpha: float = 0.01,
    activation_beta: float = 0.0,
    activation_gamma: float = 0.0,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803  # ONNX's name
    transB: int = 0,  # noqa: N803
    site: Site,
) -> Tensor:
    """activation(Gemm(a, b, c))."""
    del activation_gamma
    y = gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB, site=site)
    takes_numbers = activation in ("LeakyRelu", "Clip", "HardSigmoid")
    numbers = (activation_alpha, activation_beta) if takes_numbers else ()
    return _activated(site, y, activation, numbers)


@OPS.op("FusedMatMul", "TransposeMatMul", domain=CONTRIB)
def fused_matmul(
    a: Tensor,
    b: Tensor,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803  # ONNX's name
    transB: int = 0,  # noqa: N803
    transBatchA: int = 0,  # noqa: N803
    transBatchB: int = 0,  # noqa: N803
    site: Site,
) -> Tensor:
    """`alpha a b`, operands transposed in their last two axes, or their first moved there."""
    a = _turned(site, 0, a, transA, transBatchA)
    y = torch.matmul(a, _turned(site, 1, b, transB, transBatchB))
    return y if alpha == 1.0 else y * alpha


def _turned(site: Site, index: int, x: Tensor, last: int, batch: int) -> Tensor:
    if batch:
        x = torch.movedim(x, 0, -2)
    return x.transpose(-1, -2) if last and site.rank(index) > 1 else x


@OPS.op("SkipLayerNormalization", domain=CONTRIB)
def skip_layer_normalization(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    epsilon: float = _TINY,
    site: Site,
) -> Any:
    """LayerNormalization of x + skip + bias, its mean and 1 / deviation, and the sum itself."""
    total = x + skip if bias is None else x + skip + bias
    size = site.sizes(2, gamma)
    if site.outputs == 1:
        return F.layer_norm(total, size, gamma, beta, epsilon)
    made = torch.native_layer_norm(total, size, gamma, beta, epsilon)
    return made[0], made[1], made[2], total


@OPS.op("SkipSimplifiedLayerNormalization", domain=CONTRIB)
def skip_simplified_layer_normalization(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    bias: Tensor | None = None,
    *,
    epsilon: float = _TINY,
    site: Site,
) -> Any:
    """RMSNormalization of x + skip + bias, (no mean), 1 / deviation, and the sum itself."""
    total = x + skip if bias is None else x + skip + bias
    y = F.rms_norm(total, site.sizes(2, gamma), gamma, epsilon)
    inverse = _inverse(total, epsilon)
    return y, torch.zeros_like(inverse), inverse, total


@OPS.op("SimplifiedLayerNormalization", domain=CONTRIB)
@OPS.op("SimplifiedLayerNormalization")
def simplified_layer_normalization(
    x: Tensor,
    scale: Tensor,
    *,
    axis: int = -1,
    epsilon: float = 1e-05,
    stash_type: int = 1,
    site: Site,
) -> Any:
    """RMSNormalization under its older name, and 1 / deviation."""
    del stash_type
    site.require(site.axis(axis) == site.rank(0) - 1, "only the last axis has a torch form")
    return F.rms_norm(x, site.sizes(1, scale), scale, epsilon), _inverse(x, epsilon)


def _inverse(x: Tensor, epsilon: float) -> Tensor:
    return torch.rsqrt(x.float().square().mean(-1, keepdim=True) + epsilon)


@OPS.op("EmbedLayerNormalization", domain=CONTRIB)
def embed_layer_normalization(
    input_ids: Tensor,
    segment_ids: Tensor | None,
    words: Tensor,
    positions: Tensor,
    segments: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    *,
    epsilon: float = _TINY,
    mask_index_type: int = 1,
    site: Site,
) -> Any:
    """LayerNormalization of summed embeddings, how many tokens the mask keeps, and the sum."""
    del mask_index_type
    batch, length = site.sizes(0, input_ids)
    if position_ids is None:
        position_ids = site.call(torch.arange, length, device=input_ids.device).unsqueeze(0)
    total = F.embedding(input_ids, words) + F.embedding(position_ids, positions)
    if segments is not None and segment_ids is not None:
        total = total + F.embedding(segment_ids, segments)
    y = F.layer_norm(total, site.sizes(5, gamma), gamma, beta, epsilon)
    if mask is None:
        kept = site.call(torch.zeros, (batch,), dtype=torch.int32, device=input_ids.device)
    else:
        kept = mask.sum(1, dtype=torch.int32)
    return y, kept, total
