"""Trained transformers in trainable form: found, kept in function, or refused in words."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from addax.demo.vit import Attention, DigitsViT, Mlp
from addax.errors import OptionError, UnsupportedOpError
from addax.frontend.layers import (
    Branches,
    ChannelIdleFeedForward,
    IdleChannels,
    LoRALinear,
    LowRank,
    ParallelAttention,
    ParallelFeedForward,
    convert,
    set_joining,
)

KEEPING = (Branches(3), Branches(2, "split"), IdleChannels(0), IdleChannels(0, "none"), LowRank(2))


def small_vit() -> DigitsViT:
    torch.manual_seed(0)
    return DigitsViT(dim=16, depth=2, heads=2, hidden=32).double().eval()


class FourMaps(nn.Module):
    """Attention with maps q, k, v and out, as many libraries write it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 2
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(8, 8, bias=False) for _ in range(3))
        self.out_proj = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            linear(x).unflatten(-1, (2, 4)).transpose(1, 2)
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class HeadsFirst(nn.Module):
    """Attention whose fused map has q, k and v of one head side by side."""

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self.heads, self.scale = 2, scale
        self.fused, self.back = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.fused(x).unflatten(-1, (2, 3, 4)).permute(3, 0, 2, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.back(y.transpose(1, 2).flatten(2))


class Function(nn.Module):
    """A feed-forward part whose activation is no module."""

    def __init__(self, activation) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16, bias=False), nn.Linear(16, 8)
        self.activation = [activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation[0](self.up(x)))


@pytest.mark.parametrize("plan", KEEPING, ids=str)
def test_a_vision_transformer_stays_what_it_is(plan: object) -> None:
    model = small_vit()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    converted = convert(model, plan)
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    assert converted.keeps_function
    assert torch.allclose(model(x), converted.model(x), atol=1e-9)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m.training for m in converted.model.modules())


@pytest.mark.parametrize(
    "module",
    [
        FourMaps(),
        HeadsFirst(),
        Attention(8, 2),
        Function(functional.gelu),
        Function(lambda x: functional.gelu(x, approximate="tanh")),
        Function(functional.relu),
        Function(functional.silu),
        nn.Sequential(nn.Linear(8, 12), nn.Hardswish(), nn.Dropout(0.1), nn.Linear(12, 8)),
    ],
    ids=lambda module: type(module).__name__,
)
@pytest.mark.parametrize("plan", [Branches(2), Branches(3, "split")], ids=str)
def test_parts_are_found_by_what_they_do(module: nn.Module, plan: Branches) -> None:
    model = nn.Sequential(module).eval()
    converted = convert(model, plan)
    assert isinstance(converted.model[0], ParallelFeedForward | ParallelAttention)
    x = torch.randn(2, 5, 8)
    assert torch.allclose(model(x), converted.model(x), atol=1e-5)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("plan", [Branches(2), Branches(3, "split"), LowRank(2)], ids=str)
def test_the_encoder_of_torch(batch_first: bool, plan: Branches | LowRank) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.randn(5, 5, 8)
    hidden = torch.zeros(5, 5, dtype=torch.bool)
    hidden[:, -2:] = True
    masks = {"src_key_padding_mask": hidden, "mask": hidden.new_ones(5, 5).triu(1)}
    converted = convert(model, plan).model
    with torch.no_grad():
        assert torch.allclose(model(x), converted(x), atol=1e-5)
        assert torch.allclose(model(x, **masks), converted(x, **masks), atol=1e-5)


def test_extra_branches_learn() -> None:
    model = convert(small_vit(), Branches(2)).model.train()
    set_joining(model, 0.1)
    model(torch.randn(3, 1, 8, 8, dtype=torch.float64)).square().sum().backward()
    part = model.blocks[0].mlp
    assert part.fc2[1].weight.grad.abs().sum() > 0
    assert part.fc1[0].weight.grad.abs().sum() > 0


def test_patterns_choose_and_the_first_one_counts() -> None:
    plan = {"blocks.0.mlp": IdleChannels(0.5), "blocks.*.mlp": Branches(2), "head": LowRank(2)}
    converted = convert(small_vit(), plan)
    assert isinstance(converted.model.blocks[0].mlp, ChannelIdleFeedForward)
    assert isinstance(converted.model.blocks[1].mlp, ParallelFeedForward)
    assert isinstance(converted.model.blocks[1].attn, Attention)
    assert isinstance(converted.model.head, LoRALinear)
    assert not converted.keeps_function
    assert str(converted) == (
        "blocks.0.mlp: Mlp -> ChannelIdleFeedForward (another function until it is trained)\n"
        "blocks.1.mlp: Mlp -> ParallelFeedForward (same function)\n"
        "head: Linear -> LoRALinear (same function)"
    )


