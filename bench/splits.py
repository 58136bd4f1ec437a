"""Trained weights in parts: a convolution or a linear as the sum of branches that it came from.

Every branch but one is drawn, batch norm statistics too, and the last takes what is left, so that
the sum is the trained weight again, within rounding.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from addax.demo.vit import Block
from bench.train_forms._blocks import Sum, conv_bn
from bench.train_forms._form import randomise
from bench.train_forms.sequences import BatchNormAndPad

SCALE = 0.1  # of a drawn branch, so that what is left stays of the trained weight's size


def scale_and_shift(norm: Any) -> tuple[Tensor, Tensor]:
    """What a batch norm does in evaluation: x * scale + shift, each [C], in float64."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _embedded(kernel: Tensor, conv: nn.Conv2d) -> Tensor:
    """A kernel in the middle of one of the convolution's size."""
    rows, columns = (a - b for a, b in zip(conv.kernel_size, kernel.shape[2:], strict=True))
    return functional.pad(kernel, (columns // 2, columns // 2, rows // 2, rows // 2))


Part = tuple[nn.Module, Tensor, Tensor]  # a branch, and the kernel and bias that it comes to


def _normed(conv: nn.Conv2d, size: int) -> Part:
    """A smaller or equal convolution and its batch norm."""
    branch = conv_bn(
        conv.in_channels, conv.out_channels, size, stride=conv.stride[0], groups=conv.groups
    )
    branch[0].weight.mul_(SCALE)
    randomise(branch)
    scale, shift = scale_and_shift(branch[1])
    kernel = branch[0].weight.double() * scale.view(-1, 1, 1, 1)
    return branch, _embedded(kernel, conv), shift


def _identity(conv: nn.Conv2d) -> list[Part]:
    """A batch norm of the input, where the shapes allow."""
    if conv.in_channels != conv.out_channels or conv.stride != (1, 1):
        return []
    norm = nn.BatchNorm2d(conv.in_channels)
    randomise(norm)
    norm.weight.mul_(SCALE)
    scale, shift = scale_and_shift(norm)
    each = conv.in_channels // conv.groups
    kernel = torch.eye(each, dtype=torch.float64).repeat(conv.groups, 1) * scale.view(-1, 1)
    return [(norm, _embedded(kernel[:, :, None, None], conv), shift)]


def _pointwise_then(conv: nn.Conv2d) -> list[Part]:
    """1 x 1, a norm that pads, and a convolution of the full size, for dense convolutions."""
    if conv.groups != 1:
        return []
    channels, size = conv.in_channels, conv.kernel_size[0]
    first = nn.Conv2d(channels, channels, 1, bias=False)
    pad = BatchNormAndPad(channels, size // 2)
    second = conv_bn(channels, conv.out_channels, size, stride=conv.stride[0], padding=0)
    second[0].weight.mul_(SCALE)
    branch = nn.Sequential(first, pad, second)
    randomise(branch)
    (inner, start), (outer, end) = scale_and_shift(pad.bn), scale_and_shift(second[1])
    pointwise = first.weight.double()[:, :, 0, 0] * inner.view(-1, 1)
    kernel = second[0].weight.double() * outer.view(-1, 1, 1, 1)
    bias = torch.einsum("omab,m->o", kernel, start) + end
    return [(branch, torch.einsum("omab,mi->oiab", kernel, pointwise), bias)]


def _repvgg(conv: nn.Conv2d) -> list[Part]:
    return [_normed(conv, 1), *_identity(conv)]


def _mobileone(conv: nn.Conv2d) -> list[Part]:
    size = conv.kernel_size[0]
    return [*(_normed(conv, size) for _ in range(2)), _normed(conv, 1), *_identity(conv)]


def _dbb(conv: nn.Conv2d) -> list[Part]:
    return [_normed(conv, 1), *_pointwise_then(conv)]


CONVOLUTIONS: dict[str, Callable[[nn.Conv2d], list[Part]]] = {
    "RepVGG": _repvgg,
    "MobileOne": _mobileone,
    "DBB": _dbb,
}


def split_convolution(conv: nn.Conv2d, style: str) -> nn.Module:
    """A padded square convolution as the sum of the style's branches."""
    parts = CONVOLUTIONS[style](conv)
    main = _normed(conv, conv.kernel_size[0])[0]
    scale, shift = scale_and_shift(main[1])
    kernel = conv.weight.double() - sum(kernel for _, kernel, _ in parts)
    bias = 0 if conv.bias is None else conv.bias.double()
    main[0].weight.copy_(kernel / scale.view(-1, 1, 1, 1))
    main[1].bias.add_(bias - sum(bias for _, _, bias in parts) - shift)
    return Sum(*(branch for branch, _, _ in parts), main)


class LowRank(nn.Module):
    """W x + b + s B A x, whose sum is a given linear."""

    def __init__(self, linear: nn.Linear, rank: int = 8, scale: float = 2.0) -> None:
        super().__init__()
        self.down = nn.Linear(linear.in_features, rank, bias=False)
        self.up = nn.Linear(rank, linear.out_features, bias=False)
        self.scale = scale
        self.base = copy.deepcopy(linear)
        product = self.up.weight.double() @ self.down.weight.double()
        self.base.weight.copy_(linear.weight.double() - scale * product)

    def forward(self, x: Tensor) -> Tensor:
        """Map x[..., D]."""
        return self.base(x) + self.up(self.down(x)) * self.scale


def split_linear(linear: nn.Linear, count: int = 3, norm: nn.LayerNorm | None = None) -> nn.Module:
    """A linear as a sum of linears; of LayerNorms and linears where its norm is given."""
    outputs, inputs = linear.weight.shape
    weight, bias = linear.weight.double(), linear.bias.double()
    if norm is not None:
        bias = bias + weight @ norm.bias.double()
        weight = weight * norm.weight.double()
    branches: list[nn.Module] = []
    for number in range(count):
        part = nn.Linear(inputs, outputs)
        own = None if norm is None else nn.LayerNorm(inputs, eps=norm.eps)
        gain, start = torch.ones(inputs).double(), torch.zeros(inputs).double()
        if own is not None:
            randomise(own)
            gain, start = own.weight.double(), own.bias.double()
        part.weight.mul_(SCALE)
        if number == count - 1:
            part.weight.copy_(weight / gain)
            part.bias.copy_(bias - part.weight.double() @ start)
        weight = weight - part.weight.double() * gain
        bias = bias - part.bias.double() - part.weight.double() @ start
        branches.append(part if own is None else nn.Sequential(own, part))
    return Sum(*branches)


def _split_block(block: Block) -> None:
    """Branches with norms of their own before attention and MLP, plain ones after them."""
    block.attn.qkv = split_linear(block.attn.qkv, norm=block.norm1)
    block.mlp.fc1 = split_linear(block.mlp.fc1, norm=block.norm2)
    block.norm1, block.norm2 = nn.Identity(), nn.Identity()
    block.attn.proj = split_linear(block.attn.proj)
    block.mlp.fc2 = split_linear(block.mlp.fc2)


STYLES = (*CONVOLUTIONS, "LoRA", "depth")


def split(module: nn.Module, style: str, seed: int = 0) -> nn.Module:
    """A trained network in the form of a style, as a copy in evaluation mode.

    RepVGG, MobileOne and DBB take its 3 x 3 convolutions, LoRA its linears, depth the linears of
    transformer blocks.

    Raises:
        KeyError: there is no such style.
    """
    if style not in STYLES:
        raise KeyError(f"expected one of {', '.join(STYLES)}; got {style!r}")
    made = copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for parent in list(made.modules()):
            if style == "depth":
                if isinstance(parent, Block):
                    _split_block(parent)
                continue
            for name, child in list(parent.named_children()):
                if style == "LoRA" and isinstance(child, nn.Linear):
                    setattr(parent, name, LowRank(child))
                elif style in CONVOLUTIONS and _is_square(child):
                    setattr(parent, name, split_convolution(child, style))
    return made.eval()


def _is_square(child: nn.Module) -> bool:
    return isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3)
