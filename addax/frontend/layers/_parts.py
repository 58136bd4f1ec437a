"""The linear maps inside feed-forward and attention modules, found by structure and by trial.

Names say little and forward functions say all, so a reading counts only if what it says computes
what the module computes, on random input in float64.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.GELU,
    lambda: nn.GELU(approximate="tanh"),
    nn.ReLU,
    nn.SiLU,
    nn.ReLU6,
    nn.Hardswish,
    nn.ELU,
    nn.LeakyReLU,
    nn.Tanh,
    nn.Mish,
)
HEAD_COUNTS = ("num_heads", "heads", "num_attention_heads", "n_heads", "n_head", "nhead")
TRIAL = (2, 5)  # examples and tokens of the random input
AGREEMENT = 1e-9  # relative, in float64: no other function comes this near by chance


class NotReadableError(Exception):
    """Why a module is not read; never leaves `convert`."""


@dataclass(frozen=True)
class Affine:
    """A linear map: weight[O, I] and bias[O]."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, linear: nn.Linear) -> "Affine":
        """The map of a module, apart from its graph of gradients."""
        bias = None if linear.bias is None else linear.bias.detach()
        return cls(linear.weight.detach(), bias)

    def __call__(self, x: Tensor) -> Tensor:
        """Map the last axis of x[..., I], in its precision."""
        bias = None if self.bias is None else self.bias.to(x)
        return functional.linear(x, self.weight.to(x), bias)


@dataclass(frozen=True)
class FeedForward:
    """fc2(act(fc1(x)))."""

    fc1: Affine
    fc2: Affine
    activation: nn.Module
    dropout: float

    def __call__(self, x: Tensor) -> Tensor:
        """Map each token of x[..., D] alone."""
        return self.fc2(self.activation(self.fc1(x)))


