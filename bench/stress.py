"""Vision transformers whose channels behind norms are stretched, while their function stays.

Networks of some size have channels behind their norms that are a hundred times as wide as others,
which is what quantizers with one range for a tensor break at; small ones have none. This gives
them some: gamma and beta of a channel times a factor, the next layer's column over it.
"""

import copy

import numpy as np
import torch
from torch import nn

from addax.demo.vit import VisionTransformer

SPREAD, OUTLIERS, FACTOR = 0.8, 2, 12.0  # of a log-normal draw; channels made so much wider yet


def stretched(model: VisionTransformer, seed: int = 0) -> VisionTransformer:
    """A copy that computes the same in other channels behind its blocks' norms."""
    made, random = copy.deepcopy(model), np.random.default_rng(seed)
    for block in made.blocks:
        for norm, linear in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
            _stretch(norm, linear, random)
    return made


def _stretch(norm: nn.LayerNorm, linear: nn.Linear, random: np.random.Generator) -> None:
    width = norm.normalized_shape[0]
    factors = np.exp(random.normal(0, SPREAD, width))
    factors[random.choice(width, OUTLIERS, replace=False)] *= FACTOR
    drawn = torch.from_numpy(factors.astype(np.float32))
    with torch.no_grad():
        norm.weight *= drawn
        norm.bias *= drawn
        linear.weight /= drawn
