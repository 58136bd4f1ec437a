"""The papers' forms, and how a network is brought into one.

Source: RepQ-ViT (arXiv 2212.08254) and its code: 32 images in one batch fit everything in order,
each range behind those before it; then the norms are folded, the weights behind them are fitted
again. Weights have a grid for each output, inputs behind norms one for each channel, all others one
for the tensor; patches come in 8 bits. Softmax, GELU, norms, sums and biases are float32.
RepQuant (arXiv 2402.05628): the same with `dual_clipping`, and with weights whose rounding errors
are made up for. How it does the latter could not be read; here it is GPTQ on the rounded inputs.
"""

import copy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from addax.demo.vit import VisionTransformer
from bench.published._clipping import dual_clipping
from bench.published._grids import (
    Grid,
    Ranges,
    Uniform,
    extremes,
    percentiles,
    root_two,
    uniform,
)
from bench.published._layers import FitTensor, RoundedAttention, RoundedLinear
from bench.weight_only import gptq

PATCHES = 8  # bits of the image


@dataclass(frozen=True)
class Form:
    """A way to quantize.

    weights, activations: Their bits.
    ranges: How a range is found.
    fold: Ranges for each channel behind a norm, made one by folding the norm.
    whole: The folded zero point is a whole number, and 0 is one of the codes of a share.
    root_two: Shares of attention on powers of the root of two; otherwise uniform.
    clipping: Learned ranges behind norms.
    compensated: Weights make up for their errors.
    """

    weights: int
    activations: int
    ranges: Ranges = percentiles
    fold: bool = True
    whole: bool = False
    root_two: bool = True
    clipping: bool = False
    compensated: bool = False

    def fit_shares(self) -> FitTensor:
        """How a Softmax's output is rounded."""
        if not self.root_two:
            return self.fit_tensor()
        # As published: as many powers as there are codes, and zero besides.
        return partial(root_two, levels=2**self.activations - self.whole)

    def fit_tensor(self) -> FitTensor:
        """One grid for a tensor."""
        return partial(uniform, bits=self.activations, ranges=self.ranges)

    def linear(
        self, plain: nn.Linear | nn.Conv2d, behind_norm: bool = False, bits: int | None = None
    ) -> RoundedLinear:
        """A layer, with grids that are still to be fitted."""
        bits = bits or self.activations

        def fit_input(x: Tensor, weights: Tensor) -> Grid:
            if not (behind_norm and self.fold):
                return uniform(x, bits, self.ranges)
            if self.clipping:
                return dual_clipping(x, weights, bits)
            return uniform(x, bits, self.ranges, axis=-1)

        def fit_weights(weights: Tensor, x: Tensor, rounded: Tensor) -> Tensor:
            del x, rounded
            return uniform(weights, self.weights, self.ranges, axis=0)(weights)

        return RoundedLinear(plain, fit_input, fit_weights)


FORMS = {
    "min-max W4A4": Form(4, 4, ranges=extremes, fold=False, root_two=False),
    "percentiles W4A4": Form(4, 4, fold=False, root_two=False),
    "RepQ-ViT W4A4": Form(4, 4),
    "RepQ-ViT W4A4, whole codes": Form(4, 4, whole=True),
    "RepQuant W4A4": Form(4, 4, clipping=True, compensated=True),
    "RepQ-ViT W6A6": Form(6, 6),
}


@torch.no_grad()
def quantized(model: VisionTransformer, images: Tensor, form: Form) -> nn.Module:
    """A copy of a network in a form, fitted on images[B, ...]."""
    made = copy.deepcopy(model)
    made.patch_embed.proj = form.linear(made.patch_embed.proj, bits=PATCHES)
    for block in made.blocks:
        block.attn = RoundedAttention(block.attn, form.linear, form.fit_tensor(), form.fit_shares())
        block.mlp.fc1 = form.linear(block.mlp.fc1, behind_norm=True)
        block.mlp.fc2 = form.linear(block.mlp.fc2)
    made.head = form.linear(made.head)
    made(images)
    if form.fold:
        for block in made.blocks:
            fold(block.norm1, block.attn.qkv, form)
            fold(block.norm2, block.mlp.fc1, form)
    if form.compensated:
        for layer in made.modules():
            if isinstance(layer, RoundedLinear):
                layer.fit_weights, layer.rounded = partial(compensated, bits=form.weights), None
    made(images)
    return made


def fold(norm: nn.LayerNorm, layer: RoundedLinear, form: Form) -> None:
    """Make a grid for each channel one for all.

    ratio = s / s~, shift = s (z - z~); gamma' = gamma / ratio, beta' = (beta + shift) / ratio;
    W' = W diag(ratio), b' = b - W shift; s~ and z~ are means of the channels' s and z.
    """
    grid = layer.grid
    assert isinstance(grid, Uniform)
    scale, zero = grid.scale.flatten(), grid.zero.flatten()
    usual, middle = scale.mean(), zero.mean()
    if form.whole:
        middle = torch.tensor(2.0 ** (form.activations - 1))
    ratio, shift = scale / usual, scale * (zero - middle)
    norm.weight /= ratio
    norm.bias.copy_((norm.bias + shift) / ratio)
    layer.bias -= layer.weight @ shift
    layer.weight *= ratio
    layer.grid, layer.rounded = Uniform(usual, middle, form.activations), None


def compensated(weights: Tensor, x: Tensor, rounded: Tensor, bits: int) -> Tensor:
    """weights[O, C] by GPTQ for inputs rounded[..., C]; those of a convolution to the nearest."""
    if weights.ndim != 2:
        return uniform(weights, bits, percentiles, axis=0)(weights)
    del x
    rows = rounded.reshape(-1, rounded.shape[-1]).double()
    made = gptq(weights.double(), rows.T @ rows, bits, weights.shape[1])
    return made.to(weights.dtype)
