"""Weights of few bits: within their range, and better where they make up for each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.errors import InputError
from addax.passes._integer.weights import (
    compensated_weights,
    ends,
    nearest_weights,
    row_scales,
)

BITS = st.integers(2, 8)
SEEDS = st.integers(0, 9999)


def drawn(seed, rows=7, columns=24):
    """Weights, and second moments of correlated inputs."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, columns)) * np.exp2(rng.integers(-9, 9, (rows, 1)))
    x = rng.normal(size=(300, columns // 3)) @ rng.normal(size=(columns // 3, columns))
    x += 0.2 * rng.normal(size=x.shape)
    return matrix, x, x.T @ x / len(x)


def missed(matrix, made, x):
    return float(np.linalg.norm(x @ (made.decode() - matrix).T))


@given(BITS)
def test_a_byte_leaves_its_smallest_integer_out(bits):
    low, high = ends(bits)
    assert high - low == 2**bits - 1 - (bits == 8)
    assert (-63, 63) == ends(8, reduce_range=True)


@settings(max_examples=30)
@given(BITS, SEEDS)
def test_integers_are_in_their_range_and_compensation_lowers_the_error(bits, seed):
    matrix, x, moment = drawn(seed)
    low, high = ends(bits)
    nearest = nearest_weights(matrix, low, high)
    made, notes = compensated_weights("some", matrix, low, high, moment, 0.01)
    for weights in (nearest, made):
        assert low <= weights.integers.min() <= weights.integers.max() <= high
        assert np.int8 == weights.integers.dtype
    assert () == notes
    assert missed(matrix, made, x) < missed(matrix, nearest, x)


@given(BITS, SEEDS)
def test_scales_lose_no_more_than_those_that_reach_the_largest_weight(bits, seed):
    matrix, *_ = drawn(seed)
    low, high = ends(bits)
    made = nearest_weights(matrix, low, high)
    plain = np.abs(matrix).max(1, keepdims=True) / ((high - low) / 2)
    rounded = np.clip(np.rint(matrix / plain), low, high) * plain
    ours, theirs = (np.linalg.norm(m - matrix, axis=1) for m in (made.decode(), rounded))
    assert np.all(ours <= theirs * (1 + 1e-5))


def test_rows_of_zeros_and_columns_that_never_vary():
    matrix, _, moment = drawn(0)
    matrix[2] = 0
    moment[:, 3] = moment[3] = 0
    made, notes = compensated_weights("some", matrix, -8, 7, moment, 0.01)
    assert 1 == row_scales(np.zeros((1, 4)), -127, 127)[0]
    assert not made.integers[2].any()
    assert ("1 of 24 inputs are always zero",) == notes
    nothing, notes = compensated_weights("some", matrix, -8, 7, 0 * moment, 0.01)
    assert ("all inputs are zero in the calibration data: fitted without it",) == notes
    assert np.array_equal(nearest_weights(matrix, -8, 7).integers, nothing.integers)


def test_moments_that_are_not_finite_are_refused():
    matrix, _, moment = drawn(0)
    moment[0, 0] = np.nan
    with pytest.raises(InputError, match="second moments of layer 'some' hold NaN or infinities"):
        compensated_weights("some", matrix, -8, 7, moment, 0.01)
