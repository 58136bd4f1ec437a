"""Parallel branches against the algebra that merges them, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from addax.errors import OptionError
from addax.frontend.layers import ParallelAttention, ParallelFeedForward
from tests.frontend.layers.examples import learnt

counts, flags, seeds = st.integers(1, 4), st.booleans(), st.integers(0, 99)


def built(module: nn.Module, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return learnt(module.double()).eval()


def merged(linears: nn.ModuleList, affines: nn.ModuleList | None = None) -> tuple[Tensor, Tensor]:
    """W = sum_b W_b diag(g_b) and c = sum_b W_b s_b + c_b."""
    weight, bias = 0, 0
    for number, linear in enumerate(linears):
        scale, shift = 1, torch.zeros(linear.in_features, dtype=torch.float64)
        if affines is not None and not isinstance(affines[number], nn.Identity):
            scale, shift = affines[number].weight, affines[number].bias
        weight = weight + linear.weight * scale
        bias = bias + linear.weight @ shift + (0 if linear.bias is None else linear.bias)
    return weight, bias


def attention(qkv: list[Tensor], heads: int) -> Tensor:
    q, k, v = (t.reshape(*t.shape[:2], heads, -1).transpose(1, 2) for t in qkv)
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


@settings(max_examples=20)
@given(counts, flags, flags, seeds)
def test_a_joined_feed_forward_is_a_plain_one(
    branches: int, affine: bool, bias: bool, seed: int
) -> None:
    layer = built(ParallelFeedForward(6, 10, branches, affine=affine, bias=bias, joining=1), seed)
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    h = functional.gelu(functional.linear(x, *merged(layer.fc1, layer.affine)))
    assert torch.allclose(functional.linear(h, *merged(layer.fc2)), layer(x), atol=1e-12)


@settings(max_examples=20)
@given(counts, flags, flags, flags, seeds)
def test_a_joined_attention_is_a_plain_one(
    branches: int, affine: bool, bias: bool, blockwise: bool, seed: int
) -> None:
    layer = built(
        ParallelAttention(6, 2, branches, affine=affine, bias=bias, blockwise=blockwise, joining=1),
        seed,
    )
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    maps = (layer.query, layer.key, layer.value)
    qkv = [functional.linear(x, *merged(linears, layer.affine)) for linears in maps]
    expected = functional.linear(attention(qkv, 2), *merged(layer.proj))
    assert torch.allclose(expected, layer(x), atol=1e-12)


@pytest.mark.parametrize("branches", [1, 3])
def test_unjoined_branches_are_layers_of_their_own(branches: int) -> None:
    layer = built(ParallelAttention(6, 3, branches), 0)
    x = torch.randn(2, 4, 6, dtype=torch.float64)
    expected = 0
    for q, k, v, proj in zip(layer.query, layer.key, layer.value, layer.proj, strict=True):
        expected = expected + proj(attention([q(x), k(x), v(x)], 3))
    assert torch.allclose(expected, layer(x), atol=1e-12)


@pytest.mark.parametrize("joining", [0.0, 0.5])
def test_only_joined_branches_are_a_plain_layer(joining: float) -> None:
    layer = built(ParallelFeedForward(6, 10, 2, joining=joining), 0)
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    h = functional.gelu(functional.linear(x, *merged(layer.fc1)))
    assert not torch.allclose(functional.linear(h, *merged(layer.fc2)), layer(x), rtol=1e-2)


def test_a_mask_hides_tokens() -> None:
    layer = built(ParallelAttention(6, 2, 2, joining=1), 0)
    x = torch.randn(1, 4, 6, dtype=torch.float64)
    mask = torch.zeros(4, dtype=torch.float64)
    mask[-1] = float("-inf")
    assert torch.allclose(layer(x[:, :3]), layer(x, mask)[:, :3], atol=1e-12)


def test_heads_divide_the_width() -> None:
    with pytest.raises(OptionError, match="expected dim to be a multiple of heads; got 6 and 4"):
        ParallelAttention(6, 4, 2)
