"""Activations, softmax and its kin."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor

OPS = Converters()

OPS.add("HardSwish", F.hardswish, since=14)
OPS.add("Mish", F.mish, since=18)
OPS.add("Softsign", F.softsign)

_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875


@OPS.op("Relu")
def relu(x: Tensor, *, consumed_inputs: Sequence[int] = ()) -> Tensor:
    """`max(x, 0)`."""
    return F.relu(x)


@OPS.op("Sigmoid")
def sigmoid(x: Tensor, *, consumed_inputs: Sequence[int] = ()) -> Tensor:
    """`1 / (1 + exp(-x))`."""
    return torch.sigmoid(x)


@OPS.op("Tanh")
def tanh(x: Tensor, *, consumed_inputs: Sequence[int] = ()) -> Tensor:
    """The hyperbolic tangent."""
    return torch.tanh(x)


@OPS.op("LeakyRelu")
def leaky_relu(x: Tensor, *, alpha: float = 0.01, consumed_inputs: Sequence[int] = ()) -> Tensor:
    """`x`, times `alpha` where negative."""
    return F.leaky_relu(x, alpha)


@OPS.op("PRelu")
def prelu_by_channel(x: Tensor, slope: Tensor, *, consumed_inputs: Sequence[int] = ()) -> Tensor:
    """`x`, times the slope of all or of its channel where negative, as before opset 7."""
    del consumed_inputs
    return F.prelu(x, slope.reshape(-1))


@OPS.op("PRelu", since=7)
def prelu(x: Tensor, slope: Tensor, *, site: Site) -> Tensor:
    """`x`, times `slope` where negative; the slope broadcasts to `x`."""
    shape, rank = site.static_shape(1), site.rank(0)
    if shape is not None and rank > 1:
        per_channel = len(shape) == rank - 1 and set(shape[1:]) <= {1}
        if per_channel or all(d == 1 for d in shape):
            return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


@OPS.op("Elu")
def elu(x: Tensor, *, alpha: float = 1.0, consumed_inputs: Sequence[int] = ()) -> Tensor:
    """`alpha (exp(x) - 1)` where negative."""
    return F.elu(x, alpha)


@OPS.op("Celu")
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """`alpha (exp(x / alpha) - 1)` where negative."""
    return F.celu(x, alpha)


@OPS.op("Selu")
def selu(
    x: Tensor,
    *,
    alpha: float | None = None,
    gamma: float | None = None,
    consumed_inputs: Sequence[int] = (),
    site: Site,
) -> Tensor:
    """`gamma` times Elu."""
    old = site.opset < 6
    alpha = (float(np.float32(1.6732)) if old else _SELU_ALPHA) if alpha is None else alpha
    gamma = (float(np.float32(1.0507)) if old else _SELU_GAMMA) if gamma is None else gamma
    if (alpha, gamma) == (_SELU_ALPHA, _SELU_GAMMA) and site.dtype(0) != ir.DataType.DOUBLE:
        return F.selu(x)
    return gamma * F.elu(x, alpha)


@OPS.op("ThresholdedRelu")
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """`x` where it is greater than `alpha`, else 0."""
    return F.threshold(x, alpha, 0.0)


@OPS.op("HardSigmoid")
def hard_sigmoid(
    x: Tensor,
    *,
    alpha: float = 0.2,
    beta: float = 0.5,
    consumed_inputs: Sequence[int] = (),
    site: Site,
) -> Tensor:
    """`alpha x + beta` kept within 0 and 1."""
    if (alpha, beta) == (float(np.float32(1 / 6)), 0.5) and site.dtype(0) != ir.DataType.DOUBLE:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0, 1)


@OPS.op("Softplus")
def softplus(x: Tensor, *, site: Site) -> Tensor:
    """`log(1 + exp(x))`."""
    # Above its threshold torch returns x, which is off by exp(-threshold).
    return F.softplus(x, threshold=40) if site.dtype(0) == ir.DataType.DOUBLE else F.softplus(x)


@OPS.op("Gelu", since=20)
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """`x` times the normal distribution function of `x`, or its tanh form."""
    return F.gelu(x, approximate=approximate)


@OPS.op("Swish", since=24)
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """`x sigmoid(alpha x)`."""
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(x * alpha)


@OPS.op("Shrink")
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """`x` moved towards 0 by `bias`, and 0 between `-lambd` and `lambd`."""
    inner = torch.where(x > lambd, x - bias, torch.zeros_like(x))
    return torch.where(x < -lambd, x + bias, inner)


@OPS.op("Softmax", since=13)
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Softmax along one axis."""
    return F.softmax(x, dim=axis)


@OPS.op("LogSoftmax", since=13)
def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """The logarithm of softmax along one axis."""
    return F.log_softmax(x, dim=axis)


@OPS.op("Hardmax", since=13)
def hardmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """1 at the first greatest element along an axis, else 0."""
    winner = torch.argmax(x, dim=axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, winner, 1)


@OPS.op("Softmax")
def softmax_of_matrix(x: Tensor, *, axis: int = 1, site: Site) -> Tensor:
    """Softmax over all axes from `axis` on, as before opset 13."""
    return softmax(_rows(x, axis, site)).reshape(x.shape)


@OPS.op("LogSoftmax")
def log_softmax_of_matrix(x: Tensor, *, axis: int = 1, site: Site) -> Tensor:
    """The logarithm of softmax over all axes from `axis` on, as before opset 13."""
    return log_softmax(_rows(x, axis, site)).reshape(x.shape)


@OPS.op("Hardmax")
def hardmax_of_matrix(x: Tensor, *, axis: int = 1, site: Site) -> Tensor:
    """1 at the first greatest element over all axes from `axis` on, as before opset 13."""
    return hardmax(_rows(x, axis, site)).reshape(x.shape)


def _rows(x: Tensor, axis: int, site: Site) -> Tensor:
    """`x` with all axes from `axis` on made one."""
    rank = site.rank(0)
    axis = axis + rank if axis < 0 else axis
    return x.flatten(axis) if axis < rank else x.unsqueeze(-1)
