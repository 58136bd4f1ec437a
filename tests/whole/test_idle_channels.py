"""RePaViT's feed-forward part reaches D D + 2 k D multiplies in every spelling of its mask."""

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional

import addax
from addax.ir.cost import cost_of
from addax.ir.query import producer

D, H, TOKENS = 16, 64, 9


def whole_mask(h, k):
    mask = torch.zeros_like(h, dtype=torch.bool)
    mask[:, :, :k] = True
    return torch.where(mask, functional.gelu(h), h)


def row_mask(h, k):
    return torch.where(torch.arange(H) < k, functional.gelu(h), h)


def last_channels(h, k):
    return torch.where(torch.arange(H) < H - k, h, functional.gelu(h))


def concatenated(h, k):
    return torch.cat([functional.gelu(h[..., :k]), h[..., k:]], -1)


def products(h, k):
    mask = (torch.arange(H) < k).float()
    return mask * functional.gelu(h) + (1 - mask) * h


SPELLINGS = [whole_mask, row_mask, last_channels, concatenated, products]


class Part(nn.Module):
    """x + fc2(norm(z)), z = gelu(h) on k channels and h elsewhere, h = fc1(norm(x))."""

    def __init__(self, spelling, k, layer_norm=False):
        super().__init__()
        torch.manual_seed(k)
        self.spelling, self.k, self.layer_norm = spelling, k, layer_norm
        self.fc1, self.fc2 = nn.Linear(D, H), nn.Linear(H, D)
        self.norm1 = nn.LayerNorm(D) if layer_norm else nn.BatchNorm1d(D)
        self.norm2 = nn.BatchNorm1d(H)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.normal_(module.running_mean)
                nn.init.normal_(module.bias)

    def forward(self, x):
        n = self.norm1(x) if self.layer_norm else self.norm1(x.mT).mT
        z = self.spelling(self.fc1(n), self.k)
        return x + self.fc2(self.norm2(z.mT).mT)


def folded(module, dynamic):
    module.eval()
    x = torch.randn(2, TOKENS, D)
    shapes = ({0: Dim("batch")},) if dynamic else None
    made = addax.optimize(module, x, dynamic_shapes=shapes, progress=False)
    more = torch.randn(5 if dynamic else 2, TOKENS, D)
    torch.testing.assert_close(made(more), module(more), rtol=1e-4, atol=1e-4)
    rows = TOKENS * (1 if dynamic else 2)
    return made, sum(
        cost_of(node).multiplies
        for node in made.model.graph
        if producer(node.outputs[0], "MatMul", "Gemm", "Conv")
    ) // rows


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda f: f.__name__)
def test_every_spelling_reaches_the_paper_s_count(spelling):
    _, multiplies = folded(Part(spelling, D), dynamic=True)
    assert multiplies == D * D + 2 * D * D


def test_a_mask_of_fixed_size_reaches_it_too():
    _, multiplies = folded(Part(whole_mask, D), dynamic=False)
    assert multiplies == D * D + 2 * D * D


def test_with_a_layer_norm_the_shortcut_stays_and_the_count_is_the_same():
    _, multiplies = folded(Part(row_mask, D, layer_norm=True), dynamic=True)
    assert multiplies == D * D + 2 * D * D


def test_below_break_even_nothing_is_folded_and_the_figures_are_told():
    made, multiplies = folded(Part(row_mask, H - 4), dynamic=True)
    assert multiplies == 2 * D * H
    reasons = [reason for rule in made.report.rules for reason in rule.declined]
    assert any("consolidated it would cost" in reason for reason in reasons)
