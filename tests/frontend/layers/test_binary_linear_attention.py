"""Attention on bits: what it computes, what it leaves alone, and what learns."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from addax.errors import InputError, OptionError
from addax.frontend.layers import BinaryLinearAttention, KernelHash
from addax.frontend.layers._straight_through import bits

FORMS = {
    "signs": {},
    "hash": {"hashing": 5, "anchors": 6},
    "no filter": {"taps": 0},
    "real": {"binary": False},
    "narrow": {"width": 3, "bias": False},
}
forms = pytest.mark.parametrize("options", FORMS.values(), ids=FORMS.keys())


def attention(seed: int = 0, **options: object) -> BinaryLinearAttention:
    torch.manual_seed(seed)
    return BinaryLinearAttention(8, 2, **options).eval()


def by_the_paper(layer: BinaryLinearAttention, x: Tensor) -> Tensor:
    """One head and one token at a time, norms and all, in float64."""
    outs = []
    each = layer.heads * layer.width
    for one in layer.qkv(x):
        heads = []
        for h in range(layer.heads):
            mine = slice(h * layer.width, (h + 1) * layer.width)
            d = x.shape[-1] // layer.heads
            v = one[:, 2 * each + h * d : 2 * each + (h + 1) * d]
            q, k = functional.normalize(one[:, mine]), functional.normalize(one[:, each:][:, mine])
            sums = torch.stack([v[k[:, m] > 0].sum(dim=0) for m in range(layer.width)])
            rows = []
            for token in range(len(v)):
                u = 0.5 * v[token] + sums[q[token] > 0].sum(dim=0) / math.pi
                row = u / u.norm()
                for tap in range(9):
                    if layer.filter is not None and 0 <= token + tap - 4 < len(v):
                        row = row + layer.filter.weight[h, 0, tap, 0] * v[token + tap - 4]
                rows.append(row)
            heads.append(torch.stack(rows))
        outs.append(layer.proj(torch.cat(heads, dim=-1)))
    return torch.stack(outs)


@given(seed=st.integers(0, 2**31 - 1))
@pytest.mark.parametrize("name", ["signs", "no filter", "narrow"])
def test_it_computes_what_the_paper_says(name, seed):
    layer = attention(seed, **FORMS[name]).double()
    x = torch.randn(2, 5, 8).double()
    with torch.no_grad():
        assert torch.allclose(layer(x), by_the_paper(layer, x), atol=1e-9)


@forms
def test_an_image_does_not_depend_on_those_beside_it(options):
    layer = attention(**options).double()
    x = torch.randn(3, 5, 8).double()
    x[2] += 5
    with torch.no_grad():
        assert torch.allclose(layer(x)[:1], layer(x[:1]), atol=1e-12)


@forms
def test_training_and_evaluation_compute_the_same(options):
    layer = attention(**options)
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        quiet = layer(x)
    assert torch.equal(layer.train()(x), quiet)


@forms
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_zero_rows_and_equal_rows_have_numbers_and_gradients(options, fill):
    layer = attention(**options).train()
    with torch.no_grad():
        for name, value in layer.named_parameters():
            if name.endswith("bias"):
                value.zero_()
    x = torch.full((2, 5, 8), fill, requires_grad=True)
    y = layer(x)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


@forms
def test_everything_learns(options):
    layer = attention(**options).train()
    layer(torch.randn(2, 7, 8)).square().sum().backward()
    for name, value in layer.named_parameters():
        assert value.grad.abs().sum() > 0, name


def test_a_bit_that_is_zero_has_a_gradient():
    layer = attention().train()
    x = torch.randn(1, 5, 8)
    grads = []
    handle = layer.qkv.register_forward_hook(lambda *a: a[-1].register_hook(grads.append) and None)
    layer(x).square().sum().backward()
    handle.remove()
    q = layer.qkv(x)[..., :8]
    assert grads[0][..., :8][q < 0].abs().sum() > 0
    assert grads[0][..., :8][q > 0].abs().sum() > 0


def test_the_gradient_of_bits_is_that_of_the_surrogate():
    torch.manual_seed(0)
    x, weights = torch.randn(3, 6).double().requires_grad_(), torch.randn(3, 6).double()
    (bits(x) * weights).sum().backward()
    size = x.detach().square().mean(dim=-1, keepdim=True).sqrt()

    def surrogate(x):
        return (weights * (x / size / 2 + 0.5).clamp(0, 1)).sum()

    for at in range(6):
        step = torch.zeros(3, 6).double()
        step[0, at] = 1e-6
        expected = (surrogate(x.detach() + step) - surrogate(x.detach() - step)) / 2e-6
        assert math.isclose(x.grad[0, at], expected, rel_tol=1e-6, abs_tol=1e-9)


def test_bits_at_the_threshold_are_zero():
    x = torch.tensor([[0.0, -0.0, 1e-30, -1e-30]])
    assert bits(x).tolist() == [[0.0, 0.0, 1.0, 0.0]]


def test_the_hash_is_that_of_its_definition():
    torch.manual_seed(0)
    made = KernelHash(2, 4, bits=3, anchors=5).double()
    x = torch.randn(2, 2, 6, 4).double()
    away = (x[:, :, :, None] - made.anchors[None, :, None]).square().sum(dim=-1)
    g = (-away / (2 * made.sigma)).exp() - made.mean
    expected = torch.einsum("bhnm,him->bhni", g, made.mixing) > 0
    assert torch.equal(made(x).bool(), expected)


def test_calibration_takes_anchors_from_tokens():
    layer = attention(hashing=4, anchors=6)
    x = torch.randn(2, 5, 8)
    layer.calibrate(x)
    q, k, _ = layer._split(x)
    tokens = functional.normalize(torch.cat([q, k], dim=2), dim=-1)
    for head in range(2):
        near = torch.cdist(layer.hash.anchors[head], tokens[:, head].flatten(0, 1)).min(dim=1)
        assert near.values.max() < 1e-3
    away = layer.hash._distance(tokens)
    assert torch.allclose(layer.hash.sigma[:, 0, 0], away.mean(dim=(0, 2, 3)))
    g = layer.hash._kernel(away) - layer.hash.mean
    assert g.mean(dim=(0, 2)).abs().max() < 1e-6
    layer.calibrate(torch.zeros(2, 5, 8))  # all tokens on all anchors
    assert layer(x).isfinite().all()


def test_options_are_checked():
    for options, text in (
        ({"dim": 9}, "expected dim to be a multiple of heads; got 9 and 2"),
        ({"taps": 4}, "expected taps to be an odd number, or 0 for no filter; got 4"),
        ({"taps": -1}, "expected taps to be an odd number"),
        ({"taps": 1.0}, "expected taps to be an odd number"),
        ({"epsilon": 0}, "expected epsilon to be above 0, as a row may be all zeros; got 0"),
        ({"hashing": 4, "binary": False}, "hashing gives bits: expected binary=True"),
        ({"hashing": 0}, "expected bits to be a whole number of 1 or more; got 0"),
        ({"width": 0}, "expected width to be a whole number"),
    ):
        with pytest.raises(OptionError, match=text):
            BinaryLinearAttention(**{"dim": 8, "heads": 2, **options})
    layer = attention()
    with pytest.raises(OptionError, match="expected no mask: linear attention sums over all"):
        layer(torch.zeros(1, 5, 8), torch.zeros(5, 5))
    with pytest.raises(OptionError, match=r"calibrate sets the anchors .* got None"):
        layer.calibrate(torch.zeros(1, 5, 8))
    with pytest.raises(InputError, match=r"at least 25 tokens, .* of shape \[1, 2, 10, 4\]"):
        attention(hashing=4).calibrate(torch.zeros(1, 5, 8))
