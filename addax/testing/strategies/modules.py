"""Random small modules of torch: what compilers get, a few layers deep."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    import torch

__all__ = ["modules", "stack"]

_FORMS: dict[str, tuple[int, ...]] = {"rows": (4, 6), "tokens": (2, 5, 8), "image": (2, 4, 6, 6)}
_LAYERS = {
    "rows": ("linear", "relu", "batch norm", "gelu", "layer norm", "residual", "tanh"),
    "tokens": ("linear", "relu", "layer norm", "gelu", "residual", "attention", "silu"),
    "image": ("conv", "relu", "batch norm", "depthwise", "residual", "hardswish", "pool"),
}


def modules(
    *, max_layers: int = 5
) -> st.SearchStrategy[tuple["torch.nn.Module", tuple["torch.Tensor", ...]]]:
    """Pairs of a module in eval mode and a tuple of example inputs for it.

    The modules are stacks of linear layers, convolutions, norms, activations, residual blocks and
    attention, over rows x[N, C], tokens x[N, T, C] or images x[N, C, H, W]. Weights are float32.

    Args:
        max_layers: How many layers a stack has at most.
    """
    return st.sampled_from(tuple(_FORMS)).flatmap(
        lambda form: st.builds(
            stack,
            st.just(form),
            st.lists(st.sampled_from(_LAYERS[form]), min_size=1, max_size=max_layers),
            st.integers(0, 99),
        )
    )


def stack(
    form: str, layers: Sequence[str], seed: int = 0
) -> tuple["torch.nn.Module", tuple["torch.Tensor", ...]]:
    """The module that belongs to these layers, and an input for it.

    Args:
        form: Of the input: "rows", "tokens" or "image".
        layers: What is stacked, by the names that `modules` draws.
        seed: Of weights and input.
    """
    import torch

    dims = _FORMS[form]
    channels = dims[1] if form == "image" else dims[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = torch.nn.Sequential(*(_layer(name, form, channels) for name in layers)).eval()
        with torch.no_grad():
            for name, tensor in made.state_dict().items():
                if name.endswith("running_var"):
                    tensor.uniform_(0.5, 2.0)
                elif tensor.is_floating_point() and tensor.dim() == 1:
                    tensor.add_(0.25 * torch.randn_like(tensor))
        return made, (torch.randn(dims),)


def _layer(name: str, form: str, channels: int) -> "torch.nn.Module":
    from torch import nn

    image = form == "image"
    makers: dict[str, Callable[[], Any]] = {
        "linear": lambda: nn.Linear(channels, channels),
        "conv": lambda: nn.Conv2d(channels, channels, 3, padding=1),
        "depthwise": lambda: nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        "batch norm": lambda: (nn.BatchNorm2d if image else nn.BatchNorm1d)(channels),
        "layer norm": lambda: nn.LayerNorm(channels),
        "relu": nn.ReLU,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "tanh": nn.Tanh,
        "hardswish": nn.Hardswish,
        "pool": lambda: nn.AvgPool2d(3, stride=1, padding=1),
        "residual": lambda: _residual(_body(form, channels)),
        "attention": lambda: _attention(channels),
    }
    made: nn.Module = makers[name]()
    return made


def _body(form: str, channels: int) -> "torch.nn.Module":
    from torch import nn

    if form == "image":
        return nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
    return nn.Sequential(
        nn.LayerNorm(channels),
        nn.Linear(channels, 2 * channels),
        nn.GELU(),
        nn.Linear(2 * channels, channels),
    )


def _residual(body: "torch.nn.Module") -> "torch.nn.Module":
    """y = x + body(x)."""
    import torch

    class Residual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.body(x)

    return Residual()


def _attention(channels: int, heads: int = 2) -> "torch.nn.Module":
    """x[N, T, C] + attention over T with `heads` heads."""
    import torch

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.LayerNorm(channels)
            self.qkv = torch.nn.Linear(channels, 3 * channels)
            self.out = torch.nn.Linear(channels, channels)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n, t, c = x.shape
            split = self.qkv(self.norm(x)).reshape(n, t, 3, heads, c // heads)
            q, k, v = split.permute(2, 0, 3, 1, 4)
            mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v)
            return x + self.out(mixed.transpose(1, 2).reshape(n, t, c))

    return Attention()
