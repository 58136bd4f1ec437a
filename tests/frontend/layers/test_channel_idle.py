"""Idle channels: how many there are, and what they fold to."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import addax
from addax.errors import OptionError
from addax.frontend.layers import ChannelIdleFeedForward, LastAxisBatchNorm, active_channels
from tests.frontend.layers.examples import learnt


@pytest.mark.parametrize(
    ("hidden", "ratio", "active"),
    [
        (640, 0.7, 192),  # 193 in floating point
        (640, 0.9, 64),
        (768, 0.9, 77),
        (768, 0.75, 192),
        (768, 1 / 3, 512),
        (5, 0.5, 3),
        (8, 0, 8),
        (8, 1, 0),
    ],
)
def test_active_channels(hidden: int, ratio: float, active: int) -> None:
    assert active_channels(hidden, ratio) == active


@given(st.integers(1, 4096), st.integers(0, 100))
def test_active_channels_of_a_percentage(hidden: int, percent: int) -> None:
    expected = -((-hidden * (100 - percent)) // 100)
    assert active_channels(hidden, percent / 100) == expected
    assert active_channels(hidden, float(Fraction(percent, 100))) == expected


def folded(layer: ChannelIdleFeedForward, x: Tensor) -> Tensor:
    """The published fold: y = B act(A x + a) + L x + l, of weights with the norms in them."""

    def into(linear: nn.Linear, norm: LastAxisBatchNorm) -> tuple[Tensor, Tensor]:
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        return linear.weight * scale, linear.bias + linear.weight @ shift

    (w1, b1), (w2, b2) = into(layer.fc1, layer.norm1), into(layer.fc2, layer.norm2)
    k = layer.active
    active = functional.gelu(x @ w1[:k].T + b1[:k]) @ w2[:, :k].T
    return active + x @ (w2[:, k:] @ w1[k:]).T + w2[:, k:] @ b1[k:] + b2


@pytest.mark.parametrize("ratio", [0, 0.25, 0.75, 1])
@pytest.mark.parametrize("shape", [(7, 6), (2, 5, 6), (2, 3, 2, 6), (2, 6, 6)])
def test_it_is_its_fold(ratio: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = learnt(ChannelIdleFeedForward(6, 24, ratio)).double().eval()
    x = torch.randn(shape, dtype=torch.float64)
    assert torch.allclose(folded(layer, x), layer(x), atol=1e-12)


@pytest.mark.parametrize("shape", [(7, 6), (2, 5, 6), (2, 3, 2, 6), (2, 6, 6)])
def test_the_norm_is_of_the_last_axis(shape: tuple[int, ...]) -> None:
    norm = LastAxisBatchNorm(6).double().train()
    x = 3 + 2 * torch.randn(shape, dtype=torch.float64)
    y = norm(x).reshape(-1, 6)
    assert torch.allclose(y.mean(0), torch.zeros(6, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(y.var(0, correction=0), torch.ones(6, dtype=torch.float64), atol=1e-3)


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def test_blocks_in_a_row_fold_each() -> None:
    torch.manual_seed(0)
    mixers = [nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.Tanh()) for _ in range(2)]
    idle = [ChannelIdleFeedForward(16, 64, 0.75) for _ in range(2)]
    parts = [part for pair in zip(mixers, idle, strict=True) for part in pair]
    model = learnt(nn.Sequential(*map(Residual, parts))).eval()
    x = torch.randn(1, 5, 16)
    fast = addax.optimize(model, x, progress=False)
    assert torch.allclose(model(x), fast(x), rtol=1e-4, atol=1e-5)
    products = [n for n in fast.model.graph.all_nodes() if n.op_type in ("MatMul", "Gemm")]
    # A token's multiplications: one D x D map of the mixer, and D (2 k + D) of the idle layer.
    weights = [value for n in products for value in n.inputs if value.const_value is not None]
    assert sum(value.const_value.size for value in weights) == 2 * (16 * 16 + 16 * (2 * 16 + 16))


def test_an_unknown_norm() -> None:
    with pytest.raises(OptionError, match="expected norm to be one of batch, layer, none"):
        ChannelIdleFeedForward(4, 8, 0.5, norm="rms")


def test_no_ratio() -> None:
    with pytest.raises(OptionError, match=r"expected idle_ratio to be a number in 0\.\.1"):
        ChannelIdleFeedForward(4, 8, 75)
