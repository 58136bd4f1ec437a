"""Number formats: what they hold exactly, how near they come, what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.ir.numbers import (
    POWERS_OF_TWO_4,
    UNIFORM_2,
    UNIFORM_4,
    Codebook,
    as_powers_of_two,
    binary_codes,
    encode_codebook,
    fit_codebook,
    nearest_levels,
    power_of_two,
    relative_error,
    sum_of_powers,
)

FINITE = st.floats(-1e30, 1e30, allow_nan=False)
SEEDS = st.integers(0, 2**32 - 1)


def gauss(seed: int, rows: int = 16, columns: int = 512) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns))


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_a_power_of_two_is_one_and_the_nearest_in_the_logarithm(numbers: list[float]) -> None:
    x = np.array(numbers)
    made = power_of_two(x)
    assert as_powers_of_two(made) is not None
    kept = np.abs(x) > 1e-300
    ratio = np.abs(made[kept] / x[kept])
    assert np.all((ratio > 0.5**0.5 * (1 - 1e-12)) & (ratio < 2**0.5 * (1 + 1e-12)))
    assert np.array_equal(power_of_two(made), made)


@given(st.lists(FINITE, min_size=1, max_size=20), st.integers(1, 4))
def test_more_terms_are_never_worse(numbers: list[float], terms: int) -> None:
    x = np.array(numbers)
    fewer, more = (np.abs(x - sum_of_powers(x, n)) for n in (terms, terms + 1))
    assert np.all(more <= fewer)


def test_zeros_and_what_is_not_finite_stay() -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324])
    assert np.array_equal(power_of_two(x), [0, 0, np.inf, -np.inf, np.nan, 0], equal_nan=True)
    assert np.array_equal(sum_of_powers(x, 2), power_of_two(x), equal_nan=True)
    with pytest.raises(ValueError, match="at least one term, got 0"):
        sum_of_powers(x, 0)


def test_powers_of_two_are_recognised_without_loss() -> None:
    sign, exponent = as_powers_of_two(np.array([0.25, -8.0, 0.0, 1.0]))
    assert sign.tolist() == [1, -1, 0, 1]
    assert exponent.tolist() == [-2, 3, 0, 0]
    assert as_powers_of_two(np.array([0.25, 3.0])) is None
    assert as_powers_of_two(np.array([np.inf])) is None


def test_three_terms_are_as_near_as_the_paper_needs() -> None:
    x = np.exp(np.random.default_rng(0).uniform(-3, 3, 20000))
    errors = [np.sqrt(np.mean(np.square(sum_of_powers(x, n) / x - 1))) for n in (1, 2, 3)]
    assert 0.15 < errors[0] < 0.25
    assert errors[2] < 0.01


@settings(max_examples=20)
@given(
    SEEDS,
    st.sampled_from([POWERS_OF_TWO_4, UNIFORM_4, UNIFORM_2]),
    st.integers(1, 5),
    st.integers(1, 70),
    st.sampled_from([1, 7, 32, 128]),
)
def test_what_codes_can_say_is_encoded_without_loss(seed, book, rows, columns, group) -> None:
    rng = np.random.default_rng(seed)
    table = np.array(book.table, np.float64)
    codes = rng.integers(0, len(table), (rows, columns))
    codes[:, ::group] = int(np.argmax(np.abs(table)))
    scale = 2.0 ** rng.integers(-6, 3, (rows, -(-columns // group)))
    w = table[codes] * np.repeat(scale, group, axis=1)[:, :columns]
    made = encode_codebook(w, book, group)
    assert relative_error(w, made.decode()) < 1e-12
    assert made.codes.shape == w.shape
    assert made.codes.max() < len(table)


@settings(max_examples=10)
@given(SEEDS)
def test_errors_are_those_that_were_measured_for_gaussian_weights(seed: int) -> None:
    w = gauss(seed)
    errors = {
        book.name: relative_error(w, encode_codebook(w, book).decode())
        for book in (POWERS_OF_TWO_4, UNIFORM_4, fit_codebook(w))
    }
    assert errors["power-of-two"] < 0.19
    assert errors["uniform"] < 0.115
    assert errors["fitted"] < 0.097
    assert errors["fitted"] < errors["uniform"] < errors["power-of-two"]


def test_scales_may_be_powers_of_two() -> None:
    w = gauss(0)
    made = encode_codebook(w, POWERS_OF_TWO_4, powers=True)
    assert as_powers_of_two(made.scale) is not None
    assert relative_error(w, made.decode()) < 0.22


def test_importance_moves_the_error_to_where_it_costs_little() -> None:
    w = gauss(0)
    heavy = np.where(np.arange(512) % 2 == 0, 100.0, 1.0)
    plain, weighted = (
        encode_codebook(w, UNIFORM_2, importance=given).decode() for given in (None, heavy)
    )
    assert relative_error(w[:, ::2], weighted[:, ::2]) <= relative_error(w[:, ::2], plain[:, ::2])


@settings(max_examples=10)
@given(SEEDS, st.integers(1, 4))
def test_binary_codes_come_as_near_as_was_measured(seed: int, planes: int) -> None:
    w = gauss(seed, rows=8)
    limit = {1: 0.62, 2: 0.35, 3: 0.195, 4: 0.105}[planes]
    made = binary_codes(w, planes)
    assert relative_error(w, made.decode()) < limit
    assert np.all(np.diff(made.alpha, axis=2) <= 0)
    rounded = binary_codes(w, planes, terms=2)
    assert relative_error(w, rounded.decode()) < 1.1 * limit
    assert np.allclose(sum_of_powers(rounded.alpha, 2), rounded.alpha, rtol=0, atol=0)


@settings(max_examples=8)
@given(SEEDS, st.integers(1, 3), st.integers(1, 60), st.sampled_from([4, 32, 128]))
def test_binary_weights_are_encoded_without_loss(seed, planes, columns, group) -> None:
    rng = np.random.default_rng(seed)
    alpha = 4.0 ** -np.arange(planes) * 2.0 ** rng.integers(-3, 3, (3, -(-columns // group), 1))
    signs = rng.integers(0, 2, (3, columns, planes)) * 2 - 1
    w = np.sum(np.repeat(alpha, group, axis=1)[:, :columns] * signs, axis=2)
    made = binary_codes(w, planes, group)
    assert relative_error(w, made.decode()) < 0.35
    one = binary_codes(np.sign(w) * 0.75, 1, group)
    assert relative_error(np.sign(w) * 0.75, one.decode()) < 1e-5


def test_levels_are_the_nearest() -> None:
    alpha = np.array([[3.0, 1.0]])
    codes = nearest_levels(np.array([[-9.0, -2.5, 0.1, 1.0, 3.9, 9.0]]), alpha)
    assert codes.tolist() == [[0, 2, 1, 1, 3, 3]]


def test_zeros_and_constants_have_codes() -> None:
    for w in (np.zeros((2, 9)), np.full((2, 9), 3.0), np.eye(3)):
        made = encode_codebook(w, UNIFORM_4, 4)
        assert relative_error(w, made.decode()) < 1e-12
        assert np.isfinite(binary_codes(w, 2, 4).decode()).all()
        assert isinstance(fit_codebook(w), Codebook)


@pytest.mark.parametrize(
    ("w", "message"),
    [
        (np.zeros(3), "a matrix of weights"),
        (np.zeros((0, 3)), "a matrix of weights"),
        (np.array([[np.nan]]), "finite weights"),
        (np.array([[np.inf]]), "finite weights"),
    ],
)
def test_what_is_no_matrix_of_weights_is_refused(w: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_codebook(w, UNIFORM_4)


def test_bad_options_are_refused() -> None:
    w = np.ones((1, 4))
    with pytest.raises(ValueError, match="1 to 4 planes, got 5"):
        binary_codes(w, 5)
    with pytest.raises(ValueError, match="groups of at least one column, got 0"):
        encode_codebook(w, UNIFORM_4, 0)
    with pytest.raises(ValueError, match="2 or 4 bits, got 3"):
        fit_codebook(w, 3)
    with pytest.raises(ValueError, match="4 or 16 levels, got 3"):
        Codebook("short", (1, 2, 3))
    with pytest.raises(ValueError, match="sorted levels in -127"):
        Codebook("wide", (-128, 0, 1, 2))


def test_bytes_are_those_of_packed_codes() -> None:
    made = encode_codebook(gauss(0, 4, 256), UNIFORM_4)
    assert made.nbytes == 4 * 128 + 16 + 4 * 4 * 2
