"""Parallel convolutions whose sum is one: RepVGG, ACNet, MobileOne, large kernels, others.

Sources: RepVGG (arXiv 2101.03697), ACNet (1908.03930), MobileOne (2206.04040), RepLKNet
(2203.06717), UniRepLKNet (2311.15599).
"""

import functools
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from bench.train_forms._blocks import Sum, conv_bn
from bench.train_forms._form import TrainForm

Build = Callable[[], nn.Module]
C = 8
IMAGE = (2, C, 9, 10)


def conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """The one convolution that branches fold to."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups)


def repvgg_block(inputs: int, outputs: int, stride: int, groups: int = 1) -> nn.Module:
    """3 x 3 beside 1 x 1, beside the identity where the shape allows."""
    branches: list[nn.Module] = [
        conv_bn(inputs, outputs, 3, stride=stride, groups=groups),
        conv_bn(inputs, outputs, 1, stride=stride, groups=groups),
    ]
    if inputs == outputs and stride == 1:
        branches.append(nn.BatchNorm2d(outputs))
    return nn.Sequential(Sum(*branches), nn.ReLU())


def mobileone_branches(
    inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1, copies: int = 3
) -> nn.Module:
    """Copies of one convolution, a 1 x 1 beside larger ones, the identity where it fits."""
    branches: list[nn.Module] = [
        conv_bn(inputs, outputs, size, stride=stride, groups=groups) for _ in range(copies)
    ]
    if size > 1:
        branches.append(conv_bn(inputs, outputs, 1, stride=stride, groups=groups))
    if inputs == outputs and stride == 1:
        branches.append(nn.BatchNorm2d(outputs))
    return Sum(*branches)


def mobileone_block(stride: int) -> nn.Module:
    """Depthwise, then pointwise, each with its branches."""
    return nn.Sequential(
        mobileone_branches(C, C, 3, stride=stride, groups=C),
        nn.ReLU(),
        mobileone_branches(C, 2 * C, 1),
        nn.ReLU(),
    )


def mobileone_ideal(stride: int) -> nn.Module:
    """Depthwise, then pointwise."""
    return nn.Sequential(conv(C, C, 3, stride, groups=C), nn.ReLU(), conv(C, 2 * C, 1), nn.ReLU())


def acnet() -> nn.Module:
    """3 x 3 beside its middle row and its middle column."""
    return nn.Sequential(
        Sum(conv_bn(C, C, 3), conv_bn(C, C, (1, 3)), conv_bn(C, C, (3, 1))), nn.ReLU()
    )


def large_kernel() -> nn.Module:
    """A depthwise 13 x 13 beside 5 x 5."""
    return nn.Sequential(Sum(conv_bn(C, C, 13, groups=C), conv_bn(C, C, 5, groups=C)), nn.GELU())


def dilated() -> nn.Module:
    """A depthwise 13 x 13 beside dilated kernels that fit into it."""
    sizes = ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5))
    branches = [conv_bn(C, C, size, dilation=d, groups=C) for size, d in sizes]
    return nn.Sequential(Sum(conv_bn(C, C, 13, groups=C), *branches), nn.GELU())


class EvenKernels(nn.Module):
    """4 x 4 beside 2 x 2, padded on one side more than on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.large = conv_bn(C, C, 4, padding=0)
        self.small = conv_bn(C, C, 2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        """Add both, x[B, C, H, W] -> [B, C, H, W]."""
        large = self.large(functional.pad(x, (1, 2, 1, 2)))
        return functional.relu(large + self.small(functional.pad(x, (0, 1, 0, 1))))


def even_ideal() -> nn.Module:
    """One 4 x 4."""
    return nn.Sequential(nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(C, C, 4), nn.ReLU())


def grouped() -> nn.Module:
    """Four groups beside two: two groups hold both."""
    return nn.Sequential(Sum(conv_bn(C, C, 3, groups=4), conv_bn(C, C, 3, groups=2)), nn.ReLU())


def depthwise_beside_dense() -> nn.Module:
    """A depthwise kernel is a dense one with zeros."""
    return nn.Sequential(Sum(conv_bn(C, C, 3), conv_bn(C, C, 3, groups=C)), nn.ReLU())


def inception() -> nn.Module:
    """1 x 1, 3 x 3 and 5 x 5, added and scaled by one batch norm."""
    branches = [nn.Conv2d(C, C, size, padding=size // 2) for size in (1, 3, 5)]
    return nn.Sequential(Sum(*branches), nn.BatchNorm2d(C), nn.ReLU())


def one_dimension() -> nn.Module:
    """Sequences x[B, C, T]: kernels 5 and 1 beside the identity."""
    long = nn.Sequential(nn.Conv1d(C, C, 5, padding=2, bias=False), nn.BatchNorm1d(C))
    short = nn.Sequential(nn.Conv1d(C, C, 1, bias=False), nn.BatchNorm1d(C))
    return nn.Sequential(Sum(long, short, nn.BatchNorm1d(C)), nn.ReLU())


def transposed() -> nn.Module:
    """A transposed convolution in groups, and its batch norm."""
    up = nn.ConvTranspose2d(C, C, 4, 2, 1, groups=2, bias=False)
    return nn.Sequential(up, nn.BatchNorm2d(C), nn.ReLU())


def pooled() -> nn.Module:
    """3 x 3 beside the average of 3 x 3, zeros of the border counted."""
    return nn.Sequential(Sum(conv_bn(C, C, 3), nn.AvgPool2d(3, 1, 1)), nn.ReLU())


def activated(build: nn.Module, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    """A convolution and what follows it."""
    return nn.Sequential(build, activation())


def _form(name: str, trained: Build, ideal: Build, shape: tuple[int, ...] = IMAGE) -> TrainForm:
    return TrainForm(name, "parallel convolutions", trained, ideal, shape)


def repvgg(groups: int = 1) -> nn.Module:
    """Two blocks: one that halves the image and doubles the channels, one with an identity."""
    return nn.Sequential(repvgg_block(C, 2 * C, 2, groups), repvgg_block(2 * C, 2 * C, 1, groups))


def repvgg_ideal(groups: int = 1) -> nn.Module:
    """Two 3 x 3."""
    first, second = conv(C, 2 * C, 3, 2, groups), conv(2 * C, 2 * C, 3, 1, groups)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


def single(size: int, groups: int = 1, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    """One convolution and its activation."""
    return activated(conv(C, C, size, groups=groups), activation)


FORMS = (
    _form("repvgg", repvgg, repvgg_ideal),
    _form("repvgg-grouped", functools.partial(repvgg, 2), functools.partial(repvgg_ideal, 2)),
    _form("mobileone", lambda: mobileone_block(1), lambda: mobileone_ideal(1)),
    _form("mobileone-strided", lambda: mobileone_block(2), lambda: mobileone_ideal(2)),
    _form("acnet", acnet, lambda: single(3)),
    _form("large-kernel", large_kernel, lambda: single(13, C, nn.GELU)),
    _form("dilated-branches", dilated, lambda: single(13, C, nn.GELU)),
    _form("even-kernels", EvenKernels, even_ideal),
    _form("unequal-groups", grouped, lambda: single(3, 2)),
    _form("depthwise-beside-dense", depthwise_beside_dense, lambda: single(3)),
    _form("inception-sum", inception, lambda: single(5)),
    _form(
        "one-dimension",
        one_dimension,
        lambda: activated(nn.Conv1d(C, C, 5, padding=2)),
        (2, C, 11),
    ),
    _form("transposed", transposed, lambda: activated(nn.ConvTranspose2d(C, C, 4, 2, 1, groups=2))),
    _form("average-beside-conv", pooled, lambda: single(3)),
)
