"""The papers' forms that `bench.repq` compares with do what the papers say."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from addax.demo import load_images, load_model
from bench.published import DROPS, FORMS, quantized
from bench.published._forms import Form, fold
from bench.published._grids import RootTwo, Uniform, extremes, percentiles, uniform
from bench.published._layers import RoundedLinear
from bench.stress import stretched


def parts() -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    images, labels = load_images("test")
    calibration, _ = load_images("calibration")
    return torch.from_numpy(calibration[:32]), torch.from_numpy(images[:200]), labels[:200]


@given(st.integers(2, 8), st.integers(0, 1000))
def test_uniform_values_are_at_most_half_a_step_away(bits: int, seed: int):
    x = torch.randn(7, 50, generator=torch.Generator().manual_seed(seed))
    grid = uniform(x, bits, extremes, axis=0)
    # A zero point is rounded, so that one end may be cut off by half a step.
    assert ((grid(x) - x).abs() <= grid.scale * 1.001).all()
    assert len(torch.unique(grid(x[0]))) <= 7 * 2**bits


def test_a_channel_that_never_varies_keeps_its_scale_finite():
    x = torch.cat([torch.full((1, 40), 3.0), torch.randn(1, 40)])
    grid = uniform(x, 4, percentiles, axis=0)
    assert torch.isfinite(grid(x)).all()
    assert grid.scale[0] == grid.scale[1]


def test_published_shares_have_a_level_more_than_four_bits():
    p = torch.logspace(-6, 0, 2000)
    published, whole = (torch.unique(RootTwo(torch.ones(()), n)(p)) for n in (16, 15))
    assert (17, 16) == (len(published), len(whole))
    np.testing.assert_allclose(published[1:], 2.0 ** (-np.arange(15, -1, -1) / 2), rtol=1e-6)


@given(st.integers(0, 1000), st.booleans())
@torch.no_grad()
def test_the_fold_changes_no_function(seed: int, whole: bool):
    random = torch.Generator().manual_seed(seed)
    norm, linear = torch.nn.LayerNorm(12), torch.nn.Linear(12, 5)
    norm.weight.copy_(torch.randn(12, generator=random))
    norm.bias.copy_(torch.randn(12, generator=random))
    x = torch.randn(30, 12, generator=random)
    before = linear(norm(x))
    form = Form(4, 4, whole=whole)
    layer: RoundedLinear = form.linear(linear, behind_norm=True)
    layer(norm(x))
    channels = layer.grid
    rounded = torch.nn.functional.linear(channels(norm(x)), linear.weight, linear.bias).clone()
    fold(norm, layer, form)
    after = torch.nn.functional.linear(norm(x), layer.weight, layer.bias)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    if whole:  # one grid for all channels gives what the channels' own gave
        assert isinstance(layer.grid, Uniform)
        one = torch.nn.functional.linear(layer.grid(norm(x)), layer.weight, layer.bias)
        close = torch.isclose(one, rounded, atol=1e-3, rtol=1e-3).all(1)
        assert close.float().mean() > 0.9  # the others lie between two codes


@torch.no_grad()
def test_stretched_channels_break_one_range_and_not_the_fold():
    calibration, images, labels = parts()
    model = stretched(load_model())
    top1 = {
        name: float(
            np.mean(quantized(model, calibration, form)(images).argmax(1).numpy() == labels)
        )
        for name, form in FORMS.items()
        if name in {"percentiles W4A4", "RepQ-ViT W4A4"}
    }
    assert top1["percentiles W4A4"] < 0.5
    assert top1["RepQ-ViT W4A4"] > 0.95


@pytest.mark.slow
@torch.no_grad()
def test_compensation_lowers_the_error_of_outputs():
    calibration, images, _ = parts()
    model = load_model()
    exact = model(images)
    errors = [
        float((quantized(model, calibration, FORMS[name])(images) - exact).norm())
        for name in ("RepQ-ViT W4A4", "RepQuant W4A4")
    ]
    assert errors[1] < errors[0]


def test_published_drops_are_those_of_the_specification():
    drops = {(drop.method, drop.bits): drop.drop for drop in DROPS}
    assert 14.78 == drops["RepQ-ViT", "W4A4"]
    assert 5.07 == drops["AdaLog, retrained", "W4A4"]
