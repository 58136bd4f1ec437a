"""A vision transformer in plain torch, with the parameter names of timm.

Pre-norm blocks, one class token, learned positions, LayerNorm and GELU. The two halves of a block
are built by functions that the caller may replace, so that a variant (idle channels, parallel
branches, a mixture of experts) is this model with another `mlp` or `attention`.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021 (arXiv 2010.11929), eq. 1-4.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["Attention", "Block", "DigitsViT", "Mlp", "PatchEmbed", "VisionTransformer"]

# The epsilon of timm's and DeiT's vision transformers; torch's default is 1e-5.
EPSILON = 1e-6


class PatchEmbed(nn.Module):
    """An image as a sequence of linear images of its patches: x[B, C, H, W] -> [B, N, D].

    The sequence has one token a patch, N = (H / patch) * (W / patch), in row-major order.
    """

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Embed images x[B, C, H, W] as tokens [B, N, D]."""
        maps: Tensor = self.proj(x)
        return maps.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head softmax attention: softmax(q k^T / sqrt(D / heads)) v, x[B, N, D] -> [B, N, D]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D]."""
        batch, tokens, dim = x.shape
        qkv: Tensor = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        mixed: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, dim))
        return mixed


class Mlp(nn.Module):
    """Two linear maps with a GELU between them: x[..., D] -> [..., D] through `hidden` channels."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map each token of x[..., D] alone."""
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class Block(nn.Module):
    """One pre-norm layer: x + attn(norm1(x)), then x + mlp(norm2(x)), on x[B, N, D]."""

    def __init__(self, dim: int, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPSILON)
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim, eps=EPSILON)
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x[B, N, D]."""
        x = x + self.attn(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class VisionTransformer(nn.Module):
    """Classifies images x[B, channels, image, image] into logits [B, classes].

    Args:
        image: height and width of an image, in pixels; a multiple of `patch`.
        patch: height and width of a patch, in pixels.
        channels: channels of an image.
        classes: number of logits.
        dim: width D of a token; a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads of a block.
        hidden: inner width of a block's MLP.
        attention: builds the first half of a block from (dim, heads).
        mlp: builds the second half of a block from (dim, hidden).
    """

    def __init__(
        self,
        *,
        image: int,
        patch: int,
        channels: int,
        classes: int,
        dim: int,
        depth: int,
        heads: int,
        hidden: int,
        attention: Callable[[int, int], nn.Module] = Attention,
        mlp: Callable[[int, int], nn.Module] = Mlp,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(channels, dim, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image // patch) ** 2 + 1, dim))
        self.blocks = nn.ModuleList(
            Block(dim, attention(dim, heads), mlp(dim, hidden)) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of images x[B, channels, image, image]."""
        tokens: Tensor = self.patch_embed(x)
        first = self.cls_token.expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([first, tokens], dim=1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens)[:, 0])
        return logits


class DigitsViT(VisionTransformer):
    """Classifies digits x[B, 1, 8, 8] in 0..1 into logits [B, 10]: 16 patches of 2 x 2 pixels.

    The sizes that training chooses have defaults, those of the shipped checkpoint; the rest is as
    in `VisionTransformer`.
    """

    def __init__(
        self,
        *,
        dim: int = 64,
        depth: int = 4,
        heads: int = 4,
        hidden: int = 256,
        attention: Callable[[int, int], nn.Module] = Attention,
        mlp: Callable[[int, int], nn.Module] = Mlp,
    ) -> None:
        super().__init__(
            image=8,
            patch=2,
            channels=1,
            classes=10,
            dim=dim,
            depth=depth,
            heads=heads,
            hidden=hidden,
            attention=attention,
            mlp=mlp,
        )
