"""A trained transformer in the two stages of ShiftAddViT."""

import pytest
import torch
from torch import nn

from addax.demo.vit import DigitsViT, Mlp
from addax.errors import OptionError, UnsupportedOpError
from addax.frontend.layers import (
    BinaryAttention,
    BinaryLinearAttention,
    Mixture,
    MixtureFeedForward,
    MixtureLinear,
    SelfAttentionCall,
    ShiftLinear,
    Shifts,
    balance_loss,
    convert,
    freeze,
)


def small_vit() -> DigitsViT:
    torch.manual_seed(0)
    return DigitsViT(dim=16, depth=2, heads=2, hidden=32)


@pytest.mark.parametrize("hashing", [None, 4])
def test_the_two_stages(hashing):
    model = small_vit()
    first = convert(model, BinaryAttention(hashing=hashing))
    assert [str(c) for c in first.changes] == [
        f"blocks.{i}.attn: Attention -> BinaryLinearAttention "
        "(another function until it is trained)"
        for i in range(2)
    ]
    second = convert(
        first.model, {"blocks.*.attn.*": Shifts(), "blocks.*.mlp": Mixture((6.0, 4.0))}
    )
    block = second.model.blocks[0]
    assert isinstance(block.attn, BinaryLinearAttention)
    assert isinstance(block.attn.qkv, ShiftLinear)
    assert isinstance(block.attn.proj, ShiftLinear)
    assert isinstance(block.mlp, MixtureFeedForward)
    assert type(second.model.head) is nn.Linear
    assert not second.keeps_function
    x = torch.randn(3, 1, 8, 8)
    logits = second.model.train()(x)
    (logits.square().sum() + 0.01 * balance_loss(second.model)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in second.model.parameters())
    frozen = freeze(second.model)
    assert torch.equal(frozen(x), second.model.eval()(x))


def test_weights_are_those_of_the_trained_attention():
    model = small_vit()
    made = convert(model, BinaryAttention()).model.blocks[0].attn
    source = model.blocks[0].attn
    assert torch.equal(made.qkv.weight, source.qkv.weight)
    assert torch.equal(made.qkv.bias, source.qkv.bias)
    # A row has norm 1 where it had that of a value.
    ratio = made.proj.weight / source.proj.weight
    assert torch.allclose(ratio[:, :8], ratio[:1, :1].expand(16, 8), rtol=1e-4)
    values = source.qkv(torch.randn(4096, 16))[:, 32:40]
    assert torch.allclose(ratio[0, 0], values.square().sum(dim=1).mean().sqrt(), rtol=0.1)


def test_mixtures_begin_with_the_trained_maps():
    model = small_vit()
    made = convert(model, {"blocks.*.mlp": Mixture(), "head": Mixture()}).model
    mlp, head = made.blocks[1].mlp, made.head
    assert isinstance(head, MixtureLinear)
    assert torch.equal(head.linear.mult.weight, model.head.weight)
    assert torch.equal(mlp.fc1.mult.weight, model.blocks[1].mlp.fc1.weight)
    x = torch.randn(4, 16)
    everywhere = torch.zeros(4, dtype=torch.int32)
    hidden = mlp.act(mlp.fc1(x, everywhere))
    assert torch.allclose(mlp.fc2(hidden, everywhere), model.blocks[1].mlp(x), atol=1e-6)
    near = mlp.fc1.shift.effective_weight() - mlp.fc1.mult.weight
    assert near.norm() < 0.25 * mlp.fc1.mult.weight.norm()


def test_maps_without_biases():
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False))
    wrapped = nn.ModuleDict({"part": model})
    made = convert(wrapped, {"part": Mixture()}).model["part"]
    x = torch.randn(3, 4)
    everywhere = torch.zeros(3, dtype=torch.int32)
    assert torch.allclose(made.fc2(made.act(made.fc1(x, everywhere)), everywhere), model(x))
    linears = convert(wrapped, {"part.*": Mixture()}).model["part"]
    assert linears[0].linear.mult.bias is None
    assert convert(wrapped, Shifts()).model["part"][0].bias is None


def test_the_attention_of_torch():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    made = convert(model, BinaryAttention(taps=3)).model
    assert isinstance(made.layers[0].self_attn, SelfAttentionCall)
    assert made(torch.randn(2, 5, 8)).shape == (2, 5, 8)
    with pytest.raises(OptionError, match="expected no mask"):
        made(torch.randn(2, 5, 8), mask=torch.zeros(5, 5))


def test_the_seed_draws_the_routers_and_the_callers_generator_is_left_alone():
    model = nn.Sequential(Mlp(8, 16))
    state = torch.random.get_rng_state()
    first, second, other = (
        convert(model, Mixture(seed=seed)).model[0].router.logits.weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("module", "plan", "reason"),
    [
        (nn.LayerNorm(8), Shifts(), "expected a linear map at 'part'; .* for nn.Linear"),
        (nn.LayerNorm(8), BinaryAttention(), "expected a self-attention part at 'part'"),
        (nn.LayerNorm(8), Mixture(), "expected a feed-forward part or a linear map at 'part'"),
    ],
)
def test_what_cannot_be_converted_is_named(module, plan, reason):
    with pytest.raises(UnsupportedOpError, match=reason):
        convert(nn.ModuleDict({"part": module}), {"part": plan})


def test_plans_are_checked_where_they_are_used():
    model = small_vit()
    with pytest.raises(OptionError, match="expected taps to be an odd number"):
        convert(model, BinaryAttention(taps=2))
    with pytest.raises(OptionError, match="expected kind to be one of PS, Q; got 'X'"):
        convert(model, Shifts(kind="X"))
    with pytest.raises(OptionError, match="expected latencies to be two numbers"):
        convert(model, Mixture((1.0, -1.0)))