def test_large_channels_stay_active() -> None:
    mlp = Mlp(4, 8)
    with torch.no_grad():
        mlp.fc1.weight.mul_(torch.tensor([1, 9, 1, 9, 1, 9, 1, 9.0])[:, None])
    layer = convert(nn.Sequential(mlp), IdleChannels(0.5)).model[0]
    assert layer.active == 4
    assert torch.equal(
        mlp.fc1.weight[1::2].norm(dim=1).sort().values,
        layer.fc1.weight[:4].norm(dim=1).sort().values,
    )


def test_a_module_in_two_places_stays_one() -> None:
    shared = Mlp(8, 16)
    model = convert(nn.Sequential(shared, nn.LayerNorm(8), shared), Branches(2)).model
    assert model[0] is model[2]


def test_the_seed_decides_and_the_callers_generator_is_left_alone() -> None:
    model = nn.Sequential(Mlp(8, 16))
    state = torch.random.get_rng_state()
    first, second, other = (
        convert(model, Branches(2, seed=seed)).model[0].fc1[1].weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


class Doubled(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Pair(Mlp):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Needy(Mlp):
    def forward(self, x: Tensor, more: Tensor) -> Tensor:
        return x + more


class Headless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = 2
        self.gate, self.up, self.down = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 8)


@pytest.mark.parametrize(
    ("module", "plan", "reason"),
    [
        (nn.Linear(8, 8), Branches(2), "it has 0 linear maps of its own, not 2"),
        (
            nn.Sequential(nn.Linear(8, 4), nn.Linear(8, 4)),
            IdleChannels(0.5),
            "no way there and back",
        ),
        (
            nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 8)),
            IdleChannels(0.5),
            "more than an activation: LayerNorm",
        ),
        (
            Doubled(8, 16),
            IdleChannels(0.5),
            r"on random tokens it computes something else .* 5\.0e-01",
        ),
        (Pair(8, 16), IdleChannels(0.5), "does not return their like"),
        (Needy(8, 16), IdleChannels(0.5), r"calling it with tokens \[2, 5, 8\] failed"),
        (Headless(), Branches(2), "it has none of the attributes num_heads, heads"),
        (Gated(), Branches(2), "or four D -> D called .* it has gate 8 -> 16, up 8 -> 16"),
        (HeadsFirst(scale=1.0), Branches(2), "it computes something else"),
        (
            nn.MultiheadAttention(8, 2, kdim=4),
            Branches(2),
            "its keys or values have another width than its queries",
        ),
        (nn.LayerNorm(8), LowRank(2), "corrections of low rank are for nn.Linear"),
        (nn.Linear(8, 8), LowRank(9), "expected a rank of at most 8"),
    ],
)
def test_what_cannot_be_converted_is_named(
    module: nn.Module, plan: Branches | IdleChannels | LowRank, reason: str
) -> None:
    model = nn.ModuleDict({"part": module})
    kind = type(module).__name__
    with pytest.raises(UnsupportedOpError, match=rf"expected a .* at 'part'; got part \({kind}\)"):
        convert(model, {"part": plan})
    with pytest.raises(UnsupportedOpError, match=reason):
        convert(model, plan if isinstance(plan, LowRank) else {"part": plan})


def test_a_pattern_without_a_module() -> None:
    with pytest.raises(
        OptionError, match=r"no module is called 'block\.\*', or all were converted"
    ):
        convert(small_vit(), {"block.*": Branches(2)})


def test_a_plan_that_is_none() -> None:
    with pytest.raises(
        OptionError, match=r"expected one of Branches, .*, Mixture for 'head'; got 2"
    ):
        convert(small_vit(), {"head": 2})


def test_plans_are_checked() -> None:
    with pytest.raises(OptionError, match="expected start to be one of split, extra; got 'zero'"):
        Branches(2, "zero")
    with pytest.raises(OptionError, match=r"expected norm to be batch or none; the network's own"):
        IdleChannels(0.5, "layer")
    with pytest.raises(OptionError, match="expected rank to be a whole number"):
        LowRank(0)


def test_a_converted_attention_has_one_input() -> None:
    model = convert(nn.Sequential(nn.MultiheadAttention(8, 2, batch_first=True)), Branches(2)).model
    x = torch.randn(2, 5, 8)
    with pytest.raises(OptionError, match="expected query, key and value to be one tensor"):
        model[0](x, x + 1, x)
    with pytest.raises(OptionError, match=r"expected attn_mask to be \[T, T\]; got \[4, 5, 5\]"):
        model[0](x, x, x, attn_mask=torch.zeros(4, 5, 5))
