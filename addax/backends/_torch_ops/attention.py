"""Scaled dot-product attention."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor

OPS = Converters()


@OPS.op("Attention", since=23)
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    site: Site,
) -> Any:
    """softmax(q k^T scale + mask) v by torch's fused kernels; other forms by the op's own body."""
    del qk_matmul_output_mode
    extras = past_key, past_value, nonpad_kv_seqlen, softmax_precision
    plain = (
        all(extra is None for extra in extras)
        and softcap == 0.0
        and max(left_window_size, right_window_size) < 0
    )
    plain = plain and site.outputs == 1
    if not plain or (mask is not None and is_causal) or (is_causal and not _is_square(site)):
        return NotImplemented
    if mask is not None and site.rank(3) < 2:
        return NotImplemented
    heads, grouped = _heads(site, q_num_heads, kv_num_heads)
    if heads is None:
        return NotImplemented
    joined = site.rank(0) == 3
    if joined:
        q, k, v = (_split(x, n) for x, n in zip((q, k, v), heads, strict=True))
    y = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=bool(is_causal), scale=scale, enable_gqa=grouped
    )
    return y.transpose(1, 2).flatten(2) if joined else y


def _is_square(site: Site) -> bool:
    """Whether there are as many queries as keys: otherwise causal masks differ."""
    q, k = site.shape(0), site.shape(1)
    return q is not None and k is not None and isinstance(q[-2], int) and q[-2] == k[-2]


def _heads(
    site: Site, q_heads: int | None, kv_heads: int | None
) -> tuple[tuple[int, int, int] | None, bool]:
    """The number of heads of q, k and v, and whether several queries share one key."""
    if site.rank(0) == 3:
        if q_heads is None or kv_heads is None:
            return None, False
        return (q_heads, kv_heads, kv_heads), q_heads != kv_heads
    q, k = site.shape(0), site.shape(1)
    if q is None or k is None or not isinstance(q[1], int) or not isinstance(k[1], int):
        return None, False
    return (q[1], k[1], k[1]), q[1] != k[1]


def _split(x: Tensor, heads: int) -> Tensor:
    """x[B, S, H D] as y[B, H, S, D]."""
    return torch.unflatten(x, 2, (heads, -1)).transpose(1, 2)
