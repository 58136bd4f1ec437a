"""Blocks trained as parallel branches, joined before what is not linear, and branches left apart.

Each branch has a LayerNorm of its own with the same epsilon, so all read one normalized value.

Source: "Depth reparameterisation" (arXiv 2511.19718); the names T1 to T8 count the identities
that a fold rests on: sums before an activation, wider layers, queries and keys side by side.
"""

from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.nn import functional

from bench.train_forms._blocks import Residual, attend
from bench.train_forms._form import TrainForm
from bench.train_forms.hybrids import Merged
from bench.train_forms.linears import mlp, norm

D = 16
HIDDEN = 2 * D
BRANCHES = 3
HEADS = 2


def normed(outputs: int, count: int = BRANCHES) -> nn.ModuleList:
    """Branches of a LayerNorm and a linear from D channels."""
    return nn.ModuleList(
        nn.Sequential(nn.LayerNorm(D), nn.Linear(D, outputs)) for _ in range(count)
    )


def linears(inputs: int, outputs: int, count: int = BRANCHES) -> nn.ModuleList:
    """Linears of one shape."""
    return nn.ModuleList(nn.Linear(inputs, outputs) for _ in range(count))


def total(values: Iterable[Tensor]) -> Tensor:
    """The sum of some tensors, from left to right."""
    first, *rest = values
    for value in rest:
        first = first + value
    return first


class JoinedLayer(nn.Module):
    """x + sum V_b GELU(sum W_b n_b(x)): joined at the entry of GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = normed(HIDDEN), linears(HIDDEN, D)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x[B, N, D]."""
        h = functional.gelu(total(branch(x) for branch in self.first))
        return x + total(branch(h) for branch in self.second)


class ApartLayer(nn.Module):
    """x + sum V_b GELU(W_b n_b(x)): one layer of all hidden channels side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = normed(HIDDEN), linears(HIDDEN, D)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x[B, N, D]."""
        pairs = zip(self.first, self.second, strict=True)
        return x + total(second(functional.gelu(first(x))) for first, second in pairs)


class JoinedAttention(nn.Module):
    """Queries, keys and values are sums over branches, and so is the output's map."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (normed(D) for _ in range(3))
        self.out = linears(D, D)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D]."""
        q, k, v = (total(b(x) for b in part) for part in (self.q, self.k, self.v))
        mixed = attend(q, k, v, HEADS)
        return x + total(branch(mixed) for branch in self.out)


class ApartAttention(nn.Module):
    """Branches that attend for themselves: one attention with all their heads."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = normed(3 * D, 2), linears(D, D, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D]."""
        return x + total(
            out(attend(*qkv(x).chunk(3, dim=-1), HEADS))
            for qkv, out in zip(self.qkv, self.out, strict=True)
        )


class SummedScores(nn.Module):
    """softmax(sum Q_b K_b^T) v: queries side by side and keys side by side, never their sums."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = linears(D, D, 2), linears(D, D, 2)
        self.v = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D] with one head."""
        pairs = zip(self.q, self.k, strict=True)
        return total(q(x) @ k(x).transpose(1, 2) for q, k in pairs).softmax(-1) @ self.v(x)


class SummedScoresIdeal(nn.Module):
    """One map to queries and keys of twice the size, and to values."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Linear(D, 5 * D)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D] with one head."""
        q, k, v = self.maps(x).split([2 * D, 2 * D, D], dim=-1)
        return (q @ k.transpose(1, 2)).softmax(-1) @ v


class SharedWeights(nn.Module):
    """sum_b A V_b x W_b with one attention A: one map of x, from D to D."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.qk = nn.Linear(D, 2 * D)
        self.v, self.out = linears(D, D, count), linears(D, D, count)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D] with one head."""
        q, k = self.qk(x).chunk(2, dim=-1)
        weights = (q @ k.transpose(1, 2)).softmax(-1)
        return total(o(weights @ v(x)) for v, o in zip(self.v, self.out, strict=True))


class SharedWeightsIdeal(nn.Module):
    """One map to queries, keys and what is mixed."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Linear(D, 3 * D)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D] with one head."""
        q, k, v = self.maps(x).chunk(3, dim=-1)
        return (q @ k.transpose(1, 2)).softmax(-1) @ v


class Blockwise(nn.Module):
    """The output as a sum over heads, without concatenation: sum_h A_h V_h W_h."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.ModuleList(linears(D, D // HEADS, HEADS) for _ in range(3))
        self.out = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D]."""
        weights = self.out.weight.chunk(HEADS, dim=1)
        heads = [
            attend(q(x), k(x), v(x), 1) @ weight.T
            for q, k, v, weight in zip(*self.qkv, weights, strict=True)
        ]
        return total(heads) + self.out.bias


def plain_layer(hidden: int = HIDDEN) -> nn.Module:
    """A pre-norm layer."""
    return Residual(norm(), mlp(hidden))


class Many(nn.Module):
    """Attention with several heads in one map, D channels out of heads * size."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(D, 3 * width), nn.Linear(width, D)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D]."""
        return self.out(attend(*self.qkv(x).chunk(3, dim=-1), self.heads))


class Joined(nn.Module):
    """(1 - t) of a join after GELU and t of one before, as in the middle of training."""

    def __init__(self, mixture: float) -> None:
        super().__init__()
        self.first, self.second = linears(D, HIDDEN, 2), nn.Linear(HIDDEN, D)
        self.mixture = mixture

    def forward(self, x: Tensor) -> Tensor:
        """Map the tokens of x[B, N, D]."""
        parts = [first(x) for first in self.first]
        before = functional.gelu(total(parts))
        after = total(functional.gelu(part) for part in parts)
        return self.second(self.mixture * before + (1 - self.mixture) * after)


class JoinedMerged(nn.Module):
    """The same, the two maps in one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(D, 2 * HIDDEN), nn.Linear(HIDDEN, D)

    def forward(self, x: Tensor) -> Tensor:
        """Map the tokens of x[B, N, D]."""
        first, second = self.first(x).chunk(2, dim=-1)
        after = functional.gelu(first) + functional.gelu(second)
        return self.second(0.5 * functional.gelu(first + second) + 0.5 * after)


def _form(
    name: str,
    trained: Callable[[], nn.Module],
    ideal: Callable[[], nn.Module],
    *,
    is_trap: bool = False,
) -> TrainForm:
    return TrainForm(name, "depth branches", trained, ideal, (2, 6, D), is_trap)


def plain_attention() -> nn.Module:
    """Pre-norm attention with one map to q, k and v."""
    return Residual(norm(), Merged(D), nn.Linear(D, D))


FORMS = (
    _form("depth-joined-layer", JoinedLayer, plain_layer),
    _form("depth-joined-attention", JoinedAttention, plain_attention),
    _form(
        "depth-joined-block",
        lambda: nn.Sequential(JoinedAttention(), JoinedLayer()),
        lambda: nn.Sequential(plain_attention(), plain_layer()),
    ),
    _form("depth-apart-layer", ApartLayer, lambda: plain_layer(BRANCHES * HIDDEN)),
    _form("depth-apart-attention", ApartAttention, lambda: Residual(norm(), Many(2 * D, 4))),
    _form("depth-summed-scores", SummedScores, SummedScoresIdeal),
    _form("depth-shared-weights", SharedWeights, SharedWeightsIdeal),
    _form("depth-blockwise", Blockwise, lambda: Many(D, HEADS)),
    _form("depth-half-joined", lambda: Joined(0.5), JoinedMerged, is_trap=True),
)
