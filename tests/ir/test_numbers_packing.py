"""Packed layouts and whole multipliers: byte by byte as documented, and back without loss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.ir.numbers import (
    MOST_BINARY,
    MOST_CODEBOOK,
    POWERS_OF_TWO_4,
    SCALE_SETS,
    UNIFORM_2,
    BinaryCodes,
    CodebookCodes,
    Multipliers,
    allowed_multipliers,
    binary_codes,
    encode_codebook,
    factorize,
    group_for,
    pack_binary,
    pack_codebook,
    pack_integers,
    relative_error,
    round_to_allowed,
    unpack_binary,
    unpack_codebook,
)

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(st.integers(1, 130), st.integers(1, 300))
GROUPS = st.sampled_from([32, 64, 96, 128])


def random_multipliers(rng, rows, groups, planes, most) -> Multipliers:
    shape = (rows, groups, planes)
    integers = rng.integers(0, most // planes, shape, endpoint=True).astype(np.uint8)
    scale = rng.uniform(0.1, 1, rows).astype(np.float32).astype(np.float64)
    return Multipliers(scale, integers)


@settings(max_examples=20)
@given(SEEDS, SIZES, GROUPS, st.sampled_from([POWERS_OF_TWO_4, UNIFORM_2]))
def test_codes_come_back_and_lie_where_the_layout_says(seed, size, group, book) -> None:
    rng = np.random.default_rng(seed)
    (rows, columns), bits = size, book.bits
    codes = rng.integers(0, 1 << bits, size).astype(np.uint8)
    made = random_multipliers(rng, rows, -(-columns // group), 1, MOST_CODEBOOK)
    made = Multipliers(made.scale, made.integers[..., 0])
    given_codes = CodebookCodes(book, codes, made.values, group, made)
    packed = pack_codebook(given_codes)
    back = unpack_codebook(packed, columns)
    assert np.array_equal(codes, back.codes)
    assert np.array_equal(given_codes.decode(), back.decode())
    assert packed.codes.shape == (-(-rows // 64), -(-columns // group), group * bits // 32, 64, 4)
    n, k = int(rng.integers(rows)), int(rng.integers(columns))
    g, inside = divmod(k, group)
    s, rest = divmod(inside, 32 // bits)
    j, c = divmod(rest, 4)
    byte = int(packed.codes[n // 64, g, s, n % 64, c])
    assert codes[n, k] == byte >> bits * j & (1 << bits) - 1
    assert made.integers[n, g] == packed.multipliers[n // 64, g, n % 64]
    assert np.all(packed.multipliers[-1, :, rows - 64 * (rows // 64) :] == 0) or rows % 64 == 0


@settings(max_examples=20)
@given(SEEDS, SIZES, GROUPS, st.integers(1, 4))
def test_signs_come_back_and_lie_where_the_layout_says(seed, size, group, planes) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = size
    signs = rng.integers(0, 2, (*size, planes)).astype(bool)
    made = random_multipliers(rng, rows, -(-columns // group), planes, MOST_BINARY)
    given_codes = BinaryCodes(signs, made.values, group, made)
    packed = pack_binary(given_codes)
    back = unpack_binary(packed, columns)
    assert np.array_equal(signs, back.signs)
    assert np.array_equal(given_codes.decode(), back.decode())
    assert packed.planes.shape == (
        -(-rows // 64),
        -(-columns // group),
        planes,
        4,
        group // 32,
        16,
        4,
    )
    n, k, i = int(rng.integers(rows)), int(rng.integers(columns)), int(rng.integers(planes))
    g, inside = divmod(k, group)
    s, rest = divmod(inside, 32)
    half, low = divmod(rest, 16)
    c, b = divmod(low, 4)
    byte = int(packed.planes[n // 64, g, i, n % 64 // 16, s, n % 16, c])
    assert signs[n, k, i] == byte >> (4 * half + b) & 1
    assert made.integers[n, g, i] == packed.multipliers[n // 64, g, i, n % 64]
    assert packed.nbytes == packed.planes.size + packed.multipliers.size + 4 * rows


@given(st.integers(1, 5000))
def test_no_other_group_takes_fewer_bytes(columns: int) -> None:
    def size(group: int) -> int:
        groups = -(-columns // group)
        return groups * (group * 3 // 8 + 3)  # at three bits: codes, and a multiplier a plane

    assert min(map(size, (32, 64, 96, 128))) == size(group_for(columns))


def test_groups_of_widths_that_networks_have() -> None:
    widths = (5, 96, 100, 172, 192, 320, 768, 1000)
    assert [32, 96, 128, 96, 96, 64, 128, 128] == [group_for(width) for width in widths]


@settings(max_examples=15)
@given(SEEDS, st.sampled_from(SCALE_SETS), st.integers(1, 4))
def test_multipliers_are_allowed_and_fit(seed, scales, planes) -> None:
    rng = np.random.default_rng(seed)
    values = np.sort(np.exp(rng.normal(size=(7, 3, planes))), axis=2)[..., ::-1]
    made = factorize(values, MOST_BINARY, scales)
    assert np.isin(made.integers, allowed_multipliers(scales, MOST_BINARY)).all()
    assert made.integers.sum(axis=2, dtype=np.int64).max() <= MOST_BINARY
    limit = {"powers": 0.5, "apot2": 0.2, "apot3": 0.1, "int8": 0.1}[scales]
    assert relative_error(values, made.values) < limit
    again = factorize(made.values, MOST_BINARY, scales)
    assert relative_error(made.values, again.values) < limit


def test_sets_of_scales_are_those_of_their_names() -> None:
    assert [0, 1, 2, 4, 8, 16, 32, 64] == allowed_multipliers("powers", 127).tolist()
    apot2 = set(allowed_multipliers("apot2", 127).tolist())
    assert {0, 3, 5, 6, 7, 9, 96, 124, 127} <= apot2
    assert not apot2 & {11, 13, 19, 21, 100}
    assert 11 in allowed_multipliers("apot3", 127)
    assert 128 == allowed_multipliers("int8", 127).size


def test_a_sum_that_is_too_large_is_lowered_where_it_costs_least() -> None:
    allowed = allowed_multipliers("powers", 127)
    assert round_to_allowed(np.array([[64.0, 63.0]]), allowed, 127).tolist() == [[64, 32]]
    assert round_to_allowed(np.array([[-3.0, 500.0]]), allowed, 127).tolist() == [[0, 64]]


def test_one_large_group_is_clipped_where_that_costs_less() -> None:
    values = np.ones((1, 64, 1))
    values[0, 0, 0] = 1.3
    kept = factorize(values, 4)
    assert np.sum(np.square(kept.values - values)) < 0.12


@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_whole_multipliers_cost_little(planes: int) -> None:
    w = np.random.default_rng(0).standard_normal((8, 256))
    real = binary_codes(w, planes)
    whole = real.factorized()
    assert relative_error(w, whole.decode()) < 1.02 * relative_error(w, real.decode())
    assert np.array_equal(whole.decode(), unpack_binary(pack_binary(whole), 256).decode())
    coded = encode_codebook(w, POWERS_OF_TWO_4)
    assert relative_error(coded.decode(), coded.factorized().decode()) < 0.004


def test_zeros_have_multipliers() -> None:
    made = binary_codes(np.zeros((2, 40)), 2, 32).factorized()
    assert np.array_equal(made.decode(), np.zeros((2, 40)))


def test_what_has_no_layout_is_refused() -> None:
    w = np.eye(3)
    real, coded = binary_codes(w, 1, 32), encode_codebook(w, UNIFORM_2, 32)
    for pack, codes in ((pack_binary, real), (pack_codebook, coded)):
        with pytest.raises(ValueError, match="got real ones: they have no packed layout"):
            pack(codes)
    with pytest.raises(ValueError, match="groups of 32, 64, 96 or 128 columns in a layout, got 7"):
        pack_binary(binary_codes(w, 1, 7).factorized())
    over = Multipliers(np.ones(3), np.full((3, 1, 1), 200, np.uint8))
    with pytest.raises(ValueError, match="add up to at most 127, got 200"):
        pack_binary(BinaryCodes(real.signs, over.values, 32, over))
    with pytest.raises(ValueError, match="at least one column, got 0"):
        group_for(0)
    with pytest.raises(ValueError, match="one of apot2, apot3, int8, powers, got 'apot9'"):
        real.factorized("apot9")
    for bad in (-1.0, np.nan, np.inf, 1e39):
        with pytest.raises(ValueError, match="from 0 to the largest float32"):
            factorize(np.array([[[bad]]]), 127)


@settings(max_examples=20)
@given(SEEDS, SIZES)
def test_integers_lie_where_the_layout_says(seed, size) -> None:
    weights = np.random.default_rng(seed).integers(-127, 128, size).astype(np.int8)
    packed = pack_integers(weights)
    t, s, r, c = np.indices(packed.shape)
    row, column = 64 * t + r, 4 * s + c
    is_one = (row < size[0]) & (column < size[1])
    assert packed.shape == (-(-size[0] // 64), -(-size[1] // 4), 64, 4)
    assert np.array_equal(packed[is_one], weights[row[is_one], column[is_one]])
    assert not packed[~is_one].any()
