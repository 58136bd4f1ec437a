"""Linear maps in parts: low-rank adapters, products, mixtures, weights with a parametrization.

Sources: LoRA (arXiv 2106.09685), weight normalization (1602.07868), layer scale (2103.17239),
RMSNorm (1910.07467), gated feed-forward layers (2002.05202).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from bench.train_forms._blocks import LayerScale, Residual, Sum, TokenNorm, attend
from bench.train_forms._form import TrainForm
from bench.train_forms.hybrids import Merged

D = 16
TOKENS = (2, 6, D)


class LoRA(nn.Module):
    """W x + b + s B A x, the rank of B A below that of W."""

    def __init__(self, inputs: int, outputs: int, rank: int = 4, scale: float = 2.0) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map x[..., D]."""
        return self.base(x) + self.up(self.down(x)) * self.scale


class Attention(nn.Module):
    """Attention whose q and v are tuned by adapters, and whose k is not."""

    def __init__(self, tuned: bool) -> None:
        super().__init__()
        make: Callable[[int, int], nn.Module] = LoRA if tuned else nn.Linear
        self.q, self.k, self.v = make(D, D), nn.Linear(D, D), make(D, D)
        self.proj = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D]."""
        return self.proj(attend(self.q(x), self.k(x), self.v(x), heads=2))


class Mixture(nn.Module):
    """0.3 of one map, 0.7 of another by channel, less a quarter of a third."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(D, 2 * D) for _ in range(3))
        self.scale = LayerScale(2 * D)

    def forward(self, x: Tensor) -> Tensor:
        """Map x[..., D]."""
        first, second, third = (linear(x) for linear in self.maps)
        return functional.gelu(0.3 * first + 0.7 * self.scale(second) - third / 4)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps), times a gain where it has one."""

    def __init__(self, dim: int, gain: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim)) if gain else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the channels of x[..., D]."""
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return y if self.weight is None else y * self.weight


class Gated(nn.Module):
    """x + down(silu(gate(n(x))) * up(n(x)))."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = RMSNorm(D, gain=True)
        self.gate, self.up = (nn.Linear(D, 2 * D, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * D, D, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x[..., D]."""
        y = self.norm(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class GatedIdeal(nn.Module):
    """The same with one map to gate and value, and a norm without gain."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = RMSNorm(D, gain=False)
        self.both = nn.Linear(D, 4 * D, bias=False)
        self.down = nn.Linear(2 * D, D, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x[..., D]."""
        gate, up = self.both(self.norm(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


class Scaled(nn.Module):
    """A pre-norm block with layer scales, its q, k and v apart."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(D), Attention(tuned=False), LayerScale(D))
        self.mlp = nn.Sequential(
            nn.LayerNorm(D), nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D), LayerScale(D)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x[B, N, D]."""
        x = x + self.attention(x)
        return x + self.mlp(x)


def norm() -> nn.Module:
    """LayerNorm without gain and shift."""
    return nn.LayerNorm(D, elementwise_affine=False)


def plain_block() -> nn.Module:
    """A pre-norm block without layer scales, with one map to q, k and v."""
    return nn.Sequential(
        Residual(norm(), Merged(D), nn.Linear(D, D)),
        Residual(norm(), nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D)),
    )


def tuned_mlp() -> nn.Module:
    """An MLP whose two linears have adapters."""
    return Residual(nn.LayerNorm(D), LoRA(D, 2 * D), nn.GELU(), LoRA(2 * D, D))


def weight_norms() -> nn.Module:
    """Weights as direction and length."""
    first = parametrizations.weight_norm(nn.Linear(D, 2 * D))
    second = parametrizations.weight_norm(nn.Linear(2 * D, D))
    return nn.Sequential(first, nn.GELU(), second)


def mlp(hidden: int = 2 * D) -> nn.Module:
    """Two linears around GELU."""
    return nn.Sequential(nn.Linear(D, hidden), nn.GELU(), nn.Linear(hidden, D))


def normed() -> nn.Module:
    """Batch norm of tokens before a linear and after it."""
    return nn.Sequential(TokenNorm(D), nn.Linear(D, 2 * D), TokenNorm(2 * D), nn.GELU())


def wide() -> nn.Module:
    """A linear to many channels and one back."""
    return nn.Sequential(nn.Linear(D, 4 * D), nn.Linear(4 * D, D), nn.GELU())


def one(outputs: int = D) -> nn.Module:
    """A linear and GELU."""
    return nn.Sequential(nn.Linear(D, outputs), nn.GELU())


def shortcut() -> nn.Module:
    """x + W n(x), n a batch norm; the sum of three such."""
    body = Residual(TokenNorm(D), nn.Linear(D, D))
    return nn.Sequential(Sum(body, nn.Linear(D, D), nn.Identity()), nn.GELU())


def _form(
    name: str,
    trained: Callable[[], nn.Module],
    ideal: Callable[[], nn.Module],
) -> TrainForm:
    return TrainForm(name, "linear maps in parts", trained, ideal, TOKENS)


FORMS = (
    _form(
        "lora-attention",
        lambda: Attention(tuned=True),
        lambda: nn.Sequential(Merged(D), nn.Linear(D, D)),
    ),
    _form(
        "lora-mlp",
        tuned_mlp,
        lambda: Residual(norm(), nn.Linear(D, 2 * D), nn.GELU(), nn.Linear(2 * D, D)),
    ),
    _form("layer-scale", Scaled, plain_block),
    _form("gated-layer", Gated, GatedIdeal),
    _form("mixture", Mixture, lambda: one(2 * D)),
    _form("weight-norm", weight_norms, mlp),
    _form("linear-linear", wide, one),
    _form("linear-norms", normed, lambda: one(2 * D)),
    _form("residual-identity", shortcut, one),
)
