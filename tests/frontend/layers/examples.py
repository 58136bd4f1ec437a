"""The trainable layers with something learnt in them, and an input of each."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from addax.frontend.layers import (
    AsymmetricBlock,
    ChannelIdleFeedForward,
    DiverseBranchBlock,
    LoRALinear,
    MobileOneBlock,
    ParallelAttention,
    ParallelFeedForward,
    RepMixer,
    RepVGGBlock,
)

TOKENS, MAPS = (2, 5, 8), (2, 4, 7, 6)


@dataclass(frozen=True)
class Example:
    """A layer, the shape of its input, and the linear operators that it folds to."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    ideal: int

    def __str__(self) -> str:
        return self.name

    def build(self, seed: int = 0) -> nn.Module:
        """The layer in evaluation mode, its weights and statistics drawn by the seed."""
        torch.manual_seed(seed)
        return learnt(self.make()).eval()

    def input(self, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
        """An input drawn by the seed."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(self.shape, generator=generator, dtype=dtype)


@torch.no_grad()
def learnt(module: nn.Module) -> nn.Module:
    """The module with weights, scales and statistics that no initialization gives."""
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        elif value.is_floating_point() and value.dim() <= 1:
            value.add_(0.3 * torch.randn_like(value))
        elif value.is_floating_point():
            value.copy_(0.3 * torch.randn_like(value))
    return module


EXAMPLES = (
    Example("feed-forward", lambda: ParallelFeedForward(8, 16, 3, joining=1), TOKENS, 2),
    Example(
        "feed-forward, scaled inputs",
        lambda: ParallelFeedForward(8, 16, 2, joining=1, affine=True),
        TOKENS,
        2,
    ),
    Example("attention", lambda: ParallelAttention(8, 2, 3, joining=1), TOKENS, 4),
    Example(
        "attention, scaled inputs",
        lambda: ParallelAttention(8, 2, 2, joining=1, affine=True),
        TOKENS,
        4,
    ),
    Example("idle", lambda: ChannelIdleFeedForward(8, 32, 0.75), TOKENS, 3),
    Example("all idle", lambda: ChannelIdleFeedForward(8, 32, 1), TOKENS, 1),
    Example("RepVGG", lambda: RepVGGBlock(4, 4), MAPS, 1),
    Example("RepVGG, stride 2", lambda: RepVGGBlock(4, 6, stride=2, groups=2), MAPS, 1),
    Example("MobileOne", lambda: MobileOneBlock(4, 4, groups=4, branches=3), MAPS, 1),
    Example("MobileOne, pointwise", lambda: MobileOneBlock(4, 6, 1, branches=2), MAPS, 1),
    Example("ACNet", lambda: AsymmetricBlock(4, 6, stride=2), MAPS, 1),
    Example("ACNet, 5", lambda: AsymmetricBlock(4, 4, 5), MAPS, 1),
    Example("DBB", lambda: DiverseBranchBlock(4, 6), MAPS, 1),
    Example("DBB, stride 2", lambda: DiverseBranchBlock(4, 4, stride=2, groups=2), MAPS, 1),
    Example("RepMixer", lambda: RepMixer(4, 3, branches=2), MAPS, 1),
    Example("LoRA", lambda: LoRALinear(8, 6, 2, alpha=4), TOKENS, 1),
)
UNJOINED = (
    Example("feed-forward, unjoined", lambda: ParallelFeedForward(8, 16, 3), TOKENS, 0),
    Example("attention, unjoined", lambda: ParallelAttention(8, 2, 2), TOKENS, 0),
    Example("feed-forward, half", lambda: ParallelFeedForward(8, 16, 2, joining=0.5), TOKENS, 0),
    Example("attention, half", lambda: ParallelAttention(8, 2, 2, joining=0.5), TOKENS, 0),
    Example(
        "attention, blockwise",
        lambda: ParallelAttention(8, 2, 2, joining=1, blockwise=True),
        TOKENS,
        0,
    ),
    Example("idle, LayerNorm", lambda: ChannelIdleFeedForward(8, 32, 0.5, norm="layer"), TOKENS, 0),
    Example("idle, no norm", lambda: ChannelIdleFeedForward(8, 32, 0.0, norm="none"), TOKENS, 0),
)
