"""The block of ACNet: a square convolution beside a row and a column."""

from collections.abc import Callable

from torch import Tensor, nn

from addax.frontend.layers.conv_norm import ConvNorm, same_padding

__all__ = ["AsymmetricBlock"]


class AsymmetricBlock(nn.Module):
    """Three branches that merge into one convolution: x[N, I, H, W] -> [N, O, H / s, W / s].

        y = act(BN(W_kk * x) + BN(W_1k * x) + BN(W_k1 * x))

    The row W_1k and the column W_k1 lie in the middle of the square W_kk.

    Args:
        inputs: channels I.
        outputs: channels O.
        kernel: size k of the square, odd.
        stride: stride s of all convolutions.
        groups: groups of all convolutions.
        activation: makes the activation after the sum.

    Source: Ding et al., "ACNet: Strengthening the Kernel Skeletons for Powerful CNN via Asymmetric
    Convolution Blocks", ICCV 2019 (1908.03930).
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
        self.square, self.row, self.column = (
            ConvNorm(inputs, outputs, size, stride=stride, padding=padding, groups=groups)
            for size, padding in (
                ((kernel, kernel), (p, p)),
                ((1, kernel), (0, p)),
                ((kernel, 1), (p, 0)),
            )
        )
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x[N, I, H, W]."""
        y: Tensor = self.act(self.square(x) + self.row(x) + self.column(x))
        return y
