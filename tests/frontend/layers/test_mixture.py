"""Mixtures: who computes a token, what moves the router, and where the loss comes to rest."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from addax.errors import OptionError
from addax.frontend.layers import (
    ArgmaxRouter,
    MixtureFeedForward,
    MixtureLinear,
    Router,
    balance_loss,
    expert_latencies,
    freeze,
)
from addax.runtime.cost_table import CostTable

LAYERS = {
    "linear": lambda **more: MixtureLinear(8, 6, **more),
    "feed-forward": lambda **more: MixtureFeedForward(8, 12, **more),
}
layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


def alone(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What either expert computes, for all tokens."""
    everywhere = [torch.full(x.shape[:-1], i, dtype=torch.int32) for i in (0, 1)]
    if isinstance(layer, MixtureLinear):
        return [layer.linear(x, expert) for expert in everywhere]
    return [layer.fc2(layer.act(layer.fc1(x, e)), e) for e in everywhere]


def send_all_to(layer: nn.Module, expert: int) -> None:
    with torch.no_grad():
        layer.router.logits.weight.zero_()
        layer.router.logits.bias.copy_(torch.tensor([1.0 - expert, 1.0 * expert]))


@layers
@given(seed=st.integers(0, 2**31 - 1))
def test_each_token_is_computed_by_its_expert(make, seed):
    torch.manual_seed(seed)
    layer = make().eval()
    x = torch.randn(2, 5, 8)
    mult, shift = alone(layer, x)
    chosen = layer.router.logits(x).argmax(dim=-1)
    expected = torch.where(chosen[..., None] == 0, mult, shift)
    assert torch.equal(layer(x), expected)


@layers
@pytest.mark.parametrize("expert", [0, 1])
@pytest.mark.parametrize("training", [True, False])
def test_an_expert_may_get_no_token(make, expert, training):
    layer = make(noise=False).train(training)
    send_all_to(layer, expert)
    x = torch.randn(2, 5, 8)
    assert torch.equal(layer(x), alone(layer, x)[expert])
    layer(x).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


@layers
def test_the_first_of_equals_is_chosen(make):
    layer = make().eval()
    nn.init.zeros_(layer.router.logits.weight)
    nn.init.zeros_(layer.router.logits.bias)
    x = torch.randn(2, 5, 8)
    assert torch.equal(layer(x), alone(layer, x)[0])


@layers
def test_rows_are_computed_alone(make):
    torch.manual_seed(0)
    layer = make().eval().double()
    x = torch.randn(4, 5, 8).double()
    assert torch.allclose(layer(x)[1, 2], layer(x[1, 2]), atol=1e-12)
    assert layer(x[:0]).shape[0] == 0


def test_the_gate_is_one_and_has_the_gradient_of_the_probability():
    torch.manual_seed(0)
    router = Router(4, noise=False).double().train()
    x, weights = torch.randn(6, 4).double(), torch.randn(6).double()
    expert, gate = router(x)
    assert torch.equal(gate.detach(), torch.ones(6).double())
    (gate * weights).sum().backward()

    def surrogate():
        p = router.logits(x).softmax(dim=-1).gather(-1, expert.long()[:, None])[:, 0]
        return float((p * weights).sum())

    weight = router.logits.weight
    for at in ((0, 0), (1, 3)):
        with torch.no_grad():
            weight[at] += 1e-6
            up = surrogate()
            weight[at] -= 2e-6
            down = surrogate()
            weight[at] += 1e-6
        assert math.isclose(weight.grad[at], (up - down) / 2e-6, rel_tol=1e-5)


@layers
@pytest.mark.parametrize("training", [True, False])
def test_the_task_moves_the_router(make, training):
    torch.manual_seed(0)
    layer = make().train(training)
    layer(torch.randn(2, 20, 8)).square().sum().backward()
    assert layer.router.logits.weight.grad.abs().sum() > 0


@layers
def test_training_computes_what_evaluation_does(make):
    """But for the noise: the gate is 1, and nothing is scaled by a probability."""
    torch.manual_seed(0)
    layer = make(noise=False)
    x = torch.randn(2, 5, 8)
    assert torch.equal(layer.train()(x), layer.eval()(x))


@layers
def test_large_numbers_stay_what_they_are(make):
    """Released code combines experts through exp and log, which overflows at 88."""
    layer = make().eval()
    x = 1e6 * torch.randn(2, 5, 8)
    mult, shift = alone(layer, x)
    y = layer(x)
    assert y.isfinite().all()
    assert ((y == mult) | (y == shift)).all()


