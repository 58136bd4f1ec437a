"""Trainable modules made of the linear maps of trained ones."""

import copy

import torch
from torch import Tensor, nn

from addax.errors import OptionError
from addax.frontend.layers._parts import (
    Affine,
    FeedForward,
    NotReadableError,
    SelfAttention,
    read_attention,
    read_feed_forward,
)
from addax.frontend.layers._shift_conversions import binary_attention, mixture, shift_linear
from addax.frontend.layers.channel_idle import ChannelIdleFeedForward, LastAxisBatchNorm
from addax.frontend.layers.lora import LoRALinear
from addax.frontend.layers.parallel_attention import ParallelAttention
from addax.frontend.layers.parallel_feed_forward import ParallelFeedForward
from addax.frontend.layers.plans import (
    BinaryAttention,
    Branches,
    IdleChannels,
    LowRank,
    Mixture,
    Part,
    Shifts,
)
from addax.frontend.layers.self_attention_call import SelfAttentionCall


def convert_module(module: nn.Module, part: Part, generator: torch.Generator) -> nn.Module:
    """A trainable module that stands in for `module`.

    Raises:
        NotReadableError: If it is not of the kind that the plan speaks of.
    """
    if isinstance(part, LowRank):
        return _low_rank(module, part, generator)
    if isinstance(part, IdleChannels):
        return _idle(read_feed_forward(module), part)
    if isinstance(part, BinaryAttention):
        return binary_attention(module, part)
    if isinstance(part, Shifts):
        return shift_linear(module, part)
    if isinstance(part, Mixture):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return mixture(module, part)
    try:
        return _parallel_feed_forward(read_feed_forward(module), part, generator)
    except NotReadableError as reason:
        first = str(reason)
    try:
        attention = _parallel_attention(read_attention(module), part, generator)
    except NotReadableError as reason:
        raise NotReadableError(f"as feed-forward, {first}; as self-attention, {reason}") from None
    if isinstance(module, nn.MultiheadAttention):
        return SelfAttentionCall(attention, batch_first=module.batch_first)
    return attention


def _parallel_feed_forward(
    parts: FeedForward, plan: Branches, generator: torch.Generator
) -> ParallelFeedForward:
    hidden, dim = parts.fc1.weight.shape
    made = ParallelFeedForward(
        dim,
        hidden,
        plan.count,
        joining=1.0 if plan.start == "split" else 0.0,
        activation=lambda: copy.deepcopy(parts.activation),
        dropout=parts.dropout,
    )
    fill(made.fc1, parts.fc1, plan, generator)
    fill(made.fc2, parts.fc2, plan, generator, last=True)
    return made


def _parallel_attention(
    parts: SelfAttention, plan: Branches, generator: torch.Generator
) -> ParallelAttention:
    made = ParallelAttention(
        len(parts.proj.weight),
        parts.heads,
        plan.count,
        joining=1.0 if plan.start == "split" else 0.0,
        dropout=parts.dropout,
    )
    for linears, source in zip((made.query, made.key, made.value), parts.qkv, strict=True):
        fill(linears, source, plan, generator)
    fill(made.proj, parts.proj, plan, generator, last=True)
    return made


@torch.no_grad()
def fill(
    branches: nn.ModuleList,
    source: Affine,
    plan: Branches,
    generator: torch.Generator,
    last: bool = False,
) -> None:
    """Give branches their weights, as `plan.start` says; `last` if they are summed afterwards."""
    for name, tensor in (("weight", source.weight), ("bias", source.bias)):
        wide = (
            torch.zeros(len(source.weight)) if tensor is None else tensor.to("cpu", torch.float64)
        )
        shares = (
            _split(wide, plan, generator)
            if plan.start == "split"
            else _extra(wide, plan, generator, last)
        )
        for branch, value in zip(branches, shares, strict=True):
            getattr(branch, name).copy_(value)


def _split(whole: Tensor, plan: Branches, generator: torch.Generator) -> list[Tensor]:
    """Random tensors that sum to the whole."""
    noise = torch.randn((plan.count, *whole.shape), generator=generator, dtype=torch.float64)
    noise = (noise - noise.mean(dim=0)) * plan.spread * whole.square().mean().sqrt()
    return list(whole / plan.count + noise)


def _extra(whole: Tensor, plan: Branches, generator: torch.Generator, last: bool) -> list[Tensor]:
    """The whole, and others: random of its size, or zero where they are summed afterwards."""
    size = 0.0 if last or whole.dim() == 1 else float(whole.square().mean().sqrt())
    noise = torch.randn((plan.count, *whole.shape), generator=generator, dtype=torch.float64)
    return [whole, *(size * noise[1:])]


@torch.no_grad()
def _idle(parts: FeedForward, plan: IdleChannels) -> ChannelIdleFeedForward:
    hidden, dim = parts.fc1.weight.shape
    made = ChannelIdleFeedForward(
        dim,
        hidden,
        plan.ratio,
        norm=plan.norm,
        activation=lambda: copy.deepcopy(parts.activation),
        dropout=parts.dropout,
    )
    size = parts.fc1.weight.float().norm(dim=1) * parts.fc2.weight.float().norm(dim=0)
    order = size.argsort(descending=True, stable=True)
    for linear, source, rows, columns in (
        (made.fc1, parts.fc1, order, slice(None)),
        (made.fc2, parts.fc2, slice(None), order),
    ):
        linear.weight.copy_(source.weight[rows][:, columns])
        bias = torch.zeros(len(source.weight)) if source.bias is None else source.bias
        linear.bias.copy_(bias[rows])
    for norm in (made.norm1, made.norm2):
        if isinstance(norm, LastAxisBatchNorm):
            # Variances start at 1: dividing by the root of 1 + eps is undone by the weight.
            norm.weight.fill_((1 + norm.eps) ** 0.5)
    return made


def _low_rank(module: nn.Module, plan: LowRank, generator: torch.Generator) -> LoRALinear:
    if not isinstance(module, nn.Linear):
        raise NotReadableError("corrections of low rank are for nn.Linear")
    try:
        made = LoRALinear.around(module, plan.rank, alpha=plan.alpha, dropout=plan.dropout)
    except OptionError as error:
        raise NotReadableError(str(error)) from error
    with torch.no_grad():
        noise = torch.randn(made.down.weight.shape, generator=generator)
        made.down.weight.copy_(noise / module.in_features**0.5)
    return made
