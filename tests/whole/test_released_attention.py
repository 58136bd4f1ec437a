"""Attention as ShiftAddViT released it, with bits that depend on the batch or on other tokens."""

import functools

import pytest
import torch

import addax
from bench.shiftaddvit.attention import BatchMean, ReleasedHash


@functools.cache
def built(kind: type[torch.nn.Module]) -> torch.nn.Module:
    torch.manual_seed(0)
    return kind(32, 2).eval().requires_grad_(False)


@functools.cache
def optimized(kind: type[torch.nn.Module]) -> addax.Optimized:
    return addax.optimize(
        built(kind), torch.randn(2, 12, 96), dynamic_shapes={0: "batch"}, progress=False
    )


def samples() -> list[torch.Tensor]:
    """Batches of other sizes, and one with rows of zeros."""
    torch.manual_seed(1)
    some = torch.randn(3, 12, 96)
    holes = some.clone()
    holes[:, ::3] = 0
    return [some, some[:1], holes]


@pytest.mark.parametrize("kind", [BatchMean, ReleasedHash])
def test_it_is_computed_as_written(kind: type[torch.nn.Module]) -> None:
    model, fast = built(kind), optimized(kind)
    for x in samples():
        expected = model(x)
        assert torch.isfinite(expected).all()
        assert torch.allclose(fast(x), expected, atol=1e-5)


def test_a_threshold_over_the_batch_stays_one() -> None:
    """Bits are the batch's, so an image's result is too: nothing here may pretend otherwise."""
    model, fast, (some, *_) = built(BatchMean), optimized(BatchMean), samples()
    some[1:] += 3
    assert not torch.allclose(fast(some)[:1], fast(some[:1]), atol=1e-3)
    assert torch.allclose(fast(some), model(some), atol=1e-5)


def test_distances_from_anchors_are_a_product_and_attention_on_bits_is_one_operator() -> None:
    ops = [node.op_type for node in optimized(ReleasedHash).model.graph]
    assert ops.count("BinaryLinearAttention") == 1
    assert "ReduceSum" not in ops
