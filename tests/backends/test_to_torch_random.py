"""to_torch on random models: the judge's numbers, up to what rounding may do to them."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.backends.to_torch import to_torch
from addax.ir.tolerance import bounds
from addax.testing.strategies.arrays import feeds_for, kinds
from addax.testing.strategies.graphs import models
from tests.soundness import fits


def assert_agrees(model: ir.Model, feeds: dict[str, np.ndarray]) -> None:
    """torch's outputs are the judge's, up to what rounding may do."""
    inputs = sorted(model.graph.inputs, key=lambda v: v.is_initializer())
    with torch.no_grad():
        got = to_torch(model)(*(torch.from_numpy(np.array(feeds[v.name])) for v in inputs))
    allowed = bounds(model, feeds)
    got = (got,) if isinstance(got, torch.Tensor) else got
    for value, tensor in zip(model.graph.outputs, got, strict=True):
        exact, bound = allowed[value.name]
        made = tensor.numpy().astype(np.float64)
        assert exact.shape == made.shape
        assert value.dtype is None or str(tensor.dtype) == f"torch.{value.dtype.numpy()}"
        with np.errstate(invalid="ignore"):
            near = np.abs(made - exact) <= 2 * bound
        free = ~np.isfinite(bound)
        assert (near | (made == exact) | (np.isnan(made) & np.isnan(exact)) | free).all()


@settings(max_examples=40)
@given(models(), kinds(), st.integers(0, 99), st.sampled_from([2, 1, 3]))
def test_random_models_agree_with_the_judge(model, kind, seed, batch):
    feeds = feeds_for(model.graph.inputs, kind, seed, {"N": batch})
    if fits(model, feeds):
        assert_agrees(model, feeds)


@pytest.mark.slow
@settings(max_examples=1500, derandomize=False)
@given(models(max_pieces=12), kinds(), st.integers(0, 99), st.sampled_from([2, 1, 3, 0]))
def test_1500_random_models_agree_with_the_judge(model, kind, seed, batch):
    feeds = feeds_for(model.graph.inputs, kind, seed, {"N": batch})
    if fits(model, feeds):
        assert_agrees(model, feeds)
