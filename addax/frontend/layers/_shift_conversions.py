"""Attention on bits, shift maps and mixtures made of trained parts."""

import copy

import torch
from torch import nn

from addax.frontend.layers._parts import NotReadableError, read_attention, read_feed_forward
from addax.frontend.layers.binary_linear_attention import BinaryLinearAttention
from addax.frontend.layers.mixture import MixtureFeedForward, MixtureLinear
from addax.frontend.layers.plans import BinaryAttention, Mixture, Shifts
from addax.frontend.layers.self_attention_call import SelfAttentionCall
from addax.frontend.layers.shift_linear import ShiftLinear


@torch.no_grad()
def binary_attention(module: nn.Module, plan: BinaryAttention) -> nn.Module:
    """Linear attention with the maps of a softmax attention, and a filter that begins as zero."""
    parts = read_attention(module)
    dim = len(parts.proj.weight)
    made = BinaryLinearAttention(
        dim, parts.heads, taps=plan.taps, hashing=plan.hashing, binary=plan.binary
    )
    for rows, source in zip(made.qkv.weight.chunk(3), parts.qkv, strict=True):
        rows.copy_(source.weight)
    for biases, source in zip(made.qkv.bias.chunk(3), parts.qkv, strict=True):
        biases.copy_(0 * source.weight[:, 0] if source.bias is None else source.bias)
    if made.filter is not None:
        made.filter.weight.zero_()
    # Each head's rows have norm 1 now; before, they were mixtures of values. That is their size
    # on tokens of a LayerNorm without weights.
    value = parts.qkv[2]
    square = value.weight.square().sum(dim=1)
    if value.bias is not None:
        square = square + value.bias.square()
    sizes = square.reshape(parts.heads, -1).sum(dim=1).sqrt()
    made.proj.weight.copy_(parts.proj.weight * sizes.repeat_interleave(dim // parts.heads))
    made.proj.bias.copy_(torch.zeros(dim) if parts.proj.bias is None else parts.proj.bias)
    if isinstance(module, nn.MultiheadAttention):
        return SelfAttentionCall(made, batch_first=module.batch_first)
    return made


def shift_linear(module: nn.Module, plan: Shifts) -> ShiftLinear:
    """The nearest shift map."""
    if type(module) is not nn.Linear:
        raise NotReadableError("powers of two are for nn.Linear")
    return ShiftLinear.like(module, kind=plan.kind, levels=plan.levels, scaled=plan.scaled)


def mixture(module: nn.Module, plan: Mixture) -> nn.Module:
    """Two experts: the trained maps, and the nearest shift maps."""
    if type(module) is nn.Linear:
        linear = MixtureLinear(
            module.in_features,
            module.out_features,
            plan.latencies,
            kind=plan.kind,
            levels=plan.levels,
            bias=module.bias is not None,
        )
        linear.linear.start_from(module.weight, module.bias)
        return linear
    parts = read_feed_forward(module)
    hidden, dim = parts.fc1.weight.shape
    made = MixtureFeedForward(
        dim,
        hidden,
        plan.latencies,
        kind=plan.kind,
        levels=plan.levels,
        activation=lambda: copy.deepcopy(parts.activation),
        dropout=parts.dropout,
    )
    made.fc1.start_from(parts.fc1.weight, parts.fc1.bias)
    made.fc2.start_from(parts.fc2.weight, parts.fc2.bias)
    return made