@pytest.mark.parametrize(
    ("latencies", "steps"),
    [
        ((6, 4), 60),
        pytest.param((6, 4), 400, marks=pytest.mark.slow),
        pytest.param((1, 1), 400, marks=pytest.mark.slow),
        pytest.param((3.0, 1.0), 400, marks=pytest.mark.slow),
    ],
)
def test_the_loss_rests_where_the_experts_take_equally_long(latencies, steps):
    """The share of Mult is alpha_1 / (alpha_0 + alpha_1)."""
    torch.manual_seed(0)
    router = Router(4, latencies)
    x = torch.randn(256, 4)
    optimizer = torch.optim.Adam(router.parameters(), 8 / steps)
    for _ in range(steps):
        router(x)
        loss = balance_loss(router)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    share = float((router.eval()(x)[0] == 0).float().mean())
    expected = latencies[1] / sum(latencies)
    assert abs(share - expected) < 0.05


def test_the_loss_is_that_of_its_definition():
    router = Router(2, (6, 4), noise=False).double().train()
    x = torch.randn(5, 2).double()
    z = router.logits(x).detach()
    router(x)

    def scv(i, j):
        return 0.5 * (i - j) ** 2 / (((i + j) / 2) ** 2 + 1e-10)

    p = z.softmax(dim=-1).sum(dim=0)
    q = torch.distributions.Normal(0, 0.5).cdf(z - z.flip(-1)).sum(dim=0)
    expected = scv(0.6 * p[0], 0.4 * p[1]) + scv(0.6 * q[0], 0.4 * q[1])
    assert math.isclose(float(balance_loss(router).detach()), float(expected), rel_tol=1e-6)


def test_losses_of_all_routers_are_added():
    model = nn.Sequential(MixtureLinear(4, 4), nn.ReLU(), MixtureLinear(4, 4)).train()
    model(torch.randn(9, 4))
    total = model[0].router.loss + model[2].router.loss
    assert torch.equal(balance_loss(model), total)


def test_a_model_that_was_trained_can_be_copied():
    model = MixtureLinear(4, 4).train()
    x = torch.randn(9, 4)
    model(x)
    other = copy.deepcopy(model)
    assert torch.equal(other.eval()(x), model.eval()(x))


@layers
def test_freezing_changes_nothing_but_the_training(make):
    torch.manual_seed(0)
    layer = make().train()
    x = torch.randn(2, 5, 8)
    layer(x).sum().backward()
    frozen = freeze(layer)
    assert layer.training
    assert isinstance(frozen.router, ArgmaxRouter)
    assert torch.equal(frozen(x), layer.eval()(x))
    assert torch.equal(frozen.train()(x), frozen.eval()(x))


def test_a_module_in_two_places_is_frozen_once():
    shared = MixtureLinear(4, 4)
    frozen = freeze(nn.Sequential(shared, nn.ReLU(), shared))
    assert frozen[0].linear.shift is frozen[2].linear.shift
    assert isinstance(freeze(Router(4)), ArgmaxRouter)


def test_latencies_are_those_of_the_cost_model():
    mult, shift = expert_latencies(8, 6)
    assert math.isclose(mult, 48 * (3.7 + 0.9))
    assert math.isclose(shift, 48 * (0.13 + 0.9) + 6 * 3.7)
    prices = {"multiplies": 0.0, "adds": 1.0, "shifts": 2.0}
    assert expert_latencies(8, 6, prices) == (48.0, 144.0)


def test_latencies_are_read_from_the_table_of_a_target():
    table = CostTable("avx512", "as shipped")
    mult, shift = expert_latencies(192, 768, table, tokens=100)
    assert mult == table.seconds("fp32", 100, 192 * 768, 4 * 192 * 768) / 100
    assert shift == table.seconds("int8", 100, 192 * 768, 192 * 768) / 100
    # So the loss wants fewer tokens for the slower one.
    assert MixtureLinear(4, 4, (mult, shift)).router.alpha[0] > 0.5


def test_bad_input_is_refused():
    with pytest.raises(OptionError, match="expected latencies to be two numbers above 0"):
        Router(4, (1, 0))
    with pytest.raises(OptionError, match=r"expected latencies .* got \(1, 2, 3\)"):
        MixtureLinear(4, 4, (1, 2, 3))
    with pytest.raises(OptionError, match=r"expected prices of adds, .* got those of adds"):
        expert_latencies(4, 4, {"adds": 1.0})
    with pytest.raises(OptionError, match=r"expected prices of adds, .*, watts"):
        expert_latencies(4, 4, {"multiplies": 1.0, "adds": 1.0, "shifts": 1.0, "watts": 1.0})
    with pytest.raises(OptionError, match="expected a table that knows float32 and int8 layers"):
        expert_latencies(4, 4, CostTable("avx512", "of another kind", rates_of="none"))
    with pytest.raises(OptionError, match="expected inputs to be a whole number"):
        expert_latencies(0, 4)
    with pytest.raises(OptionError, match="got MixtureLinear, in which none has a loss"):
        balance_loss(MixtureLinear(4, 4).eval())
