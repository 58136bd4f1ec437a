"""Networks in which a fold that suggests itself is wrong, or costs more than it saves."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.train_forms._blocks import Residual, Sum, attend, conv_bn
from bench.train_forms._form import TrainForm
from bench.train_forms.convolutions import IMAGE, C, conv

D = 16
HIDDEN = 2 * D
TOKENS = (2, 6, D)


class Border(nn.Module):
    """A shifting norm before a padded convolution, beside a 1 x 1: the border differs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(C)
        self.large, self.small = conv(C, C, 3), conv(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x[B, C, H, W]."""
        return functional.relu(self.large(self.norm(x)) + self.small(x))


class Mapped(nn.Module):
    """A convolution with a bias of its own at each place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, C, 3, padding=1, bias=False)
        self.bias = nn.Parameter(torch.zeros(1, C, *IMAGE[2:]))

    def forward(self, x: Tensor) -> Tensor:
        """Map x[B, C, H, W]."""
        return functional.relu(self.conv(x) + self.bias)


class SharedConvolution(nn.Module):
    """One convolution that is called twice, each time before another norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, C, 3, padding=1, bias=False)
        self.first, self.second = nn.BatchNorm2d(C), nn.BatchNorm2d(C)

    def forward(self, x: Tensor) -> Tensor:
        """Map x[B, C, H, W]."""
        return self.second(self.conv(functional.relu(self.first(self.conv(x)))))


class UsedElsewhere(nn.Module):
    """What lies between two linear maps, four channels, is activated, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(D, 4), nn.Linear(4, D)

    def forward(self, x: Tensor) -> Tensor:
        """Map the tokens of x[B, N, D] to D + 4 channels."""
        h = self.first(x)
        return functional.gelu(torch.cat([self.second(h), torch.tanh(h)], dim=-1))


class Returned(nn.Module):
    """What lies before the norm is an output, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(C, 2 * C, 3), nn.BatchNorm2d(2 * C)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both values."""
        h = self.conv(x)
        return h, functional.relu(self.norm(h))