@dataclass(frozen=True)
class SelfAttention:
    """Softmax self-attention over `heads` heads: q, k and v of the input, and the output map."""

    qkv: tuple[Affine, Affine, Affine]
    proj: Affine
    heads: int
    dropout: float

    def __call__(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[N, T, D]."""
        q, k, v = (
            linear(x).reshape(*x.shape[:2], self.heads, -1).transpose(1, 2) for linear in self.qkv
        )
        mixed = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v
        return self.proj(mixed.transpose(1, 2).flatten(2))


def read_feed_forward(module: nn.Module) -> FeedForward:
    """The parts of a feed-forward module.

    Raises:
        NotReadableError: If it is none, with what it is instead.
    """
    children = list(module.children())
    linears = [child for child in children if isinstance(child, nn.Linear)]
    if len(linears) != 2:
        raise NotReadableError(f"it has {len(linears)} linear maps of its own, not 2")
    first, second = linears
    if (first.out_features, first.in_features) != (second.in_features, second.out_features):
        raise NotReadableError(
            f"its linear maps {first.in_features} -> {first.out_features} and "
            f"{second.in_features} -> {second.out_features} are no way there and back"
        )
    plain = (nn.Linear, nn.Dropout, nn.Identity)
    own = [child for child in children if not isinstance(child, plain)]
    if len(own) > 1 or any(True for child in own for _ in child.parameters()):
        kinds = ", ".join(type(child).__name__ for child in own)
        raise NotReadableError(f"between its linear maps there is more than an activation: {kinds}")
    candidates = own or [make() for make in ACTIVATIONS]
    fc1, fc2 = Affine.of(first), Affine.of(second)
    readings = [FeedForward(fc1, fc2, act, _dropout(children)) for act in candidates]
    return readings[_agreeing(module, first.in_features, readings)]


def read_attention(module: nn.Module) -> SelfAttention:
    """The parts of a self-attention module.

    Raises:
        NotReadableError: If it is none, with what it is instead.
    """
    if isinstance(module, nn.MultiheadAttention):
        return _read_multihead(module)
    linears = {n: child for n, child in module.named_children() if isinstance(child, nn.Linear)}
    heads = _heads(module)
    readings = [
        SelfAttention(qkv, proj, heads, _dropout(list(module.children())))
        for qkv, proj in _projections(linears, heads)
    ]
    dim = readings[0].proj.weight.shape[0]
    return readings[_agreeing(module, dim, readings)]


def _projections(
    linears: dict[str, nn.Linear], heads: int
) -> list[tuple[tuple[Affine, Affine, Affine], Affine]]:
    """Every way to see q, k, v and the output map in the linear maps of a module."""
    shapes = [(one.in_features, one.out_features) for one in linears.values()]
    dim = shapes[0][0] if shapes else 0
    if sorted(shapes) == [(dim, dim), (dim, 3 * dim)]:
        back, fused = sorted(linears.values(), key=lambda one: one.out_features)
        return [(split, Affine.of(back)) for split in _thirds(Affine.of(fused), heads)]
    if shapes == [(dim, dim)] * 4:
        roles = {name.lower().lstrip("_")[0]: one for name, one in linears.items()}
        if roles.keys() > {"q", "k", "v"}:
            (other,) = roles.keys() - {"q", "k", "v"}
            q, k, v, proj = (Affine.of(roles[role]) for role in ("q", "k", "v", other))
            return [((q, k, v), proj)]
    found = ", ".join(
        f"{name} {one.in_features} -> {one.out_features}" for name, one in linears.items()
    )
    raise NotReadableError(
        "self-attention has linear maps D -> 3 D and D -> D, or four D -> D called q.., k.., v.. "
        f"and something else; it has {found or 'none'}"
    )


def _thirds(fused: Affine, heads: int) -> Iterator[tuple[Affine, Affine, Affine]]:
    """q, k and v stacked, or stacked within each head."""
    weight, bias = fused.weight, fused.bias
    biases = (None, None, None) if bias is None else bias.chunk(3)
    q, k, v = (Affine(*pair) for pair in zip(weight.chunk(3), biases, strict=True))
    yield q, k, v
    rows = torch.arange(len(weight)).reshape(heads, 3, -1).unbind(1)
    q, k, v = (
        Affine(weight[r.flatten()], None if bias is None else bias[r.flatten()]) for r in rows
    )
    yield q, k, v


def _read_multihead(module: nn.MultiheadAttention) -> SelfAttention:
    if module.in_proj_weight is None or module.bias_k is not None or module.add_zero_attn:
        raise NotReadableError(
            "its keys or values have another width than its queries, or tokens of their own are "
            "added to them"
        )
    bias = None if module.in_proj_bias is None else module.in_proj_bias.detach()
    qkv = next(_thirds(Affine(module.in_proj_weight.detach(), bias), module.num_heads))
    return SelfAttention(qkv, Affine.of(module.out_proj), module.num_heads, module.dropout)


def _heads(module: nn.Module) -> int:
    for name in HEAD_COUNTS:
        count = getattr(module, name, None)
        if isinstance(count, int) and count > 0:
            return count
    raise NotReadableError(f"it has none of the attributes {', '.join(HEAD_COUNTS)}")


def _dropout(children: list[nn.Module]) -> float:
    """The first dropout, which is the one before the second product."""
    return next((child.p for child in children if isinstance(child, nn.Dropout)), 0.0)


def _agreeing(module: nn.Module, dim: int, readings: Sequence[Callable[[Tensor], Tensor]]) -> int:
    """The number of the reading that computes what the module does."""
    trial = copy.deepcopy(module).to("cpu", torch.float64).eval()
    x = torch.randn(*TRIAL, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            expected = trial(x)
            found = [reading(x) for reading in readings]
    except Exception as error:
        raise NotReadableError(f"calling it with tokens [2, 5, {dim}] failed: {error}") from error
    if not isinstance(expected, Tensor) or expected.shape != x.shape:
        raise NotReadableError(f"called with tokens [2, 5, {dim}] it does not return their like")
    largest = expected.abs().max()
    distances = [float((one - expected).abs().max() / largest) for one in found]
    best = min(range(len(readings)), key=distances.__getitem__)
    if not distances[best] < AGREEMENT:
        raise NotReadableError(
            "on random tokens it computes something else than its linear maps and "
            f"activation do, by {distances[best]:.1e} of the largest"
        )
    return best
