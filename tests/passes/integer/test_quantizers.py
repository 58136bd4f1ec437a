"""Quantizers with a range known beforehand: what they say of themselves, and what they lose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.ir.ranges import Histograms
from addax.passes._integer.quantizers import (
    BINS,
    fit_codebook,
    fit_quantizer,
    fit_uniform,
    uniform,
)

BITS = st.integers(2, 8)
SEEDS = st.integers(0, 9999)


def drawn(kind, seed, count=4000):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=count) * np.exp2(rng.integers(-20, 20))
    if kind == "skewed":  # as behind a GELU
        x = np.maximum(x, 0) ** 2 - 0.1 * np.abs(x)
    if kind == "positive":
        x = np.abs(x)
    if kind == "shifted":
        x += 40 * np.abs(x).max()
    return x.astype(np.float32)


def seen(x):
    made = Histograms(1, BINS)
    made.add(x.reshape(-1, 1))
    return made


def error(made, x):
    return float(np.linalg.norm(made.decoded(x) - x) / np.linalg.norm(x))


KINDS = st.sampled_from(["normal", "skewed", "positive", "shifted"])


@settings(max_examples=30)
@given(KINDS, BITS, SEEDS)
def test_even_levels_have_zero_among_them_and_the_error_that_they_say(kind, bits, seed):
    x = drawn(kind, seed)
    made = fit_uniform(seen(x), bits)
    assert 0 == made.decoded(np.zeros(1))[0]
    assert 2**bits - 1 == made.top
    assert 2**bits == len(np.unique(made.codes(np.linspace(x.min(), x.max(), 5000)))) or x.min() > 0
    assert error(made, x) == pytest.approx(made.error, rel=0.05, abs=1e-4)
    whole = uniform(min(x.min(), 0), max(x.max(), 0), bits)
    assert error(made, x) <= error(whole, x) * 1.02 + 1e-4


@settings(max_examples=15)
@given(KINDS, st.integers(2, 6), SEEDS)
def test_codebooks_have_so_many_entries_and_lose_no_more_than_even_levels(kind, bits, seed):
    x = drawn(kind, seed)
    made, even = fit_codebook(seen(x), bits), fit_uniform(seen(x), bits)
    assert len(np.unique(made.table)) <= 2**bits
    assert np.all(np.diff(made.table.astype(int)) >= 0)
    assert error(made, x) == pytest.approx(made.error, rel=0.05, abs=1e-4)
    # On a grid of 256 levels; even levels lie on one of their own.
    assert error(made, x) <= error(even, x) * 1.05 + 0.004


def test_behind_a_gelu_a_codebook_loses_much_less():
    x = drawn("skewed", 1, 100_000)
    even, book = (fit_quantizer(seen(x), 4, share) for share in (0, 0.8))
    assert even.top == 15
    assert "16 even levels" == even.kind
    assert book.top is None
    assert "16 entries anywhere" == book.kind
    assert book.error < 0.7 * even.error


def test_whole_bytes_and_numbers_that_never_vary_have_even_levels():
    assert 255 == fit_quantizer(seen(drawn("skewed", 1)), 8, 1.0).top
    for constant in (0.0, 3.0, -2.0):
        x = np.full(50, constant, np.float32)
        made = fit_quantizer(seen(x), 4, 1.0)
        assert np.allclose(made.decoded(x), x, rtol=1e-6)


@given(BITS, SEEDS)
def test_the_range_does_not_depend_on_what_comes_later(bits, seed):
    made = fit_uniform(seen(drawn("normal", seed)), bits)
    low, high = made.bounds
    beyond = made.decoded(np.array([-np.inf, np.inf, 1e30, -1e30], np.float32))
    assert np.allclose([low, high, high, low], beyond, rtol=1e-6)


@given(st.floats(-100, 0), st.floats(0, 100), BITS)
def test_numbers_inside_are_off_by_half_a_step(low, high, bits):
    made = uniform(low, high, bits)
    x = np.linspace(low, high, 500).astype(np.float32)
    # The zero point is whole, so that the ends may be half a step further.
    assert np.all(np.abs(made.decoded(x) - x) <= made.step * 1.001 + 1e-5)
