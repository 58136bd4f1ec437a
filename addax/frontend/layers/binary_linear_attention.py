"""Attention without softmax, on bits of queries and keys."""

import math

import torch
from torch import Tensor, nn

from addax.errors import OptionError
from addax.frontend.layers._straight_through import bits
from addax.frontend.layers.joining import at_least_one
from addax.frontend.layers.kernel_hash import KernelHash

__all__ = ["BinaryLinearAttention"]

_NO_NORM = 1e-6  # what the norm of a query is held above before it is hashed


class BinaryLinearAttention(nn.Module):
    """Linear attention on bits, h heads: x[N, T, D] -> [N, T, D]. Its products are sums.

        qb = 1[q > 0], kb = 1[k > 0]           of each head's q[T, M] and k[T, M]
        s  = kb' v                             [M, d], d = D / h: a sum over the tokens
        u  = v / 2 + (qb s) / pi               [T, d]
        y  = u / max(|u|, epsilon) + f * v     |u| of each token's row; f a filter along the tokens
        out = Wo y + c

    With `hashing`, qb and kb are `KernelHash`es of the normalized q and k, by the same anchors.

    The threshold is 0, so a token's bits are its own: the papers' mean over the batch makes an
    image's result depend on those beside it. A threshold for each bit is learnt all the same: it is
    the bias of q and k. Norms of q and k change no sign and are left out. A token whose u is 0 gets
    what its filter says.

    The gradient of a bit is that of clamp((x / r + 1) / 2, 0, 1), where r is the root mean square
    of its row.

    Args:
        dim: width D of a token, a multiple of `heads`.
        heads: attention heads h.
        width: width M of a head's q and k; d by default.
        taps: length of the filters, odd; 0 for none.
        hashing: bits I of the kernel hash; None for the signs of q and k.
        anchors: anchors of the kernel hash.
        binary: False leaves q and k real, each divided by its norm: linear attention as trained
            before it is made binary.
        bias: whether q, k and v have biases.
        epsilon: the least |u| that u is divided by.

    Source: You et al., "ShiftAddViT", NeurIPS 2023 (arXiv 2306.06446); linear angular attention:
    "Castling-ViT", CVPR 2023 (arXiv 2211.10526), eq. 5-7.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        width: int | None = None,
        taps: int = 9,
        hashing: int | None = None,
        anchors: int = 25,
        binary: bool = True,
        bias: bool = True,
        epsilon: float = 1e-4,
    ) -> None:
        super().__init__()
        dim, heads = at_least_one("dim", dim), at_least_one("heads", heads)
        if dim % heads:
            raise OptionError(f"expected dim to be a multiple of heads; got {dim} and {heads}")
        if isinstance(taps, bool) or not isinstance(taps, int) or taps < 0 or taps % 2 == 0 < taps:
            raise OptionError(f"expected taps to be an odd number, or 0 for no filter; got {taps}")
        if not epsilon > 0:
            raise OptionError(
                f"expected epsilon to be above 0, as a row may be all zeros; got {epsilon}"
            )
        if hashing is not None and not binary:
            raise OptionError("hashing gives bits: expected binary=True with it; got False")
        self.heads, self.epsilon, self.binary = heads, epsilon, binary
        self.width = dim // heads if width is None else at_least_one("width", width)
        self.qkv = nn.Linear(dim, 2 * heads * self.width + dim, bias=bias)
        self.hash = None if hashing is None else KernelHash(heads, self.width, hashing, anchors)
        self.filter = (
            nn.Conv2d(heads, heads, (taps, 1), padding=(taps // 2, 0), groups=heads, bias=False)
            if taps
            else None
        )
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend over the tokens of x[N, T, D].

        Raises:
            OptionError: If there is a mask: without a softmax there are no pairs to hide.
        """
        if mask is not None:
            raise OptionError(
                "expected no mask: linear attention sums over all tokens before any query is seen; "
                "leave hidden tokens out of x"
            )
        q, k, v = self._split(x)
        mixed = self._code(q) @ (self._code(k).transpose(-2, -1) @ v)
        u = 0.5 * v + (1 / math.pi) * mixed
        y = u / torch.linalg.vector_norm(u, dim=-1, keepdim=True).clamp_min(self.epsilon)
        if self.filter is not None:
            y = y + self.filter(v)
        out: Tensor = self.proj(y.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k[N, h, T, M] and v[N, h, T, d] of x[N, T, D]."""
        each = self.heads * self.width
        qkv: Tensor = self.qkv(x)
        parts = qkv[..., :each], qkv[..., each : 2 * each], qkv[..., 2 * each :]
        q, k, v = (part.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2) for part in parts)
        return q, k, v

    def _code(self, x: Tensor) -> Tensor:
        """What stands for the rows of q or k."""
        if self.binary and self.hash is None:
            return bits(x)
        unit = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(_NO_NORM)
        coded: Tensor = unit if self.hash is None else self.hash(unit)
        return coded

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Take the anchors of the hash from the queries and keys of x[N, T, D].

        Raises:
            OptionError: If there is no hash.
        """
        if self.hash is None:
            raise OptionError("calibrate sets the anchors of a hash: expected hashing=..; got None")
        q, k, _ = self._split(x)
        both = torch.cat([q, k], dim=2)
        size = torch.linalg.vector_norm(both, dim=-1, keepdim=True).clamp_min(_NO_NORM)
        self.hash.calibrate(both / size)