class Norms(nn.Module):
    """Branches whose LayerNorms differ in epsilon: what they normalize to is not one value."""

    def __init__(self, affine: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(
            nn.LayerNorm(D, eps=eps, elementwise_affine=affine) for eps in (1e-5, 1e-1)
        )
        self.maps = nn.ModuleList(nn.Linear(D, HIDDEN) for _ in range(2))
        self.second = nn.Linear(HIDDEN, D)

    def forward(self, x: Tensor) -> Tensor:
        """Map the tokens of x[B, N, D]."""
        first, second = (
            linear(norm(x)) for norm, linear in zip(self.norms, self.maps, strict=True)
        )
        return self.second(functional.gelu(first + second))


class ActiveTokens(nn.Module):
    """GELU on some of the tokens, with as many tokens as hidden channels: not a channel mask."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(D, HIDDEN), nn.Linear(HIDDEN, D)

    def forward(self, x: Tensor) -> Tensor:
        """Map the tokens of x[B, N, D]."""
        h = self.first(x)
        mask = torch.zeros_like(h, dtype=torch.bool)
        mask[:, : HIDDEN // 4] = True
        return x + self.second(torch.where(mask, functional.gelu(h), h))


class NormOfTokens(nn.Module):
    """Batch norm over axis 1 of x[B, N, D], which are the tokens, N = D."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(D, D), nn.BatchNorm1d(D)

    def forward(self, x: Tensor) -> Tensor:
        """Map the tokens of x[B, N, D]."""
        y: Tensor = self.norm(self.linear(x))
        return functional.gelu(y)


class Strides(nn.Module):
    """Two convolutions whose results have one size, but not one stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stepping = nn.Conv2d(C, C, 3, 2, 1)
        self.sliding = nn.Conv2d(C, C, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map x[B, C, 9, 9]."""
        return functional.relu(self.stepping(x) + self.sliding(x))


class SummedAfter(nn.Module):
    """GELU of each branch, then the sum: no sum of the branches' maps."""

    def __init__(self, is_merged: bool) -> None:
        super().__init__()
        outputs = 2 * HIDDEN if is_merged else HIDDEN
        self.maps = nn.ModuleList(nn.Linear(D, outputs) for _ in range(1 if is_merged else 2))
        self.second = nn.Linear(HIDDEN, D)

    def forward(self, x: Tensor) -> Tensor:
        """Map the tokens of x[B, N, D]."""
        maps = list(self.maps)
        parts = maps[0](x).chunk(2, dim=-1) if len(maps) == 1 else [m(x) for m in maps]
        return self.second(functional.gelu(parts[0]) + functional.gelu(parts[1]))


class TwoAttentions(nn.Module):
    """A_1 x V_1 + A_2 x V_2: the values of two attentions do not add up."""

    def __init__(self, is_merged: bool) -> None:
        super().__init__()
        outputs = (6 * D,) if is_merged else (3 * D, 3 * D)
        self.maps = nn.ModuleList(nn.Linear(D, width) for width in outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D]."""
        parts = [part for linear in self.maps for part in linear(x).split(D, dim=-1)]
        return attend(*parts[:3], 2) * attend(*parts[3:], 2)


class Broadcast(nn.Module):
    """x + w x, w x of one channel: as one map it would cost D times as much."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(D, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map the tokens of x[B, N, D]."""
        return functional.gelu(x + self.linear(x))


class Tied(nn.Module):
    """One weight behind two different norms."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(D), nn.LayerNorm(D)
        self.linear = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        """Map the tokens of x[B, N, D]."""
        return self.linear(self.second(functional.gelu(self.linear(self.first(x)))))


def pool_without_border() -> nn.Module:
    """3 x 3 beside an average that leaves the border's zeros out."""
    return nn.Sequential(
        Sum(conv_bn(C, C, 3), nn.AvgPool2d(3, 1, 1, count_include_pad=False)), nn.ReLU()
    )


def pool_ideal() -> nn.Module:
    """The same without the norm."""
    pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return nn.Sequential(Sum(conv(C, C, 3), pool), nn.ReLU())


def separable(norms: bool) -> nn.Module:
    """A depthwise 3 x 3 and a pointwise map: one dense 3 x 3 costs more."""
    if norms:
        return nn.Sequential(conv_bn(C, C, 3, groups=C), conv_bn(C, 2 * C, 1), nn.ReLU())
    return nn.Sequential(conv(C, C, 3, groups=C), conv(C, 2 * C, 1), nn.ReLU())


def padded_twice(norms: bool) -> nn.Module:
    """3 x 3 after 3 x 3, both padded: one 5 x 5 has another border."""
    make = conv_bn if norms else conv
    return nn.Sequential(make(C, 1, 3), make(1, C, 3), nn.ReLU())


def bottleneck() -> nn.Module:
    """Through two channels: the product of both maps costs more."""
    return nn.Sequential(nn.Linear(D, 2), nn.Linear(2, D), nn.GELU())


def layer_norm_shortcut(affine: bool) -> nn.Module:
    """x + W n(x), n a LayerNorm: the identity reads another value than W."""
    body = Residual(nn.LayerNorm(D, elementwise_affine=affine), nn.Linear(D, D))
    return nn.Sequential(body, nn.GELU())


def _form(
    name: str,
    trained: Callable[[], nn.Module],
    ideal: Callable[[], nn.Module] | None = None,
    shape: tuple[int, ...] = TOKENS,
) -> TrainForm:
    return TrainForm(name, "traps", trained, ideal or trained, shape, is_trap=True)


FORMS = (
    _form("trap-border", Border, Mapped, IMAGE),
    _form("trap-pool-without-border", pool_without_border, pool_ideal, IMAGE),
    _form("trap-shared-convolution", SharedConvolution, shape=IMAGE),
    _form("trap-used-elsewhere", UsedElsewhere),
    _form("trap-returned", Returned, shape=IMAGE),
    _form("trap-epsilons", lambda: Norms(True), lambda: Norms(False)),
    _form("trap-active-tokens", ActiveTokens, shape=(2, HIDDEN, D)),
    _form("trap-norm-of-tokens", NormOfTokens, shape=(2, D, D)),
    _form("trap-strides", Strides, shape=(2, C, 9, 9)),
    _form("trap-summed-after", lambda: SummedAfter(False), lambda: SummedAfter(True)),
    _form("trap-two-attentions", lambda: TwoAttentions(False), lambda: TwoAttentions(True)),
    _form("trap-broadcast", Broadcast),
    _form("trap-tied", Tied),
    _form("trap-separable", lambda: separable(True), lambda: separable(False), IMAGE),
    _form("trap-padded-twice", lambda: padded_twice(True), lambda: padded_twice(False), IMAGE),
    _form("trap-bottleneck", bottleneck),
    _form(
        "trap-layer-norm-shortcut",
        lambda: layer_norm_shortcut(True),
        lambda: layer_norm_shortcut(False),
    ),
)
