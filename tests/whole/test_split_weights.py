"""Trained weights in branches fold to the trained network: its size, multiplies, and answers."""

import pytest
import torch

from bench import zoo
from bench.reparam import SPLITS, recover
from bench.splits import split


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def known(name: str) -> zoo.Entry:
    try:
        return zoo.entry(name)
    except FileNotFoundError as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "style"), SPLITS)
def test_the_parts_are_the_trained_weights(name: str, style: str) -> None:
    entry = known(name)
    trained = entry.build()
    examples = entry.example_inputs()
    with torch.no_grad():
        expected, found = trained(*examples), split(trained, style)(*examples)
    assert float((expected - found).abs().max()) < 1e-3 * float(expected.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "style"), SPLITS)
def test_trained_weights_are_recovered(name: str, style: str) -> None:
    known(name)
    found = recover(name, style, limit=20, seed=0)
    assert found["is_recovered"], found
    assert found["multiplies"] > found["folded"]
    assert found["same"] == 1
    assert found["difference"] < 1e-3


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(KeyError, match=r"expected one of RepVGG, .*; got 'x'"):
        split(torch.nn.Identity(), "x")
