"""ONNX Runtime's attention ops, as in its ContribOperators.md.

B batch, H heads, S queries, T keys, D size of a head: q[B, H, S, D], k and v[B, H, T, D].
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from addax.ir._judge.arrays import Array, wide
from addax.ir._judge.ops.matmul import product
from addax.ir._judge.ops.softmax import softmax_of
from addax.ir._judge.table import Kernels, Site

KERNELS = Kernels("com.microsoft")
TABLES = (KERNELS,)


def _heads(x: Array, heads: int) -> Array:
    """[B, S, H D] -> [B, H, S, D]."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def _merged(x: Array) -> Array:
    """[B, H, S, D] -> [B, S, H D]."""
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def _kept(mask: Array, batch: int, queries: int, keys: int) -> Array:
    """Which key each query may see, [B, 1, S or 1, T], from any of the mask's forms.

    Raises:
        ValueError: the mask has none of the known shapes.
    """
    if mask.ndim == 4:
        return mask[:, :, keys - queries : keys, :keys] > 0
    if mask.ndim == 3:
        return mask[:, None] > 0
    if mask.ndim == 2:
        return mask[:, None, None] > 0
    places = np.arange(keys)
    if mask.ndim == 1 and mask.size == batch:
        return (places < mask[:, None])[:, None, None]
    if mask.ndim == 1 and mask.size == 2 * batch:
        inside = (places < mask[:batch, None]) & (places >= mask[batch:, None])
        return inside[:, None, None]
    raise ValueError(f"a mask of shape {mask.shape} is unknown for batch {batch}, {keys} keys")


def _attend(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    bias: Array | None,
    scale: float,
    causal: int,
    masked: float,
) -> tuple[Any, Any]:
    """softmax(q k' scale + masks + bias) v, merged, and the softmax."""
    queries, keys = q.shape[2], k.shape[2]
    scores = product(q, k.swapaxes(-1, -2))
    scores *= scores.dtype.type(scale or 1 / np.sqrt(q.shape[-1]))
    if mask is not None:
        kept = _kept(mask, q.shape[0], queries, keys)
        scores = scores + np.where(kept, 0, masked).astype(scores.dtype)
    if causal:
        seen = np.tri(queries, keys, keys - queries, dtype=np.bool_)
        scores = np.where(seen, scores, -np.inf)
    if bias is not None:
        scores = scores + wide(bias)
    weights = softmax_of(scores, -1)
    return _merged(product(weights, v)), weights


