"""Normalizations."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Constant, Converters, Number, Tensor

OPS = Converters()

_EPSILON = 1e-05


@OPS.op("BatchNormalization", since=14)
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = _EPSILON,
    momentum: float = 0.9,
    training_mode: int = 0,
    site: Site,
) -> Tensor | tuple[Tensor, ...]:
    """Each channel scaled by its mean and variance, given or (in training) its own."""
    if not training_mode:
        return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)
    y = F.batch_norm(x, None, None, scale, bias, True, 0.0, epsilon)
    if site.outputs == 1:
        return y
    axes = [axis for axis in range(site.rank(0)) if axis != 1]
    own_variance, own_mean = torch.var_mean(x, axes, correction=0)
    return (
        y,
        mean * momentum + own_mean * (1 - momentum),
        variance * momentum + own_variance * (1 - momentum),
    )


@OPS.op("BatchNormalization")
def batch_normalization_for_inference(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    consumed_inputs: Sequence[int] = (),
    epsilon: float = _EPSILON,
    is_test: int = 1,
    momentum: float = 0.9,
    spatial: int = 1,
    site: Site,
) -> Tensor | tuple[Tensor, ...]:
    """Each channel scaled by its given mean and variance, as opsets before 14 write it."""
    del momentum, consumed_inputs
    site.require(bool(spatial), "statistics of single elements (spatial=0) have no torch form")
    site.require(bool(is_test or site.opset >= 7), "training of before opset 7 is not defined here")
    site.require(site.outputs == 1, "training outputs of before opset 14 are not defined here")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)


@OPS.op("InstanceNormalization")
def instance_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    epsilon: float = _EPSILON,
    consumed_inputs: Sequence[int] = (),
) -> Tensor:
    """Each channel of each image scaled by its own mean and variance."""
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


@OPS.op("GroupNormalization", since=21)
def group_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    epsilon: float = _EPSILON,
    num_groups: int,
    stash_type: int = 1,
) -> Tensor:
    """Each group of channels of each image scaled by its own mean and variance."""
    del stash_type
    return F.group_norm(x, num_groups, scale, bias, epsilon)


@OPS.op("LayerNormalization")  # ONNX Runtime takes it at any opset
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = _EPSILON,
    stash_type: int = 1,
    site: Site,
) -> Tensor | tuple[Tensor, ...]:
    """Scaled by mean and variance over all axes from `axis` on."""
    del stash_type
    made_of = site.node.outputs[0].dtype
    if made_of is not None and made_of != site.dtype(0):
        # ONNX Runtime also takes a scale of a wider type, which is the result's then.
        x = x.to(site.torch_dtype(made_of))
    sizes = list(site.sizes(0, x)[site.axis(axis) :])
    given = (1,) if bias is None else (1, 2)
    whole = all(site.static_shape(index) == tuple(sizes) for index in given)
    w, b = (scale, bias) if whole else (None, None)
    if site.outputs == 1:
        result: tuple[Tensor, ...] = (F.layer_norm(x, sizes, w, b, epsilon),)
    else:
        made = torch.native_layer_norm(x, sizes, w, b, epsilon)
        result = (made[0], made[1], made[2])
    if not whole:
        y = result[0] * scale
        result = (y if bias is None else y + bias, *result[1:])
    return result


@OPS.op("RMSNormalization", since=23)
def rms_normalization(
    x: Tensor,
    scale: Tensor,
    *,
    axis: int = -1,
    epsilon: float = _EPSILON,
    stash_type: int = 1,
    site: Site,
) -> Tensor:
    """Scaled by the root mean square over all axes from `axis` on."""
    del stash_type
    sizes = list(site.sizes(0, x)[site.axis(axis) :])
    if site.static_shape(1) == tuple(sizes):
        return F.rms_norm(x, sizes, scale, epsilon)
    return F.rms_norm(x, sizes, None, epsilon) * scale


@OPS.op("LRN")
def local_response_normalization(
    x: Tensor, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int, site: Site
) -> Tensor:
    """Divided by a power of the mean square over neighbouring channels."""
    left, right = (size - 1) // 2, size // 2
    outer = [0, 0] * (site.rank(0) - 2)
    squares = F.pad(x * x, [*outer, left, right]).unfold(1, size, 1).sum(-1)
    return x / (bias + alpha / size * squares) ** beta


@OPS.op("LpNormalization")
def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """Divided by its p-norm along an axis; zero where that is zero."""
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@OPS.op("Dropout", since=12)
def dropout(
    x: Tensor,
    ratio: Number | None = None,
    training_mode: Constant | None = None,
    *,
    seed: int | None = None,
    site: Site,
) -> Tensor | tuple[Tensor, ...]:
    """`x` itself: dropout is the identity in inference; a random training form is refused."""
    del seed
    is_random = training_mode is not None and bool(training_mode) and ratio != 0.0
    site.require(not is_random, "dropout in training is random: export the model in eval mode")
    return (x, torch.ones_like(x, dtype=torch.bool)) if site.outputs > 1 else x


@OPS.op("Dropout")
def dropout_for_inference(
    x: Tensor,
    *,
    consumed_inputs: Sequence[int] = (),
    is_test: int = 1,
    ratio: float = 0.5,
    site: Site,
) -> Tensor | tuple[Tensor, ...]:
    """`x` itself, as opsets before 12 write it."""
    del consumed_inputs, ratio
    site.require(bool(is_test or site.opset >= 7), "dropout in training is random")
    mask = torch.ones_like(x, dtype=torch.bool if site.opset >= 10 else None)
    return (x, mask) if site.outputs > 1 else x
