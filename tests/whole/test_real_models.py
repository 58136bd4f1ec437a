"""Trained networks on real data: optimized, they say the same, in ONNX Runtime and in torch."""

import numpy as np
import pytest

from bench import zoo
from bench.models import MOST, Optimized

NAMES = [entry.name for entry in zoo.CATALOGUE]
LEVELS = 255  # of a pixel


@pytest.fixture(scope="module", params=NAMES)
def found(request):
    try:
        entry = zoo.entry(request.param)
    except FileNotFoundError as reason:
        pytest.skip(str(reason))
    return Optimized.of(entry)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["in_runtime", "in_torch"])
def test_every_decision_stays(found, where):
    agreement = getattr(found, where)(MOST)
    report = found.made.report
    # Each node rounds once, and the networks' norms and activations keep errors from growing.
    assert agreement.difference <= report.before.nodes * np.finfo(np.float32).eps
    if found.entry.sanity.metric == "psnr":
        # A level changes where its number was within the difference of the border of two.
        assert 1 - agreement.same <= 2 * LEVELS * agreement.difference
    else:
        assert 1 == agreement.same
    assert agreement.reference == pytest.approx(agreement.candidate, rel=1e-6)


@pytest.mark.slow
def test_there_is_less_of_it(found):
    report = found.made.report
    assert report.after.nodes < report.before.nodes
    assert report.after.cost.multiplies <= report.before.cost.multiplies
    assert "reassociated" == report.exactness