@KERNELS.op("Attention")
def attention(
    x: Array,
    weights: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    past: Array | None = None,
    attention_bias: Array | None = None,
    past_length: Array | None = None,
    *,
    num_heads: int,
    mask_filter_value: float = -10000.0,
    qkv_hidden_sizes: Sequence[int] = (),
    scale: float = 0.0,
    unidirectional: int = 0,
    do_rotary: int = 0,
    past_present_share_buffer: int = 0,
    rotary_embedding_dim: int = 0,
    site: Site,
) -> Any:
    """Self-attention with its projection: q, k, v = x weights + bias.

    Raises:
        ValueError: it asks for rotary embeddings or a shared cache, which are not known here.
    """
    del rotary_embedding_dim
    if do_rotary or past_present_share_buffer or past_length is not None:
        raise ValueError("do_rotary and past_present_share_buffer are not known here")
    projected = product(wide(x), wide(weights))
    if bias is not None:
        projected = projected + wide(bias)
    sizes = tuple(qkv_hidden_sizes) or (projected.shape[-1] // 3,) * 3
    parts = np.split(projected, np.cumsum(sizes)[:-1], axis=-1)
    q, k, v = (_heads(part, num_heads) for part in parts)
    if past is not None:
        k = np.concatenate([wide(past)[0], k], axis=2)
        v = np.concatenate([wide(past)[1], v], axis=2)
    y, _ = _attend(q, k, v, mask, attention_bias, scale, unidirectional, mask_filter_value)
    y = y.astype(x.dtype, copy=False)
    return y if site.outputs == 1 else (y, np.stack([k, v]).astype(x.dtype, copy=False))


@KERNELS.op("MultiHeadAttention")
def multi_head_attention(
    query: Array,
    key: Array | None = None,
    value: Array | None = None,
    bias: Array | None = None,
    mask: Array | None = None,
    attention_bias: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    past_length: Array | None = None,
    cache_indirection: Array | None = None,
    *,
    num_heads: int,
    mask_filter_value: float = -10000.0,
    scale: float = 0.0,
    unidirectional: int = 0,
    site: Site,
) -> Any:
    """Attention over projected q, k, v, which may come packed, with a cache before them.

    Raises:
        ValueError: it asks for a shared cache, which is not known here.
    """
    if past_length is not None or cache_indirection is not None:
        raise ValueError("a shared or indirect cache is not known here")
    q, k, v = _projected(wide(query), key, value, bias, num_heads)
    if past_key is not None and past_value is not None:
        k = np.concatenate([wide(past_key), k], axis=2)
        v = np.concatenate([wide(past_value), v], axis=2)
    y, weights = _attend(q, k, v, mask, attention_bias, scale, unidirectional, mask_filter_value)
    made = (y, k, v, weights)
    return tuple(part.astype(query.dtype, copy=False) for part in made[: site.outputs])


def _projected(
    query: Array, key: Array | None, value: Array | None, bias: Array | None, heads: int
) -> list[Array]:
    """q, k, v[B, H, S, D] from any of the forms in which they come."""
    shifts: Sequence[Any] = (0, 0, 0)
    if bias is not None:
        hidden = query.shape[-1] * (heads if query.ndim == 5 else 1)
        shifts = np.split(wide(bias), [hidden, 2 * hidden])
    if query.ndim == 5:
        parts = [query[:, :, :, i].reshape(*query.shape[:2], -1) for i in range(3)]
    elif key is not None and key.ndim == 5:
        packed = [wide(key)[:, :, :, i].reshape(*key.shape[:2], -1) for i in range(2)]
        parts = [query, *packed]
    elif key is None or value is None:
        raise ValueError("key and value may only be absent where the query packs them")
    elif key.ndim == 4:
        return [_heads(query + shifts[0], heads), wide(key), wide(value)]
    else:
        parts = [query, wide(key), wide(value)]
    return [_heads(part + shift, heads) for part, shift in zip(parts, shifts, strict=True)]


@KERNELS.op("RotaryEmbedding")
def rotary_embedding(
    x: Array,
    position_ids: Array,
    cos_cache: Array,
    sin_cache: Array,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    is_packed_batching: int = 0,
    scale: float = 1.0,
) -> Any:
    """The first `rotary_embedding_dim` of each head rotated in pairs by their position's angles.

    Raises:
        ValueError: it asks for packed batches or a scale, which are not known here.
    """
    if is_packed_batching or scale != 1.0:
        raise ValueError("is_packed_batching and scale are not known here")
    if x.ndim == 3:
        size = x.shape[-1] // num_heads if num_heads else 2 * cos_cache.shape[-1]
        heads = _heads(wide(x), x.shape[-1] // size)
    else:
        heads = wide(x)
    turned = rotary_embedding_dim or heads.shape[-1]
    places = position_ids
    if position_ids.ndim == 1:
        places = position_ids + np.arange(heads.shape[2])[None]
    cos, sin = wide(cos_cache)[places][:, None], wide(sin_cache)[places][:, None]
    part, rest = heads[..., :turned], heads[..., turned:]
    if interleaved:
        a, b = part[..., 0::2], part[..., 1::2]
        part = np.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(part.shape)
    else:
        a, b = np.split(part, 2, axis=-1)
        part = np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
    y = np.concatenate([part, rest], axis=-1)
    return (_merged(y) if x.ndim == 3 else y).astype(x.dtype, copy=False)
