"""The block of MobileOne: several equal convolutions, a pointwise one and the identity."""

from collections.abc import Callable

from torch import Tensor, nn

from addax.frontend.layers.conv_norm import ConvNorm, same_padding
from addax.frontend.layers.joining import add_up, at_least_one

__all__ = ["MobileOneBlock"]


class MobileOneBlock(nn.Module):
    """B + 2 branches that merge into one convolution: x[N, I, H, W] -> [N, O, H / s, W / s].

        y = act(sum_b BN_b(W_b * x) + BN(W_1 * x) + BN(x)),   b = 1..B

    The W_b are kernel x kernel; the 1 x 1 branch is there if the kernel is larger, the identity if
    I = O and the stride is 1. A depthwise block has groups = I = O, a pointwise one kernel = 1.

    Args:
        inputs: channels I.
        outputs: channels O.
        kernel: size of the kernels, odd.
        stride: stride s of all convolutions.
        groups: groups of all convolutions.
        branches: number B of equal branches.
        activation: makes the activation after the sum.

    Source: Vasu et al., "MobileOne: An Improved One millisecond Mobile Backbone", CVPR 2023
    (2206.04040).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        branches: int = 4,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        padding = same_padding(kernel)
        self.dense = nn.ModuleList(
            ConvNorm(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups)
            for _ in range(at_least_one("branches", branches))
        )
        has_scale = kernel > 1
        self.pointwise = (
            ConvNorm(inputs, outputs, 1, stride=stride, groups=groups) if has_scale else None
        )
        has_identity = inputs == outputs and stride == 1
        self.identity = nn.BatchNorm2d(inputs) if has_identity else None
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x[N, I, H, W]."""
        others = [part for part in (self.pointwise, self.identity) if part is not None]
        y: Tensor = self.act(add_up([branch(x) for branch in (*self.dense, *others)]))
        return y
