"""Options of the convolution blocks and of LoRA, and the border of the diverse branch block."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from addax.errors import OptionError
from addax.frontend.layers import (
    AsymmetricBlock,
    DiverseBranchBlock,
    LoRALinear,
    MobileOneBlock,
    NormThenPad,
    RepMixer,
    RepVGGBlock,
)


@pytest.mark.parametrize(
    "block", [RepVGGBlock, MobileOneBlock, AsymmetricBlock, DiverseBranchBlock]
)
def test_kernels_have_a_middle(block: type) -> None:
    with pytest.raises(OptionError, match="expected kernel to be odd, so that branches"):
        block(4, 4, 4)


@pytest.mark.parametrize(
    "block", [RepVGGBlock, MobileOneBlock, AsymmetricBlock, DiverseBranchBlock]
)
@pytest.mark.parametrize(("size", "stride"), [(8, 1), (8, 2), (7, 2)])
def test_all_branches_give_one_size(block: type, size: int, stride: int) -> None:
    x = torch.randn(2, 4, size, size)
    expected = nn.Conv2d(4, 6, 3, stride, padding=1)(x).shape
    assert expected == block(4, 6, 3, stride=stride)(x).shape


@pytest.mark.parametrize("training", [True, False])
def test_the_border_is_what_the_norm_makes_of_zero(training: bool) -> None:
    norm = NormThenPad(3, 2)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1, 2]))
        norm.bias.copy_(torch.tensor([1.0, 2, 3]))
    norm.running_mean.copy_(torch.tensor([3.0, -1, 1]))
    norm.running_var.fill_(4)
    of_zero = norm.eval()(torch.zeros(1, 3, 1, 1))[0, :, 0, 0]
    inner = functional.batch_norm(
        x := torch.randn(2, 3, 4, 4),
        norm.running_mean.clone(),
        norm.running_var.clone(),
        norm.weight,
        norm.bias,
        training=training,
    )
    if training:  # the statistics move first
        moved = 0.9 * norm.running_mean + 0.1 * x.mean((0, 2, 3))
        variance = 0.9 * norm.running_var + 0.1 * x.var((0, 2, 3))
        of_zero = norm.bias - moved * norm.weight / torch.sqrt(variance + norm.eps)
    y = norm.train(training)(x)
    assert torch.allclose(y[:, :, 2:-2, 2:-2], inner, atol=1e-6)
    border = torch.ones(8, 8, dtype=torch.bool)
    border[2:-2, 2:-2] = False
    assert torch.allclose(y[..., border], of_zero[:, None].expand(3, int(border.sum())), atol=1e-6)


def test_a_mixer_starts_as_the_identity() -> None:
    x = torch.randn(2, 4, 6, 6)
    assert torch.allclose(x, RepMixer(4, scale=0.0)(x))


def test_lora_starts_as_the_map_that_it_wraps() -> None:
    linear = nn.Linear(6, 4)
    x = torch.randn(3, 6)
    expected = linear(x)
    wrapped = LoRALinear.around(linear, 2, alpha=8)
    assert torch.equal(expected, wrapped(x))
    assert [n for n, p in wrapped.named_parameters() if p.requires_grad] == [
        "down.weight",
        "up.weight",
    ]


def test_lora_says_its_folded_weight() -> None:
    layer = LoRALinear(6, 4, 2, alpha=8).double()
    nn.init.normal_(layer.up.weight)
    x = torch.randn(3, 6, dtype=torch.float64)
    assert torch.allclose(functional.linear(x, layer.weight, layer.bias), layer(x))


def test_lora_of_full_rank() -> None:
    with pytest.raises(OptionError, match="expected a rank of at most 4, the smaller width"):
        LoRALinear(6, 4, 5)
