"""What kernels make of activations is NumPy's, bit for bit, on every instruction set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.kernels.layers import (
    SEEDS,
    SHAPES,
    Shape,
    prepare,
    quantized,
    tabled,
)
from tests.backends.kernels.program import Program

FEW = settings(max_examples=8)
KINDS = {"quantize": quantized, "tables": tabled}
MAGNITUDES = st.sampled_from([1.0, 1e-30, 1e30, 127.0])


def made(machine, kernel, x, shape, rows=None, shift=0):
    """q, s and sum of a kernel."""
    program = Program()
    rounded = prepare(program, kernel, program.put(x, shift), shape, rows)
    outcome = program.run(machine)
    return outcome[rounded.q], outcome[rounded.s], outcome[rounded.sum]


def drawn(shape, seed, magnitude=1.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((shape.M, shape.K)) * magnitude
    x[rng.random(x.shape) < 0.1] = 0
    return x.astype(np.float32)


@pytest.mark.parametrize("kernel", KINDS)
@FEW
@given(shape=SHAPES, magnitude=MAGNITUDES, seed=SEEDS)
def test_bytes_and_scales_are_those_of_numpy(isa, kernel, shape, magnitude, seed):
    x = drawn(shape, seed, magnitude)
    q, s, sums = made(isa, kernel, x, shape)
    expected_q, expected_s = KINDS[kernel](x, shape)
    assert (expected_s == s).all()
    assert (expected_q == q).all()
    if kernel == "quantize":
        assert (expected_q.astype(int).sum(-1) == sums).all()
    else:
        assert (sums == -1).all(), "tables need no sums: nobody should write them"


@pytest.mark.parametrize("kernel", KINDS)
@FEW
@given(shape=SHAPES, seed=SEEDS, cut=st.floats(0, 1))
def test_rows_in_pieces_are_the_whole(isa, kernel, shape, seed, cut):
    x, middle = drawn(shape, seed), round(cut * shape.M)
    pieces = made(isa, kernel, x, shape, [(middle, shape.M), (0, middle)])
    for whole, some in zip(made(isa, kernel, x, shape), pieces, strict=True):
        assert whole.tobytes() == some.tobytes()


@pytest.mark.parametrize("kernel", KINDS)
@pytest.mark.parametrize("shift", [1, 4, 37])
def test_activations_may_lie_anywhere(isa, kernel, shift):
    shape = Shape(3, 1, 70, 32)
    x = drawn(shape, 0)
    shifted = made(isa, kernel, x, shape, shift=shift)
    for aligned, some in zip(made(isa, kernel, x, shape), shifted, strict=True):
        assert aligned.tobytes() == some.tobytes()


@pytest.mark.parametrize("kernel", KINDS)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_what_is_no_number_makes_the_scale_of_its_group_none(isa, kernel, odd, shape, seed):
    x = drawn(shape, seed)
    rng = np.random.default_rng(seed)
    m, column = rng.integers(shape.M), rng.integers(shape.K)
    _, before, _ = made(isa, kernel, x, shape)
    x[m, column] = odd
    _, after, _ = made(isa, kernel, x, shape)
    g = column // shape.group
    assert np.isnan(after[g, m])
    others = np.ones(after.shape, bool)
    others[g, m] = False
    assert (before[others] == after[others]).all()


@pytest.mark.parametrize("kernel", KINDS)
def test_ties_go_to_even(isa, kernel):
    halves = np.array([127, 0, 0, 0, 0.5, 0, 0, 0, 1.5, 0, 0, 0, 2.5, 0, 0, 0, -0.5, 0, 0, 0, -1.5])
    q, s, _ = made(isa, kernel, halves[None].astype(np.float32), Shape(1, 1, len(halves), 32))
    step = 16 if kernel == "tables" else 4
    first = 1 if kernel == "tables" else 0  # the table's entry where only the first term is +
    assert 1 == s
    assert [127, 0, 2, 2, 0, -2] == q[0, 0, first : 6 * step : step].tolist()


@pytest.mark.parametrize("kernel", KINDS)
@pytest.mark.parametrize("shape", [Shape(0, 1, 33, 32), Shape(0, 1, 1, 128)])
def test_no_rows_no_bytes(isa, kernel, shape):
    for some in made(isa, kernel, drawn(shape, 0), shape):
        assert 0 == some.size
