"""Blocks of networks for phones: FastViT, RepViT, LeViT.

Sources: FastViT (arXiv 2303.14189), RepViT (2307.09283), LeViT (2104.01136).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.train_forms._blocks import LayerScale, Residual, Sum, attend, conv_bn
from bench.train_forms._form import TrainForm
from bench.train_forms.convolutions import IMAGE, C, conv, mobileone_branches


class RepMixer(nn.Module):
    """x + s * (m(x) - n(x)): m depthwise branches, n a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer = mobileone_branches(C, C, 3, groups=C, copies=1)
        self.norm = nn.BatchNorm2d(C)
        self.scale = LayerScale(C, axes=2)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the pixels of x[B, C, H, W]."""
        return x + self.scale(self.mixer(x) - self.norm(x))


def convolutional_mlp() -> nn.Module:
    """A depthwise 7 x 7 with its norm, an MLP of 1 x 1, a layer scale, the shortcut."""
    return Residual(
        conv_bn(C, C, 7, groups=C),
        nn.Conv2d(C, 3 * C, 1),
        nn.GELU(),
        nn.Conv2d(3 * C, C, 1),
        LayerScale(C, axes=2),
    )


def fastvit() -> nn.Module:
    """Token mixing, then channel mixing."""
    return nn.Sequential(RepMixer(), convolutional_mlp())


def fastvit_ideal() -> nn.Module:
    """Four convolutions and one shortcut."""
    mlp = (conv(C, C, 7, groups=C), conv(C, 3 * C, 1), nn.GELU(), conv(3 * C, C, 1))
    return nn.Sequential(conv(C, C, 3, groups=C), Residual(*mlp))


def repvit() -> nn.Module:
    """The norm of a sum of depthwise branches, then a residual MLP of 1 x 1 with norms."""
    mixer = Sum(conv_bn(C, C, 3, groups=C), nn.Conv2d(C, C, 1, groups=C), nn.Identity())
    mlp = Residual(conv_bn(C, 2 * C, 1), nn.GELU(), conv_bn(2 * C, C, 1))
    return nn.Sequential(mixer, nn.BatchNorm2d(C), mlp)


def repvit_ideal() -> nn.Module:
    """Depthwise, then the residual MLP."""
    mlp = Residual(conv(C, 2 * C, 1), nn.GELU(), conv(2 * C, C, 1))
    return nn.Sequential(conv(C, C, 3, groups=C), mlp)


class LinearNorm(nn.Module):
    """A linear map and the batch norm of its flattened tokens: x[B, N, D] -> [B, N, D']."""

    def __init__(self, inputs: int, outputs: int, norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=not norm)
        self.norm = nn.BatchNorm1d(outputs) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Map the tokens of x[B, N, D]."""
        y: Tensor = self.linear(x)
        return y if self.norm is None else self.norm(y.flatten(0, 1)).reshape_as(y)


class LeViT(nn.Module):
    """Residual attention with a trained bias of the scores, and a residual MLP."""

    def __init__(self, dim: int, tokens: int, norm: bool) -> None:
        super().__init__()
        self.heads, self.dim = 2, dim
        self.qkv = LinearNorm(dim, 3 * dim, norm)
        self.bias = nn.Parameter(torch.zeros(self.heads, tokens, tokens))
        self.proj = nn.Sequential(nn.Hardswish(), LinearNorm(dim, dim, norm))
        self.mlp = nn.Sequential(
            LinearNorm(dim, 2 * dim, norm), nn.Hardswish(), LinearNorm(2 * dim, dim, norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x[B, N, D]."""
        parts = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in parts)
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + self.bias
        x = x + self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(x)


class Attending(nn.Module):
    """Attention whose q, k and v come from linears of their own, each with a batch norm."""

    def __init__(self, dim: int, norm: bool) -> None:
        super().__init__()
        self.maps = nn.ModuleList(LinearNorm(dim, dim, norm) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D]."""
        q, k, v = (linear(x) for linear in self.maps)
        return attend(q, k, v, heads=2)


class Merged(nn.Module):
    """Attention whose q, k and v come from one linear."""

    def __init__(self, dim: int, heads: int = 2) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D]."""
        return attend(*self.qkv(x).chunk(3, dim=-1), self.heads)


def _form(
    name: str,
    trained: Callable[[], nn.Module],
    ideal: Callable[[], nn.Module],
    shape: tuple[int, ...] = IMAGE,
) -> TrainForm:
    return TrainForm(name, "networks for phones", trained, ideal, shape)


FORMS = (
    _form("repmixer", RepMixer, lambda: conv(C, C, 3, groups=C)),
    _form("fastvit", fastvit, fastvit_ideal),
    _form("repvit", repvit, repvit_ideal),
    _form("levit", lambda: LeViT(16, 6, True), lambda: LeViT(16, 6, False), (2, 6, 16)),
    _form("normed-heads", lambda: Attending(16, True), lambda: Merged(16), (2, 6, 16)),
)
