"""Calibration data in parts: who judges, who is chosen by, and samples that are told apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.errors import InputError
from addax.runtime.calibrate import Batches
from addax.runtime.samples import few_samples, fingerprints, first_sample, split, takes_any_batch
from addax.testing.cases import build

FREE = """<ir_version: 10, opset_import: ["": 20]>
g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"""
FIXED = FREE.replace("[N,3]", "[2,3]")


def numbered(sizes) -> list[np.ndarray]:
    """Each sample holds its number."""
    ends = np.cumsum(sizes)
    return [
        np.repeat(np.arange(end - size, end), 3).reshape(size, 3).astype(np.float32)
        for size, end in zip(sizes, ends, strict=True)
    ]


def numbers(batches: Batches) -> list[int]:
    return [int(row[0]) for feeds in batches.feeds() for row in feeds["x"]]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) >= 4))
def test_each_sample_is_in_one_part_and_one_in_four_judges(sizes):
    model = build(FREE, [])
    fitting, judging = (numbers(part) for part in split(model, Batches(model, numbered(sizes))))
    assert sorted(fitting + judging) == list(range(sum(sizes)))
    assert judging == [number for number in range(sum(sizes)) if number % 4 == 3]


def test_batches_of_a_fixed_size_stay_whole():
    model = build(FIXED, [])
    fitting, judging = split(model, Batches(model, numbered([2] * 8)))
    assert [6, 7, 14, 15] == numbers(judging)
    assert (6, 2) == (len(fitting.sizes()), len(judging.sizes()))


@pytest.mark.parametrize(
    ("text", "sizes", "message"),
    [
        (FREE, [3], "expected at least 4 samples of calibration data, of which one in 4"),
        (FIXED, [2, 2], "expected at least 4 batches .the model takes them of one size only"),
    ],
)
def test_too_few_to_judge(text, sizes, message):
    model = build(text, [])
    with pytest.raises(InputError, match=message):
        split(model, Batches(model, numbered(sizes)))


def test_samples_that_are_all_the_same_judge_nothing():
    model = build(FREE, [])
    with pytest.raises(InputError, match="give each sample once"):
        split(model, Batches(model, [np.ones((8, 3), np.float32)]))


def test_first_and_few():
    model = build(FREE, [])
    batches = Batches(model, numbered([5, 5]))
    assert [0] == numbers(first_sample(model, batches))
    assert list(range(7)) == numbers(few_samples(model, batches, 7))
    fixed = build(FIXED, [])
    assert [0, 1] == numbers(first_sample(fixed, Batches(fixed, numbered([2, 2]))))


def test_fingerprints_tell_samples_apart_wherever_they_lie():
    model = build(FREE, [])
    assert takes_any_batch(model)
    one = set(fingerprints(Batches(model, numbered([6])).feeds(), True))
    other = set(fingerprints(Batches(model, numbered([2, 4])).feeds(), True))
    assert (6, one) == (len(one), other)
