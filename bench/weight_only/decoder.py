"""A Llama that reads one token at a time and keeps the keys and values of those before."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from bench.zoo import tinystories

Step = Callable[[list[np.ndarray]], list[np.ndarray]]


class Decoder(nn.Module):
    """One step: tokens [B, 1] at position[1], keys and values [B, groups, P, width] of each layer.

    Args:
        model: The network, whose weights it shares.
    """

    def __init__(self, model: tinystories.Llama) -> None:
        super().__init__()
        self.model = model

    def forward(self, token: Tensor, position: Tensor, past: list[Tensor]) -> tuple[Tensor, ...]:
        """Logits [B, 1, vocabulary], then keys and values with one more position."""
        model = self.model
        cos, sin = model.cos[position], model.sin[position]
        x: Tensor = model.embedding(token)
        kept: list[Tensor] = []
        for layer, keys, values in zip(model.blocks, past[0::2], past[1::2], strict=True):
            assert isinstance(layer, tinystories.Layer)
            mixed, keys, values = self._attend(layer, x, (keys, values), cos, sin)
            x = x + mixed
            y = layer.mlp_norm(x)
            x = x + layer.w2(functional.silu(layer.w1(y)) * layer.w3(y))
            kept += [keys, values]
        return functional.linear(model.norm(x), model.embedding.weight), *kept

    @staticmethod
    def _attend(
        layer: tinystories.Layer, x: Tensor, past: tuple[Tensor, Tensor], cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What attention adds, and the longer keys and values."""
        x = layer.attention_norm(x)
        batch, tokens, dim = x.shape
        q = layer.wq(x).view(batch, tokens, layer.heads, layer.width).transpose(1, 2)
        k = layer.wk(x).view(batch, tokens, layer.groups, layer.width).transpose(1, 2)
        v = layer.wv(x).view(batch, tokens, layer.groups, layer.width).transpose(1, 2)
        keys = torch.cat([past[0], tinystories.rotated(k, cos, sin)], dim=2)
        values = torch.cat([past[1], v], dim=2)
        share = layer.heads // layer.groups
        # The heads of a group side by side: no key is copied for each of its queries.
        q = tinystories.rotated(q, cos, sin).view(batch, layer.groups, share, layer.width)
        weights = (q @ keys.transpose(2, 3) / layer.width**0.5).softmax(-1)
        mixed = (weights @ values).view(batch, tokens, dim)
        return layer.wo(mixed), keys, values


def empty(model: tinystories.Llama, length: int = 0) -> list[Tensor]:
    """Keys and values of so many tokens, all zero."""
    parts = []
    for layer in model.blocks:
        assert isinstance(layer, tinystories.Layer)
        parts += [torch.zeros(1, layer.groups, length, layer.width) for _ in range(2)]
    return parts


def example(model: tinystories.Llama) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Inputs to export by."""
    return torch.tensor([[1]]), torch.tensor([3]), empty(model, 3)


def dynamic_shapes(model: tinystories.Llama) -> tuple[object, ...]:
    """The number of tokens that were read varies."""
    past = Dim("past", max=tinystories.CONTEXT - 1)
    return None, None, [{2: past} for _ in range(2 * len(model.blocks))]


def generate(step: Step, model: tinystories.Llama, prompt: list[int], count: int) -> list[int]:
    """The likeliest continuation; every token of the prompt is one step too."""
    past = [part.numpy() for part in empty(model)]
    tokens = list(prompt)
    for at in range(len(prompt) + count - 1):
        logits, *past = step([np.array([[tokens[at]]]), np.array([at]), *past])
        if at + 1 >= len(prompt):
            tokens.append(int(logits[0, -1].argmax()))
    return tokens[len(prompt) :]
