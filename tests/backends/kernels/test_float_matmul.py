"""The float matmul: exact on integers, bounded on floats, each token by itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.kernels.layers import SEEDS, SHAPES, Shape
from tests.backends.kernels.program import Program

FEW = settings(max_examples=8)
ULP = 2.0**-23


def drawn(shape, seed, integers=False):
    """x[M, K], w[K, N], b[N]."""
    rng = np.random.default_rng(seed)
    sizes = ((shape.M, shape.K), (shape.K, shape.N), (shape.N,))
    if integers:
        return tuple(rng.integers(-300, 301, size).astype(np.float32) for size in sizes)
    return tuple(rng.standard_normal(size).astype(np.float32) for size in sizes)


def multiplied(machine, arrays, shape, *, padding=0.0, tiles=None, shift=0):
    x, w, b = arrays
    packed = np.full((shape.K, shape.tiles * 64), padding, np.float32)
    packed[:, : shape.N] = w
    packed = np.moveaxis(packed.reshape(shape.K, -1, 64), 1, 0)
    program = Program()
    read = [program.put(array, shift) for array in (x, packed, b)]
    y = program.room((shape.M, shape.N), np.float32, shift)
    for span in tiles or [(0, shape.tiles)]:
        program.call("float_matmul", *read, y, shape.M, shape.K, shape.N, *span)
    return program.run(machine)[y]


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_exact_on_integers(isa, shape, seed):
    x, w, b = arrays = drawn(shape, seed, integers=True)
    expected = x.astype(np.int64) @ w.astype(np.int64) + b.astype(np.int64)
    assert np.abs(expected).max() < 2**24
    assert (expected == multiplied(isa, arrays, shape)).all()


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_floats_within_the_sum_s_bound(isa, shape, seed):
    x, w, b = (array.astype(np.float64) for array in drawn(shape, seed))
    bound = (np.abs(x) @ np.abs(w) + np.abs(b)) * (shape.K + 1) * ULP
    assert (np.abs(x @ w + b - multiplied(isa, drawn(shape, seed), shape)) <= bound).all()


@FEW
@given(shape=SHAPES, seed=SEEDS, shift=st.sampled_from([1, 4, 63]))
def test_pieces_padding_and_places_do_not_matter(isa, shape, seed, shift):
    arrays = drawn(shape, seed)
    whole = multiplied(isa, arrays, shape).tobytes()
    tiles = [(t, t + 1) for t in reversed(range(shape.tiles))]
    assert whole == multiplied(isa, arrays, shape, tiles=tiles).tobytes()
    assert whole == multiplied(isa, arrays, shape, padding=np.nan).tobytes()
    assert whole == multiplied(isa, arrays, shape, shift=shift).tobytes()


@pytest.mark.parametrize("odd", [np.nan, np.inf])
@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_tokens_do_not_meet(isa, odd, shape, seed):
    x, w, b = drawn(shape, seed)
    before = multiplied(isa, (x, w, b), shape)
    m = seed % shape.M
    x[m, 0] = odd
    after = multiplied(isa, (x, w, b), shape)
    others = np.arange(shape.M) != m
    assert not np.isfinite(after[m]).any()
    assert (before[others] == after[others]).all()


def test_no_tokens(isa):
    shape = Shape(0, 65, 3, 32)
    assert (0, 65) == multiplied(isa, drawn(shape, 0), shape).shape
