"""Feed-forward layers whose activation leaves some channels as they are, in their spellings.

y = x + W_2 n_2(z), z = GELU(h) on the first k channels and h on the others, h = W_1 n_1(x).
With batch norms that is x's map L beside B GELU(A x + a): D k + D D + k D multiplies a token in
place of 2 D H.

Source: RePaViT (arXiv 2505.21847), section 3, and its code.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.train_forms._blocks import Residual, TokenNorm
from bench.train_forms._form import TrainForm
from bench.train_forms.hybrids import Merged
from bench.train_forms.linears import norm

D = 16
HIDDEN = 4 * D
ACTIVE = D
Activate = Callable[[Tensor, int], Tensor]


def where(h: Tensor, active: int) -> Tensor:
    """The authors' spelling: a mask of the size of h."""
    mask = torch.zeros_like(h, dtype=torch.bool)
    mask[..., :active] = True
    return torch.where(mask, functional.gelu(h), h)


def concatenated(h: Tensor, active: int) -> Tensor:
    """Two slices, one activated."""
    return torch.cat([functional.gelu(h[..., :active]), h[..., active:]], dim=-1)


def split(h: Tensor, active: int) -> Tensor:
    """Two parts, one activated."""
    first, rest = h.split([active, h.shape[-1] - active], dim=-1)
    return torch.cat([functional.gelu(first), rest], dim=-1)


def masked(h: Tensor, active: int) -> Tensor:
    """Products with a mask of zeros and ones."""
    mask = (torch.arange(h.shape[-1]) < active).to(h.dtype)
    return mask * functional.gelu(h) + (1 - mask) * h


def scattered(h: Tensor, active: int) -> Tensor:
    """Active channels here and there."""
    step = h.shape[-1] // active
    return torch.where(torch.arange(h.shape[-1]) % step == 0, functional.gelu(h), h)


class Idle(nn.Module):
    """The layer with its norms, without the shortcut: x[B, N, D] -> [B, N, D]."""

    def __init__(
        self, activate: Activate, active: int = ACTIVE, before: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.before = TokenNorm(D) if before is None else before
        self.fc1 = nn.Linear(D, HIDDEN)
        self.between = TokenNorm(HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, D)
        self.activate = activate
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """Map the tokens of x[B, N, D]."""
        z = self.activate(self.fc1(self.before(x)), self.active)
        y: Tensor = self.fc2(self.between(z))
        return y


class Folded(nn.Module):
    """B GELU(A x + a) + L x + l, A and L in one map: x[B, N, D] -> [B, N, D]."""

    def __init__(self, active: int = ACTIVE) -> None:
        super().__init__()
        self.first = nn.Linear(D, active + D)
        self.second = nn.Linear(active, D, bias=False)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """Map the tokens of x[B, N, D]."""
        h, linear = self.first(x).split([self.active, D], dim=-1)
        return self.second(functional.gelu(h)) + linear


class Convolutional(nn.Module):
    """The same on images x[B, D, H, W], with 1 x 1 convolutions, activated by chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.BatchNorm2d(D), nn.BatchNorm2d(HIDDEN)
        self.fc1, self.fc2 = nn.Conv2d(D, HIDDEN, 1), nn.Conv2d(HIDDEN, D, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map the pixels of x[B, D, H, W]."""
        first, *rest = self.fc1(self.before(x)).chunk(4, dim=1)
        z = torch.cat([functional.gelu(first), *rest], dim=1)
        return x + self.fc2(self.between(z))


class ConvolutionalIdeal(nn.Module):
    """The folded form on images; A and L stay two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.linear = nn.Conv2d(D, ACTIVE, 1), nn.Conv2d(D, D, 1)
        self.second = nn.Conv2d(ACTIVE, D, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map the pixels of x[B, D, H, W]."""
        return self.second(functional.gelu(self.first(x))) + self.linear(x)


def attention(affine: bool) -> nn.Module:
    """The residual attention of a block."""
    layer_norm = nn.LayerNorm(D) if affine else norm()
    return Residual(layer_norm, Merged(D), nn.Linear(D, D))


def _form(
    name: str,
    trained: Callable[[], nn.Module],
    ideal: Callable[[], nn.Module] = Folded,
    shape: tuple[int, ...] = (2, 6, D),
    *,
    is_trap: bool = False,
) -> TrainForm:
    return TrainForm(name, "idle channels", trained, ideal, shape, is_trap)


def dense() -> nn.Module:
    """Both linears in full size, activated in part."""
    first = nn.Linear(D, HIDDEN)

    class Partial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = first, nn.Linear(HIDDEN, D)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc2(concatenated(self.fc1(x), HIDDEN - 4))

    return Partial()


FORMS = (
    _form("idle-where", lambda: Residual(Idle(where))),
    _form("idle-slices", lambda: Residual(Idle(concatenated))),
    _form("idle-split", lambda: Residual(Idle(split))),
    _form("idle-mask-products", lambda: Residual(Idle(masked))),
    _form("idle-scattered", lambda: Residual(Idle(scattered))),
    _form("idle-convolutions", Convolutional, ConvolutionalIdeal, (2, D, 5, 6)),
    _form(
        "idle-layer-norm",
        lambda: Residual(Idle(concatenated, before=nn.LayerNorm(D))),
        lambda: Residual(norm(), Folded()),
    ),
    _form(
        "idle-block",
        lambda: nn.Sequential(attention(True), Residual(Idle(where))),
        lambda: nn.Sequential(attention(False), Folded()),
    ),
    _form("idle-too-few", lambda: Residual(Idle(concatenated, HIDDEN - 4)), dense, is_trap=True),
)
