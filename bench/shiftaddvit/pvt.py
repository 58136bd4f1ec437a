"""PVTv2-B0's shape, with attention that `addax.frontend.layers.convert` reads."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGE = 224


@dataclass(frozen=True)
class Stage:
    """A stage of PVTv2-B0: its tokens, their width, and its blocks."""

    tokens: int
    dim: int
    heads: int
    ratio: int  # hidden width of the feed-forward part over dim
    reduction: int  # of keys and values, along each side
    depth: int = 2

    @property
    def side(self) -> int:
        """Tokens along a side of the image."""
        return math.isqrt(self.tokens)


SIZES = (
    Stage(3136, 32, 1, 8, 8),
    Stage(784, 64, 2, 8, 4),
    Stage(196, 160, 5, 4, 2),
    Stage(49, 256, 8, 4, 1),
)


class Attention(nn.Module):
    """Softmax attention over all tokens: x[N, T, D] -> [N, T, D]."""

    def __init__(self, size: Stage) -> None:
        super().__init__()
        self.heads = size.heads
        self.qkv = nn.Linear(size.dim, 3 * size.dim)
        self.proj = nn.Linear(size.dim, size.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens."""
        q, k, v = (part.unflatten(2, (self.heads, -1)) for part in self.qkv(x).chunk(3, dim=-1))
        mixed = functional.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)))
        made: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return made


class ReducedAttention(nn.Module):
    """The original's: softmax attention whose keys and values come from fewer, pooled tokens."""

    def __init__(self, size: Stage) -> None:
        super().__init__()
        self.heads, self.side = size.heads, size.side
        self.q = nn.Linear(size.dim, size.dim)
        self.kv = nn.Linear(size.dim, 2 * size.dim)
        self.proj = nn.Linear(size.dim, size.dim)
        self.pool: nn.Module | None = None
        if size.reduction > 1:
            self.pool = nn.Conv2d(size.dim, size.dim, size.reduction, size.reduction)
            self.norm = nn.LayerNorm(size.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from all tokens to the pooled ones."""
        seen = x
        if self.pool is not None:
            image = x.transpose(1, 2).unflatten(2, (self.side, self.side))
            seen = self.norm(self.pool(image).flatten(2).transpose(1, 2))
        k, v = (part.unflatten(2, (self.heads, -1)) for part in self.kv(seen).chunk(2, dim=-1))
        q = self.q(x).unflatten(2, (self.heads, -1))
        mixed = functional.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)))
        made: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return made


class FeedForward(nn.Module):
    """Two linear maps with a convolution of 3 x 3 tokens and GELU between them."""

    def __init__(self, size: Stage) -> None:
        super().__init__()
        hidden = size.dim * size.ratio
        self.side = size.side
        self.fc1 = nn.Linear(size.dim, hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, size.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens that know their neighbours."""
        image = self.fc1(x).transpose(1, 2).unflatten(2, (self.side, self.side))
        made: Tensor = self.fc2(self.act(self.conv(image).flatten(2).transpose(1, 2)))
        return made


class Block(nn.Module):
    """Attention and a feed-forward part, each behind a norm and beside the input."""

    def __init__(self, size: Stage, attention: type[nn.Module]) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size.dim), nn.LayerNorm(size.dim)
        self.attn, self.mlp = attention(size), FeedForward(size)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to tokens."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PyramidTransformer(nn.Module):
    """Images[N, 3, 224, 224] to 1000 logits in four stages of fewer and wider tokens.

    Source: Wang et al., "PVT v2" (arXiv 2106.13797), the sizes of B0. Random weights: only time is
    of interest here.
    """

    def __init__(self, attention: type[nn.Module] = Attention) -> None:
        super().__init__()
        self.patches, self.norms = nn.ModuleList(), nn.ModuleList()
        self.stages, self.ends = nn.ModuleList(), nn.ModuleList()
        channels = 3
        for i, size in enumerate(SIZES):
            kernel, stride = (7, 4) if i == 0 else (3, 2)
            self.patches.append(nn.Conv2d(channels, size.dim, kernel, stride, kernel // 2))
            self.norms.append(nn.LayerNorm(size.dim))
            self.stages.append(nn.ModuleList(Block(size, attention) for _ in range(size.depth)))
            self.ends.append(nn.LayerNorm(size.dim))
            channels = size.dim
        self.head = nn.Linear(channels, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, 1000]."""
        image = images
        tokens = images
        for i, size in enumerate(SIZES):
            tokens = self.norms[i](self.patches[i](image).flatten(2).transpose(1, 2))
            for block in self.stages[i]:
                tokens = block(tokens)
            tokens = self.ends[i](tokens)
            image = tokens.transpose(1, 2).unflatten(2, (size.side, size.side))
        made: Tensor = self.head(tokens.mean(dim=1))
        return made


def network(attention: type[nn.Module], seed: int) -> nn.Module:
    """A network with random weights, in evaluation."""
    torch.manual_seed(seed)
    return PyramidTransformer(attention).eval().requires_grad_(False)
