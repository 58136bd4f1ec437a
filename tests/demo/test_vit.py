"""The vision transformer: names, shapes, and parts that a variant may replace."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from addax.demo import DigitsViT
from addax.demo.vit import Attention, Mlp, VisionTransformer

TIMM_NAMES = re.compile(
    r"(cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|(norm|head)\.(weight|bias)"
    r"|blocks\.\d+\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias))"
)


class Doubled(nn.Module):
    """Two MLPs side by side."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(Mlp(dim, hidden) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.branches[0](x) + self.branches[1](x)


def test_parameters_have_timms_names() -> None:
    names = [name for name, _ in DigitsViT().named_parameters()]
    assert [name for name in names if not TIMM_NAMES.fullmatch(name)] == []
    assert len(names) == len(TIMM_NAMES.findall(" ".join(names)))


@given(
    patch=st.sampled_from([1, 2, 4]),
    side=st.integers(1, 3),
    channels=st.integers(1, 3),
    classes=st.integers(1, 5),
    heads=st.integers(1, 3),
    width=st.integers(1, 4),
    depth=st.integers(0, 2),
    batch=st.integers(1, 3),
)
def test_logits_are_one_row_an_image(
    patch: int,
    side: int,
    channels: int,
    classes: int,
    heads: int,
    width: int,
    depth: int,
    batch: int,
) -> None:
    model = VisionTransformer(
        image=patch * side,
        patch=patch,
        channels=channels,
        classes=classes,
        dim=heads * width,
        depth=depth,
        heads=heads,
        hidden=3,
    )
    images = torch.zeros(batch, channels, patch * side, patch * side)
    assert model(images).shape == (batch, classes)


@given(heads=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_attention_is_torchs_own(heads: int, seed: int) -> None:
    torch.manual_seed(seed)
    attention = Attention(4 * heads, heads).double()
    x = torch.randn(2, 5, 4 * heads, dtype=torch.double)
    q, k, v = attention.qkv(x).reshape(2, 5, 3, heads, 4).permute(2, 0, 3, 1, 4)
    mixed = nn.functional.scaled_dot_product_attention(q, k, v)
    expected = attention.proj(mixed.transpose(1, 2).reshape(x.shape))
    torch.testing.assert_close(attention(x), expected)


def test_images_do_not_influence_each_other() -> None:
    torch.manual_seed(0)
    model = DigitsViT(dim=16, heads=2, hidden=8, depth=2).double().eval()
    images = torch.rand(3, 1, 8, 8, dtype=torch.double)
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), alone)


@pytest.mark.parametrize("part", ["mlp", "attention"])
def test_a_variant_replaces_a_part_of_every_block(part: str) -> None:
    model = DigitsViT(dim=8, heads=2, hidden=8, depth=3, **{part: Doubled})
    name = {"mlp": "mlp", "attention": "attn"}[part]
    assert [type(getattr(block, name)) for block in model.blocks] == [Doubled] * 3
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
