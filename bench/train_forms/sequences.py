"""Convolutions after convolutions, and branches of them: DBB, collapsible blocks, embeddings.

Sources: Diverse Branch Block (arXiv 2103.13425) with the padding of its authors' code, SESR
(2103.09404), ConvNeXt (2201.03545), InceptionNeXt (2303.16900).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.train_forms._blocks import LayerScale, Residual, Sum, conv_bn
from bench.train_forms._form import TrainForm
from bench.train_forms.convolutions import IMAGE, C, conv, single


class BatchNormAndPad(nn.Module):
    """Batch norm whose border is what it makes of zeros: x[B, C, H, W] -> [B, C, H + 2p, W + 2p].

    A convolution without padding that follows is then one convolution with the one before.
    """

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Normalize, and pad with the norm of zero."""
        bn, p = self.bn, self.padding
        assert bn.running_mean is not None
        assert bn.running_var is not None
        y = functional.pad(bn(x), (p, p, p, p))
        zero = bn.bias - bn.running_mean * bn.weight / torch.sqrt(bn.running_var + bn.eps)
        zero = zero.view(1, -1, 1, 1)
        y[:, :, :p, :] = zero
        y[:, :, -p:, :] = zero
        y[:, :, :, :p] = zero
        y[:, :, :, -p:] = zero
        return y


def pointwise_then(size: int) -> nn.Module:
    """1 x 1, a norm that pads, and a convolution without padding."""
    return nn.Sequential(
        nn.Conv2d(C, C, 1, bias=False),
        BatchNormAndPad(C, size // 2),
        conv_bn(C, C, size, padding=0),
    )


def pointwise_average() -> nn.Module:
    """1 x 1, a norm that pads, and an average."""
    return nn.Sequential(
        nn.Conv2d(C, C, 1, bias=False),
        BatchNormAndPad(C, 1),
        nn.AvgPool2d(3, 1),
        nn.BatchNorm2d(C),
    )


def dbb() -> nn.Module:
    """All four branches of the paper."""
    branches = (conv_bn(C, C, 3), conv_bn(C, C, 1), pointwise_then(3), pointwise_average())
    return nn.Sequential(Sum(*branches), nn.ReLU())


def dbb_strided() -> nn.Module:
    """Without padding, in steps of two."""
    chain = nn.Sequential(conv_bn(C, C, 1), conv_bn(C, C, 3, stride=2, padding=0))
    average = nn.Sequential(conv_bn(C, C, 1), nn.AvgPool2d(3, 2), nn.BatchNorm2d(C))
    return nn.Sequential(Sum(conv_bn(C, C, 3, stride=2, padding=0), chain, average), nn.ReLU())


def collapsible() -> nn.Module:
    """3 x 3 to many channels, 1 x 1 back, and the identity."""
    wide = nn.Conv2d(C, 8 * C, 3, padding=1, bias=False)
    return nn.Sequential(Residual(wide, nn.Conv2d(8 * C, C, 1)), nn.PReLU())


def expanded() -> nn.Module:
    """1 x 1 to many channels and batch norm, then 3 x 3 back, without padding."""
    return nn.Sequential(conv_bn(C, 4 * C, 1), conv_bn(4 * C, C, 3, padding=0), nn.ReLU())


def before_and_after() -> nn.Module:
    """Batch norm before a convolution without padding and after it."""
    return nn.Sequential(nn.BatchNorm2d(C), conv_bn(C, C, 3, padding=0), nn.ReLU())


class Normalised(nn.Module):
    """Pixels in 0..255 are normalized, then embedded in patches: x[B, 3, H, W] -> [B, N, D]."""

    def __init__(self, has_normalization: bool) -> None:
        super().__init__()
        self.has_normalization = has_normalization
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.proj = nn.Conv2d(3, 16, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of an image."""
        if self.has_normalization:
            x = (x / 255 - self.mean) / self.std
        return self.proj(x).flatten(2).transpose(1, 2)


class ConvNeXt(nn.Module):
    """Depthwise 7 x 7, LayerNorm over channels, an MLP, a layer scale, the shortcut."""

    def __init__(self, gamma: bool, affine: bool) -> None:
        super().__init__()
        self.mix = nn.Conv2d(C, C, 7, padding=3, groups=C)
        scale = [LayerScale(C)] if gamma else []
        self.mlp = nn.Sequential(
            nn.LayerNorm(C, elementwise_affine=affine),
            nn.Linear(C, 4 * C),
            nn.GELU(),
            nn.Linear(4 * C, C),
            *scale,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x[B, C, H, W]."""
        return x + self.mlp(self.mix(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class InceptionNeXt(nn.Module):
    """Parts of the channels through kernels of their own, batch norm of all, a pointwise map."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        part = C // 4
        self.square = nn.Conv2d(part, part, 3, padding=1, groups=part)
        self.wide = nn.Conv2d(part, part, (1, 11), padding=(0, 5), groups=part)
        self.tall = nn.Conv2d(part, part, (11, 1), padding=(5, 0), groups=part)
        self.norm = nn.BatchNorm2d(C) if norm else nn.Identity()
        self.fc = nn.Conv2d(C, 2 * C, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x[B, C, H, W] to [B, 2C, H, W]."""
        same, square, wide, tall = x.chunk(4, dim=1)
        mixed = torch.cat([same, self.square(square), self.wide(wide), self.tall(tall)], dim=1)
        return functional.gelu(self.fc(self.norm(mixed)))


Build = Callable[[], nn.Module]


def _form(name: str, trained: Build, ideal: Build, shape: tuple[int, ...] = IMAGE) -> TrainForm:
    return TrainForm(name, "sequences of convolutions", trained, ideal, shape)


def unpadded(stride: int = 1) -> nn.Module:
    """One 3 x 3 without padding."""
    return nn.Sequential(nn.Conv2d(C, C, 3, stride), nn.ReLU())


FORMS = (
    _form("dbb", dbb, lambda: single(3)),
    _form("dbb-strided", dbb_strided, lambda: unpadded(2)),
    _form("collapsible", collapsible, lambda: nn.Sequential(conv(C, C, 3), nn.PReLU())),
    _form("expanded", expanded, unpadded),
    _form("norm-before-and-after", before_and_after, unpadded),
    _form(
        "patch-normalization", lambda: Normalised(True), lambda: Normalised(False), (2, 3, 16, 20)
    ),
    _form("convnext", lambda: ConvNeXt(True, True), lambda: ConvNeXt(False, False)),
    _form("inception-next", lambda: InceptionNeXt(True), lambda: InceptionNeXt(False)),
)
