"""ONNX Runtime's attention ops.

Meanings as in onnxruntime's ContribOperators.md. B batch, H heads, S queries, T keys, D size of a
head: q[B, H, S, D], k and v[B, H, T, D].
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.contrib import CONTRIB
from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor

OPS = Converters()

_FILTER = -10000.0


def _heads(x: Tensor, heads: int) -> Tensor:
    """[B, S, H D] -> [B, H, S, D]."""
    return torch.unflatten(x, 2, (heads, -1)).transpose(1, 2)


def _attend(
    site: Site,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    scale: float,
    causal: int,
    masked: float,
) -> tuple[Tensor, Tensor]:
    """softmax(q k' scale + masks + bias) v, merged, and the softmax."""
    scores = torch.matmul(q, k.transpose(-1, -2)) * (scale or q.size(-1) ** -0.5)
    if mask is not None:
        kept = site.call(_kept, mask, q.size(0), q.size(2), k.size(2))
        scores = scores + torch.where(kept, 0.0, masked).to(scores.dtype)
    if causal:
        ones = torch.ones_like(scores, dtype=torch.bool)
        seen = torch.tril(ones, k.size(2) - q.size(2))
        scores = torch.where(seen, scores, float("-inf"))
    weights = F.softmax(scores if bias is None else scores + bias, -1)
    return torch.matmul(weights, v).transpose(1, 2).flatten(2), weights


def _kept(mask: Tensor, batch: int, queries: int, keys: int) -> Tensor:
    """Which key each query may see, [B, 1, S or 1, T], from any of the mask's forms."""
    if mask.dim() == 4:
        return mask[:, :, keys - queries : keys, :keys] > 0
    if mask.dim() == 3:
        return mask[:, None] > 0
    if mask.dim() == 2:
        return mask[:, None, None] > 0
    places = torch.arange(keys, device=mask.device)
    inside = places < mask[:batch, None]
    if mask.size(0) == 2 * batch:
        inside = inside & (places >= mask[batch:, None])
    return inside[:, None, None]


@OPS.op("Attention", domain=CONTRIB)
def attention(
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    past: Tensor | None = None,
    attention_bias: Tensor | None = None,
    *,
    num_heads: int,
    mask_filter_value: float = _FILTER,
    qkv_hidden_sizes: Sequence[int] = (),
    scale: float = 0.0,
    unidirectional: int = 0,
    do_rotary: int = 0,
    past_present_share_buffer: int = 0,
    rotary_embedding_dim: int = 0,
    site: Site,
) -> Any:
    """Self-attention with its projection: q, k, v = x weights + bias."""
    del rotary_embedding_dim
    plain = not do_rotary and not past_present_share_buffer
    site.require(plain, "rotary embeddings and a shared cache have no converter")
    site.require(mask is None or 1 <= site.rank(3) <= 4, "a mask has 1 to 4 axes")
    projected = torch.matmul(x, weights)
    projected = projected if bias is None else projected + bias
    sizes = tuple(qkv_hidden_sizes) or (site.sizes(1, weights)[1] // 3,) * 3
    parts = torch.split(projected, list(sizes), -1)
    q, k, v = (_heads(parts[index], num_heads) for index in range(3))
    if past is not None:
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    settings = (mask, attention_bias, scale, unidirectional, mask_filter_value)
    y, _ = _attend(site, q, k, v, *settings)
    return y if site.outputs == 1 else (y, torch.stack([k, v]))


@OPS.op("MultiHeadAttention", domain=CONTRIB)
def multi_head_attention(
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    *,
    num_heads: int,
    mask_filter_value: float = _FILTER,
    scale: float = 0.0,
    unidirectional: int = 0,
    site: Site,
) -> Any:
    """Attention over projected q, k, v, which may come packed, with a cache before them."""
    site.require(mask is None or 1 <= site.rank(4) <= 4, "a mask has 1 to 4 axes")
    q, k, v = _projected(site, query, key, value, bias, num_heads)
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    settings = (mask, attention_bias, scale, unidirectional, mask_filter_value)
    y, weights = _attend(site, q, k, v, *settings)
    return y, k, v, weights


def _projected(
    site: Site,
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    bias: Tensor | None,
    heads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v[B, H, S, D] from any of the forms in which they come."""
    if site.rank(0) == 5:
        parts = [query[:, :, :, index].flatten(2) for index in range(3)]
    elif key is not None and site.rank(1) == 5:
        parts = [query, *(key[:, :, :, index].flatten(2) for index in range(2))]
    elif key is None or value is None:
        site.decline("key and value may only be absent where the query packs them")
    else:
        parts = [query, key, value]
    cached = value is not None and site.rank(1) == 4
    if bias is not None:
        hidden = site.sizes(0, query)[2] * (site.sizes(0, query)[4] if site.rank(0) == 5 else 1)
        ends = (None, hidden, 2 * hidden, None)
        for index in range(1 if cached else 3):
            parts[index] = parts[index] + bias[ends[index] : ends[index + 1]]
    q = _heads(parts[0], heads)
    if cached:
        return q, parts[1], parts[2]
    return q, _heads(parts[1], heads), _heads(parts[2], heads)
