"""Weights that are signed powers of two: exact values, the papers' gradients, exact freezing."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import addax
from addax.errors import OptionError
from addax.frontend.layers import ShiftLinear, freeze
from addax.ir.numbers import power_of_two

seeds = st.integers(0, 2**31 - 1)
kinds = pytest.mark.parametrize("kind", ["PS", "Q"])


@kinds
@given(seed=seeds, levels=st.integers(1, 16), scaled=st.booleans())
def test_weights_are_powers_of_two_times_their_rows_scale(kind, seed, levels, scaled):
    torch.manual_seed(seed)
    layer = ShiftLinear(6, 4, kind=kind, levels=levels, scaled=scaled)
    with torch.no_grad():
        for value in layer.parameters():
            value.add_(torch.randn_like(value))
        scale = torch.ones(4) if layer.scale is None else layer.scale
        weight = (layer.effective_weight().double() / scale.double()[:, None]).numpy()
    assert np.array_equal(weight, power_of_two(weight))
    sizes = np.abs(weight[weight != 0])
    assert not len(sizes) or (sizes.max() <= 1 and sizes.min() >= 2.0 ** (1 - levels))


@given(seed=seeds, exponents=st.lists(st.integers(-6, 0), min_size=1, max_size=8))
@kinds
def test_powers_of_two_are_kept_exactly(kind, seed, exponents):
    torch.manual_seed(seed)
    scale = 1.0 + torch.rand(3, 1)
    signs = torch.randint(-1, 2, (3, len(exponents)))
    source = nn.Linear(len(exponents), 3)
    with torch.no_grad():
        source.weight.copy_(scale * signs * torch.tensor([2.0**e for e in exponents]))
    layer = ShiftLinear.like(source, kind=kind)
    assert torch.allclose(layer.effective_weight(), source.weight, rtol=1e-6, atol=0)
    assert torch.equal(layer.bias, source.bias)


def test_the_scale_brings_the_powers_nearer():
    torch.manual_seed(0)
    source = nn.Linear(64, 32)
    nn.init.normal_(source.weight)

    def error(**options):
        weight = ShiftLinear.like(source, **options).effective_weight().detach()
        return float((weight - source.weight.detach()).norm() / source.weight.detach().norm())

    assert error(levels=7) < 0.19 < 0.20 < error(levels=15, scaled=False)


def test_rounding_is_in_the_logarithm_and_small_weights_are_zero():
    layer = ShiftLinear(5, 1, kind="Q", levels=3, scaled=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.71, -0.70, 0.126, 0.1249, 7.0]]))
    assert layer.effective_weight().tolist() == [[1.0, -0.5, 0.25, 0.0, 1.0]]


def test_signs_within_a_half_are_zero():
    layer = ShiftLinear(3, 1, levels=3, scaled=False)
    with torch.no_grad():
        layer.sign.copy_(torch.tensor([[0.5, -0.51, 1.4]]))
        layer.shift.copy_(torch.tensor([[0.0, -0.6, -9.0]]))
    assert layer.effective_weight().tolist() == [[0.0, -0.5, 0.25]]


@given(seed=seeds)
def test_the_gradient_is_that_of_the_surrogate(seed):
    """Central differences of scale s 2^p in p, where s is rounded and p starts from a whole one."""
    torch.manual_seed(seed)
    layer = ShiftLinear(4, 3).double()
    x, target = torch.randn(5, 4).double(), torch.randn(5, 3).double()
    with torch.no_grad():
        layer.sign.copy_(torch.tensor([1.0, -1.0, 0.0, 1.0]).expand(3, 4))
    (layer(x) * target).sum().backward()
    sign, power = layer.sign.detach().round().sign(), layer.shift.detach().round()
    scale = layer.scale.detach()[:, None]

    def loss(power):
        weight = scale * sign * torch.exp2(power)
        return float(((x @ weight.T + layer.bias.detach()) * target).sum())

    for at in ((0, 0), (1, 1), (2, 2)):
        step = torch.zeros(3, 4).double()
        step[at] = 1e-5
        expected = (loss(power + step) - loss(power - step)) / 2e-5
        assert math.isclose(layer.shift.grad[at], expected, rel_tol=1e-6, abs_tol=1e-9)
    # Of signs and of the weights of "Q" it is that of the weight.
    weight_grad = scale * (target.T @ x)
    assert torch.allclose(layer.sign.grad, weight_grad)
    twin = ShiftLinear(4, 3, kind="Q").double()
    with torch.no_grad():
        twin.scale.copy_(layer.scale)
    (twin(x) * target).sum().backward()
    assert torch.allclose(twin.weight.grad, weight_grad)


@kinds
def test_it_learns(kind):
    torch.manual_seed(0)
    x = torch.randn(64, 6)
    y = x @ (torch.randn(6, 4) * 0.5)
    layer = ShiftLinear(6, 4, kind=kind)
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    losses = []
    for _ in range(30):
        loss = (layer(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


@kinds
@pytest.mark.parametrize("bias", [True, False])
def test_freezing_changes_nothing(kind, bias):
    torch.manual_seed(0)
    layer = ShiftLinear(6, 4, kind=kind, bias=bias)
    frozen = freeze(layer)
    x = torch.randn(3, 6)
    assert type(frozen) is nn.Linear
    assert torch.equal(frozen(x), layer(x))
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(p.requires_grad for p in layer.parameters())


@kinds
@pytest.mark.parametrize("frozen", [True, False])
def test_what_was_trained_is_stored_as_codes(kind, frozen):
    torch.manual_seed(0)
    layer = ShiftLinear(64, 32, kind=kind).eval()
    x = torch.randn(2, 64)
    made = addax.optimize(
        freeze(layer) if frozen else layer, x, allow=("shift-weights",), progress=False
    )
    assert [n.op_type for n in made.model.graph if n.domain == "addax"] == ["CodebookMatMul"]
    # The kernel, where there is one, rounds activations to int8.
    assert torch.allclose(made(x), layer(x), atol=0.02)


def test_zero_rows_stay_zero():
    source = nn.Linear(4, 2)
    nn.init.zeros_(source.weight)
    layer = ShiftLinear.like(source)
    layer(torch.ones(1, 4)).sum().backward()
    assert torch.equal(layer.effective_weight(), torch.zeros(2, 4))
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


def test_options_are_checked():
    with pytest.raises(OptionError, match="expected kind to be one of PS, Q; got 'R'"):
        ShiftLinear(2, 2, kind="R")
    with pytest.raises(OptionError, match="expected levels to be a whole number of 1 or more"):
        ShiftLinear(2, 2, levels=0)
    with pytest.raises(OptionError, match="expected levels to be at most 100"):
        ShiftLinear(2, 2, levels=101)
    with pytest.raises(OptionError, match="expected inputs to be a whole number"):
        ShiftLinear(0, 2)
