"""A convolution and its batch norm: what every branch of a re-parameterizable block is made of."""

from torch import Tensor, nn

from addax.errors import OptionError
from addax.frontend.layers.joining import at_least_one

__all__ = ["ConvNorm", "same_padding"]


class ConvNorm(nn.Module):
    """BN(W * x), without a bias of the convolution: x[N, I, H, W] -> [N, O, H', W'].

    In evaluation it is one convolution: W g / s and t - m g / s, with s = sqrt(var + eps).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalize x[N, I, H, W]."""
        y: Tensor = self.norm(self.conv(x))
        return y


def same_padding(kernel: int) -> int:
    """The padding that keeps the size at stride 1: (kernel - 1) / 2.

    Raises:
        OptionError: If the kernel is even, for then there is none.
    """
    if at_least_one("kernel", kernel) % 2 == 0:
        raise OptionError(
            f"expected kernel to be odd, so that branches of other kernels lie in its middle; "
            f"got {kernel}"
        )
    return kernel // 2
