"""Activations by a range that is known beforehand: NumPy's codes, bit for bit, on every set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.kernels.layers import SEEDS, SIZES
from tests.backends.kernels.program import Program

FEW = settings(max_examples=8)


def codes_of(machine, x, step, low, high, shift, rows):
    """q, s and sum of `levels` over runs of rows."""
    count, columns = x.shape
    group = -(-columns // 32) * 32
    program = Program()
    given_x, q = program.put(x), program.room((count, group), np.int8)
    s, total = program.room((count,), np.float32), program.room((count,), np.int32)
    for first, last in rows:
        program.call(
            "levels", given_x, q, s, total, count, columns, 1, group, first, last,
            step, float(low), float(high), shift,
        )  # fmt: skip
    outcome = program.run(machine)
    return outcome[q], outcome[s], outcome[total]


@FEW
@given(SIZES, SIZES, st.sampled_from([0.1, 1e-3, 3.0]), st.integers(0, 255), SEEDS, st.floats(0, 1))
def test_levels_are_those_of_numpy(isa, rows, columns, step, zero, seed, cut):
    rng = np.random.default_rng(seed)
    rows, middle = min(rows, 9), round(cut * min(rows, 9))
    x = (rng.standard_t(2, (rows, columns)) * step * 50).astype(np.float32)
    x[0] = step * (rng.integers(-300, 300, columns) + 0.5)
    low, high, shift = -zero, 255 - zero, zero - 128
    q, s, total = codes_of(isa, x, step, low, high, shift, [(middle, rows), (0, middle)])
    level = np.rint(np.clip(x / np.float32(step), low, high)) + shift
    assert np.array_equal(level.astype(np.int8), q[:, :columns])
    assert not q[:, columns:].any()
    assert np.array_equal(level.sum(1).astype(np.int32), total)
    assert np.array_equal(np.ones(rows, np.float32), s)


@FEW
@given(SIZES, st.integers(0, 15), SEEDS)
def test_runs_of_levels_share_a_code(isa, columns, steps, seed):
    rng = np.random.default_rng(seed)
    starts = np.full(15, 256, np.int32)
    starts[:steps] = np.sort(rng.choice(np.arange(-100, 155), steps, replace=False))
    codes = rng.integers(-128, 128, 16)
    x = (rng.standard_t(2, (4, columns)) * 20).astype(np.float32)
    group = -(-columns // 32) * 32
    program = Program()
    q, s = program.room((4, group), np.int8), program.room((4,), np.float32)
    total = program.room((4,), np.int32)
    program.call(
        "stairs", program.put(x), q, s, total, 4, columns, 1, group, 0, 4, 0.5, -100.0, 155.0,
        int(codes[0]), program.put(starts), program.put(np.diff(codes).astype(np.int32)),
    )  # fmt: skip
    outcome = program.run(isa)
    level = np.rint(np.clip(x / np.float32(0.5), -100, 155))
    expected = codes[(level[..., None] >= starts).sum(-1)]
    assert np.array_equal(expected.astype(np.int8), outcome[q][:, :columns])
    assert np.array_equal(expected.sum(1), outcome[total])


@pytest.mark.parametrize(("odd", "level"), [(np.inf, 7), (-np.inf, -8)])
def test_infinities_are_the_ends(isa, odd, level):
    q, _, _ = codes_of(isa, np.full((1, 3), odd, np.float32), 0.5, -8, 7, 0, [(0, 1)])
    assert [level] * 3 == q[0, :3].tolist()
