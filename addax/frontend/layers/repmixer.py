"""The token mixer of FastViT: a depthwise convolution with its own input taken out and added."""

import torch
from torch import Tensor, nn

from addax.frontend.layers.joining import at_least_one
from addax.frontend.layers.mobileone import MobileOneBlock

__all__ = ["RepMixer"]


class RepMixer(nn.Module):
    """One depthwise convolution in the end: x[N, C, H, W] -> [N, C, H, W].

        y = x + scale * (mix(x) - BN(x))

    mix is a depthwise `MobileOneBlock` without activation, scale[C] is trained.

    Args:
        dim: channels C.
        kernel: size of the kernel, odd.
        branches: equal branches of mix.
        scale: start of the trained factor.

    Source: Vasu et al., "FastViT: A Fast Hybrid Vision Transformer using Structural
    Reparameterization", ICCV 2023 (2303.14189), eq. 2 with the layer scale of its code.
    """

    def __init__(
        self, dim: int, kernel: int = 3, *, branches: int = 1, scale: float = 1e-5
    ) -> None:
        super().__init__()
        self.mix = MobileOneBlock(
            at_least_one("dim", dim),
            dim,
            kernel,
            groups=dim,
            branches=branches,
            activation=nn.Identity,
        )
        self.norm = nn.BatchNorm2d(dim)
        self.scale = nn.Parameter(torch.full((dim, 1, 1), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of x[N, C, H, W]."""
        y: Tensor = x + self.scale * (self.mix(x) - self.norm(x))
        return y
