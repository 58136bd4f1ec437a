"""A self-attention module that is called like `nn.MultiheadAttention`."""

from typing import Any

from torch import Tensor, nn

from addax.errors import OptionError

__all__ = ["SelfAttentionCall"]


class SelfAttentionCall(nn.Module):
    """Calls `attention(x, mask)` for x[N, T, D] where the caller says query, key and value.

    Stands in for an `nn.MultiheadAttention` whose query, key and value are the same tensor, such as
    in `nn.TransformerEncoderLayer`. Attention weights are not returned.
    """

    # The layers of torch ask this before they bypass their attention module: False keeps them here.
    batch_first = False

    def __init__(self, attention: nn.Module, *, batch_first: bool) -> None:
        super().__init__()
        self.attention = attention
        self.tokens_axis = 1 if batch_first else 0

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """Attend over the tokens of query[N, T, D], or [T, N, D], and None for the weights.

        Raises:
            OptionError: If key or value is another tensor, or the mask is one that an
                `nn.MultiheadAttention` would take and this does not.
        """
        if key is not query or value is not query:
            raise OptionError(
                "expected query, key and value to be one tensor: this attention's "
                "branches have one input"
            )
        x = query if self.tokens_axis == 1 else query.transpose(0, 1)
        mask = _added(attn_mask, key_padding_mask, x)
        y: Tensor = self.attention(x, mask)
        return (y if self.tokens_axis == 1 else y.transpose(0, 1)), None


def _added(mask: Tensor | None, padding: Tensor | None, x: Tensor) -> Any:
    """Both masks, as numbers to add to scores [N, h, T, T]: true entries hide a token."""
    total = None
    if mask is not None:
        if mask.dim() != 2:
            raise OptionError(f"expected attn_mask to be [T, T]; got {list(mask.shape)}")
        total = _numbers(mask, x)[None, None]
    if padding is not None:
        hidden = _numbers(padding, x)[:, None, None]
        total = hidden if total is None else total + hidden
    return total


def _numbers(mask: Tensor, x: Tensor) -> Tensor:
    """A mask as numbers: minus infinity where it is true."""
    if not mask.is_floating_point():
        return x.new_zeros(mask.shape).masked_fill(mask, float("-inf"))
    return mask
