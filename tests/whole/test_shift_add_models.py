"""A whole vision transformer in codes says what it said before."""

import numpy as np
import pytest
import torch

import addax
from bench import zoo


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "agreement"), [(4, 0.92), (3, 0.82)])
def test_deit_tiny_agrees_with_itself(bits, agreement):
    """Every fourth image calibrates, the others judge; patches and head stay as they are."""
    try:
        entry = zoo.entry("deit-tiny")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    (batch,) = entry.data(None, 500)
    images, chosen = batch.inputs[0], np.arange(len(batch.targets)) % 4 == 0
    model = entry.build().eval()
    made = addax.optimize(
        model,
        torch.from_numpy(images[:2]),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        allow=("shift-add{skip=('head','patch_embed')}",),
        calibration=np.array_split(images[chosen], 5),
        bits=bits,
        target="portable",
    )
    assert 48 == len(made.report.layers)
    expected, actual = [], []
    for part in np.array_split(images[~chosen], 10):
        with torch.no_grad():
            expected.append(model(torch.from_numpy(part)).numpy().argmax(1))
        actual.append(made(part).argmax(1))
    assert np.mean(np.concatenate(expected) == np.concatenate(actual)) >= agreement
