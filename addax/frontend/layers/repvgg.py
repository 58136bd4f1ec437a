"""The block of RepVGG: a convolution, a pointwise one and the identity, each normalized."""

from collections.abc import Callable

from torch import Tensor, nn

from addax.frontend.layers.conv_norm import ConvNorm, same_padding

__all__ = ["RepVGGBlock"]


class RepVGGBlock(nn.Module):
    """Three branches that merge into one convolution: x[N, I, H, W] -> [N, O, H / s, W / s].

        y = act(BN(W_k * x) + BN(W_1 * x) + BN(x))

    W_k is kernel x kernel, W_1 is 1 x 1 and lies in the middle of W_k, and the identity, which is
    there if I = O and the stride is 1, is the kernel with a one in its middle.

    Args:
        inputs: channels I.
        outputs: channels O.
        kernel: size of the large kernel, odd.
        stride: stride s of both convolutions.
        groups: groups of both convolutions.
        activation: makes the activation after the sum.

    Source: Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021 (2101.03697).
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
        padding = same_padding(kernel)
        self.dense = ConvNorm(
            inputs, outputs, kernel, stride=stride, padding=padding, groups=groups
        )
        self.pointwise = ConvNorm(inputs, outputs, 1, stride=stride, groups=groups)
        has_identity = inputs == outputs and stride == 1
        self.identity = nn.BatchNorm2d(inputs) if has_identity else None
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x[N, I, H, W]."""
        total = self.dense(x) + self.pointwise(x)
        if self.identity is not None:
            total = total + self.identity(x)
        y: Tensor = self.act(total)
        return y
