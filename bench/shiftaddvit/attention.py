"""All between the projections of attention, on the sizes of PVTv2-B0 and its like.

x[1, T, 3 C] holds queries, keys and values; the result is [1, T, C].
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from addax.frontend.layers import BinaryLinearAttention
from bench.measure import interleave, table
from bench.shiftaddvit.contenders import Call, exported, optimized

# [tokens, width, heads]
SIZES = (
    (3136, 32, 1), (784, 64, 2), (196, 160, 5), (3136, 64, 1), (784, 128, 2), (197, 192, 3)
)  # fmt: skip
QUICK = ((784, 64, 2),)
LINEAR, FUSED, RELEASED, REWRITTEN = "linear, fp32", "signs, addax", "hash", "hash, addax"
_ANCHORS, _BITS = 25, 16  # of the released hash


class Core(nn.Module):
    """Attention without its projections."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, [1, H, T, C / H]."""
        parts = x.chunk(3, dim=-1)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        return q, k, v


class Softmax(Core):
    """softmax(q k' / sqrt(d)) v."""

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        mixed = functional.scaled_dot_product_attention(*self.split(x))
        return mixed.transpose(1, 2).flatten(2)


class Linear(Core):
    """`BinaryLinearAttention`: real unit queries and keys, or their signs."""

    def __init__(self, dim: int, heads: int, *, binary: bool) -> None:
        super().__init__(dim, heads)
        self.core = BinaryLinearAttention(dim, heads, binary=binary)
        # What is projected is measured elsewhere.
        self.core.qkv, self.core.proj = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        made: Tensor = self.core(x)
        return made


class BatchMean(Core):
    """As released without a hash: bits above the mean of the whole tensor, rows of norm 1."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self.filter = nn.Conv2d(heads, heads, (9, 1), padding=(4, 0), groups=heads, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        q, k, v = self.split(x)
        q, k = (
            self.code(functional.normalize(q, dim=-1)),
            self.code(functional.normalize(k, dim=-1)),
        )
        u = 0.5 * v + (1 / math.pi) * (q @ (k.transpose(-2, -1) @ v))
        y = functional.normalize(u, dim=-1) + self.filter(v)
        return y.transpose(1, 2).flatten(2)

    def code(self, x: Tensor) -> Tensor:
        """The bits of queries or keys."""
        return (x - x.mean() > 0).to(x.dtype)


class ReleasedHash(BatchMean):
    """As released by default: bits by distances from anchors, of a width that is the data's."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        points = functional.normalize(torch.randn(heads, _ANCHORS, dim // heads), dim=-1)
        self.anchors = nn.Parameter(points)
        self.mean = nn.Parameter(torch.full((heads, 1, _ANCHORS), math.exp(-0.5)))
        self.mixing = nn.Parameter(torch.randn(heads, _BITS, _ANCHORS))

    def code(self, x: Tensor) -> Tensor:
        """The bits of queries or keys."""
        distance = (x.unsqueeze(3) - self.anchors.unsqueeze(1)).square().sum(dim=-1)
        sigma = distance.mean(dim=(2, 3), keepdim=True)
        kernel = torch.exp(-distance / (2 * sigma)) - self.mean
        return (kernel @ self.mixing.transpose(-2, -1) > 0).to(x.dtype)


def core(tokens: int, dim: int, heads: int, *, rounds: int, seed: int) -> dict[str, Any]:
    """Times over those of linear attention in float32, as torch exports it."""
    torch.manual_seed(seed)
    x = torch.randn(1, tokens, 3 * dim)
    signs, released = Linear(dim, heads, binary=True), ReleasedHash(dim, heads)
    calls: dict[str, Call] = {
        LINEAR: exported(Linear(dim, heads, binary=False).eval(), x),
        "softmax": exported(Softmax(dim, heads).eval(), x),
        "mean of the batch": exported(BatchMean(dim, heads).eval(), x),
        "signs": exported(signs.eval(), x),
        FUSED: optimized(signs.eval(), x),
        RELEASED: exported(released.eval(), x),
        REWRITTEN: optimized(released.eval(), x),
    }
    cpu = interleave(calls, rounds=rounds, min_time=0.01).cpu
    row: dict[str, Any] = {"T x C, heads": f"{tokens}x{dim}, {heads}"}
    row["linear, us"] = float(np.median(cpu[LINEAR])) * 1e6
    row |= {name: float(np.median(cpu[name] / cpu[LINEAR])) for name in calls if name != LINEAR}
    low, high = np.percentile(cpu[FUSED] / cpu[LINEAR], [10, 90])
    row[f"{FUSED}, spread"] = f"{low:.2f}-{high:.2f}"
    row["hash, times faster"] = float(np.median(cpu[RELEASED] / cpu[REWRITTEN]))
    return row


def measure(*, rounds: int, seed: int, quick: bool) -> dict[str, Any]:
    """Print the table; its figures."""
    sizes = QUICK if quick else SIZES
    rows = [core(*size, rounds=rounds, seed=seed) for size in sizes]
    table("Attention between its projections: time over linear attention in fp32", rows)
    return {"attention": rows}
