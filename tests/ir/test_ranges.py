"""Ranges of channels: in pieces as at once, quantiles within the stated error, choice by error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.errors import OptionError
from addax.ir.ranges import BINS, SHARES, ChannelRanges, Histograms


def drawn(seed: int, rows: int = 500, width: int = 3) -> np.ndarray:
    """Rows of channels of all scales and offsets, some constant, with a long tail."""
    random = np.random.default_rng(seed)
    scale = np.exp2(random.integers(-30, 30, width)) * random.integers(0, 3, width)
    offset = random.normal(size=width) * np.exp2(random.integers(-20, 20, width))
    return (random.standard_t(3, (rows, width)) * scale + offset).astype(np.float32)


def taken(rows: np.ndarray, cuts: list[int], bins: int = BINS) -> Histograms:
    made = Histograms(rows.shape[1], bins)
    for part in np.split(rows, sorted(cuts)):
        made.add(part)
    return made


def test_ranges_take_rows_in_pieces():
    rows = drawn(0)
    ranges = ChannelRanges(3)
    assert not ranges.is_finite
    for part in np.split(rows, [0, 20]):
        ranges.add(part)
    assert (500, True) == (ranges.count, ranges.is_finite)
    np.testing.assert_array_equal(ranges.low, rows.min(0))
    np.testing.assert_array_equal(ranges.high, rows.max(0))
    ranges.add(np.full((1, 3), np.nan))
    assert not ranges.is_finite


@given(st.integers(0, 9999), st.lists(st.integers(0, 500), max_size=4), st.sampled_from([2, 64]))
def test_pieces_and_order_do_not_matter(seed, cuts, bins):
    rows = drawn(seed)
    once, pieces = taken(rows, [], bins), taken(rows[::-1], cuts, bins)
    for share in (0.6, *SHARES):
        for expected, actual in zip(once.quantiles(share), pieces.quantiles(share), strict=True):
            # A last doubling may or may not be needed, by where the range begins.
            assert np.all(np.abs(expected - actual) <= 2 * once.resolution)


@given(st.integers(0, 9999), st.lists(st.integers(0, 500), max_size=3))
def test_quantiles_are_within_the_resolution_and_outside(seed, cuts):
    rows = drawn(seed)
    made = taken(rows, cuts)
    for share in (0.75, 0.99, 0.999, 1.0):
        low, high = made.quantiles(share)
        ordered = np.sort(rows.astype(np.float64), axis=0)
        ranks = (max(1, round(q * 500 + 0.4999)) for q in (1 - share, share))
        exact_low, exact_high = (ordered[rank - 1] for rank in ranks)
        assert np.all((low <= exact_low) & (exact_low <= low + made.resolution))
        assert np.all((high >= exact_high) & (exact_high >= high - made.resolution))
    span = np.maximum(np.ptp(rows.astype(np.float64), axis=0), np.abs(rows).max(0) * 2.0**-40)
    assert np.all(made.resolution <= 4 * np.maximum(span, 2.0**-1000) / (BINS - 1))


@given(st.integers(0, 9999), st.sampled_from([4, 6, 8]))
def test_the_error_is_that_of_the_rows(seed, bits):
    random = np.random.default_rng(seed)
    rows = random.normal(random.normal(), 1, (4000, 2))
    made = taken(rows, [1000])
    low, high = made.quantiles(0.99)
    step = (high - low) / (2**bits - 1)
    zero = np.rint(-low / step)
    codes = np.clip(np.rint(rows / step) + zero, 0, 2**bits - 1)
    exact = np.square((codes - zero) * step - rows).mean(0)
    np.testing.assert_allclose(made.errors(low, high, bits), exact, rtol=0.1)


def test_the_range_of_the_smallest_error_is_chosen():
    rows = np.random.default_rng(0).normal(size=(20000, 2))
    rows[0, 0] = 50  # an outlier that 4 bits are better without, and 16 are not
    made = taken(rows, [])
    low, high, share = made.best(4)
    assert share[0] < 1
    assert high[0] < 10
    assert 50 == made.best(16)[1][0]
    errors = [made.errors(*made.quantiles(s), 4) for s in SHARES]
    np.testing.assert_array_equal(made.errors(low, high, 4), np.min(errors, 0))


def test_memory_does_not_grow_and_nan_ends_the_histogram():
    made = Histograms(2, 16)
    for scale in (1e-30, 1.0, 1e30):
        made.add(np.array([[scale, -scale]]))
    assert (2, 16) == made._counts.shape
    assert 3 == made._counts[0].sum()
    made.add(np.array([[np.nan, 0]]))
    assert not made.is_finite
    assert np.isnan(made.quantiles(0.9)[0][0])


def test_a_share_is_validated():
    with pytest.raises(OptionError, match=r"must be above 0\.5, at most 1; got 0\.5"):
        Histograms(1).quantiles(0.5)
