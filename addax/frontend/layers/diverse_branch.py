"""The diverse branch block: a convolution, a pointwise one, a sequence of both, and a mean."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from addax.frontend.layers.conv_norm import ConvNorm, same_padding

__all__ = ["DiverseBranchBlock", "NormThenPad"]


class NormThenPad(nn.BatchNorm2d):
    """Batch norm, then a border of what it makes of zero: x[N, C, H, W] -> [N, C, H+2p, W+2p].

    A border of zeros after a batch norm is no linear function of the zeros around its input: the
    shift is missing there, and the convolution after it could not be merged with the one before.
    With this border it can: in evaluation, norm(pad(x)) is the same.
    """

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__(channels)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x[N, C, H, W] and put the border around it."""
        border = (self.padding,) * 4
        if not self.training:
            return super().forward(functional.pad(x, border))
        y = super().forward(x)
        # Copies: the next call changes the statistics before this one's gradients are asked for.
        mean = cast("Tensor", self.running_mean).clone()
        deviation = torch.sqrt(cast("Tensor", self.running_var) + self.eps)
        of_zero = (self.bias - mean * self.weight / deviation).view(-1, 1, 1)
        # Padding the difference from it with zeros is padding with it.
        return functional.pad(y - of_zero, border) + of_zero


class DiverseBranchBlock(nn.Module):
    """Four branches that merge into one convolution: x[N, I, H, W] -> [N, O, H / s, W / s].

        y = act(BN(W_k * x) + BN(W_1 * x) + BN(V_k * P(V_1 * x)) + BN(mean_k(P(U_1 * x))))

    W_k and V_k are kernel x kernel, W_1, V_1 and U_1 are 1 x 1, mean_k is the average of
    kernel x kernel numbers, and P is `NormThenPad`. V_1 keeps the number of channels.

    Args:
        inputs: channels I.
        outputs: channels O.
        kernel: size of the large kernels, odd, 3 or more.
        stride: stride s of the last operation of each branch.
        groups: groups of all convolutions.
        activation: makes the activation after the sum.

    Source: Ding et al., "Diverse Branch Block: Building a Convolution as an Inception-like Unit",
    CVPR 2021 (2103.13425).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        p = same_padding(kernel)
        self.dense = ConvNorm(inputs, outputs, kernel, stride=stride, padding=p, groups=groups)
        self.pointwise = ConvNorm(inputs, outputs, 1, stride=stride, groups=groups)
        self.sequence = nn.Sequential(
            nn.Conv2d(inputs, inputs, 1, groups=groups, bias=False),
            NormThenPad(inputs, p),
            ConvNorm(inputs, outputs, kernel, stride=stride, groups=groups),
        )
        self.mean = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, groups=groups, bias=False),
            NormThenPad(outputs, p),
            nn.AvgPool2d(kernel, stride),
            nn.BatchNorm2d(outputs),
        )
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x[N, I, H, W]."""
        total = self.dense(x) + self.pointwise(x) + self.sequence(x) + self.mean(x)
        y: Tensor = self.act(total)
        return y
