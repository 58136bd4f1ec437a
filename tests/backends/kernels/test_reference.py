"""What kernels compute is what the bodies of the dialect mean, where rounding to int8 is exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backends.kernels import reference
from tests.ir.dialect import (
    test_binary_linear_attention,
    test_log_code_attention,
    test_mixture,
)
from tests.ir.dialect.running import run

SIZES = st.sampled_from([1, 7, 31, 33, 129])
SEEDS = st.integers(0, 2**32 - 1)


def integers(rng, shape, axis):
    """Whole numbers whose largest magnitude along `axis` is 127: rounding leaves them alone."""
    x = rng.integers(-126, 127, shape).astype(np.float32)
    first = [slice(None)] * x.ndim
    for one in axis if isinstance(axis, tuple) else (axis,):
        first[one] = slice(0, 1)
    x[tuple(first)] = 127
    return x


def test_integers_stay_as_they_are():
    x = integers(np.random.default_rng(0), (5, 33), -1)
    rounded = reference.round_to_int8(x)
    assert (rounded.q == x).all()
    assert (rounded.scale == 1).all()


def test_zeros_have_a_scale_and_no_number_is_beyond_127():
    rounded = reference.round_to_int8(np.zeros((2, 3), np.float32))
    assert (rounded.q == 0).all()
    assert (rounded.scale == 1).all()
    x = np.random.default_rng(0).standard_normal((2000, 9)).astype(np.float32)
    rounded = reference.round_to_int8(x)
    assert np.abs(rounded.q.astype(int)).max(-1).tolist() == [127] * 2000
    assert np.all(np.abs(rounded.q * rounded.scale - x) <= rounded.scale * 0.5001)


@given(
    form=st.sampled_from(test_log_code_attention.FORMS),
    queries=st.sampled_from([1, 7, 33]),
    n=SIZES,
    d=st.sampled_from([1, 7, 33]),
    scale=st.sampled_from([1.0, 0.3]),
    seed=SEEDS,
)
def test_log_code_attention_is_its_body(form, queries, n, d, scale, seed):
    rng = np.random.default_rng(seed)
    s = (rng.standard_normal((2, 2, queries, n)) * 2 / scale).astype(np.float32)
    mask = np.where(rng.random((queries, n)) < 0.1, -np.inf, 0).astype(np.float32)
    v = integers(rng, (2, 2, n, d), (-2, -1))
    made = test_log_code_attention.model(*form, scale, masked=[queries, n])
    (body,) = run(made, {"s": s, "mask": mask, "v": v})
    per_octave, bits = form
    kernel = reference.log_code_attention(
        s, mask, v, codes_per_octave=per_octave, bits=bits, scale=scale
    )
    # The same codes and sums; the body and the kernel round in another order.
    assert np.all(np.abs(kernel - body) <= np.abs(body) * 2 * np.finfo(np.float32).eps)


def test_sums_of_log_codes_fit_int32():
    table, most = reference.log_code_table(1, 4), 66_000
    assert int(table.max()) * 127 * most < 2**31


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_shifts_do_what_the_table_does(bits):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 1 << bits, (2, 5, 33)).astype(np.uint8)
    q = rng.integers(-127, 128, (2, 33, 8)).astype(np.int8)
    multiplied = reference.log_code_sums(codes, reference.log_code_table(1, bits), q)
    shifted = reference.shifted_sums(codes, q, bits)
    assert (multiplied.weighted == shifted.weighted).all()
    assert (multiplied.total == shifted.total).all()


@given(tokens=SIZES, heads=st.integers(1, 3), bits=SIZES, width=st.sampled_from([1, 8, 33]))
def test_binary_linear_attention_is_its_body(tokens, heads, bits, width):
    rng = np.random.default_rng(tokens + heads + bits + width)
    x, filters = test_binary_linear_attention.drawn(rng, 2, tokens, heads, bits, width, 9)
    weights = (0.5, 1 / np.pi)
    expected, size = test_binary_linear_attention.expected(x, heads, bits, width, filters)
    kernel = reference.binary_linear_attention(
        x,
        filters,
        heads=heads,
        bits=bits,
        value_weight=weights[0],
        sum_weight=weights[1],
        epsilon=1e-12,
    )
    assert np.all(np.abs(kernel - expected) <= size * 2.0**-40)


def test_binary_sums_of_integers_are_integers():
    rng = np.random.default_rng(0)
    x = rng.integers(-127, 128, (2, 129, 2 * 48)).astype(np.float32)
    parts = reference.split_heads(x, 2, 16)
    keys, values = parts.key_bits.astype(int), parts.values.astype(int)
    exact = parts.query_bits.astype(int) @ (np.swapaxes(keys, 2, 3) @ values)
    assert (exact == reference.binary_sums(parts)).all()
    assert np.abs(exact).max() < 2**24  # so float32 holds all that is on the way


@given(
    k=st.sampled_from([1, 7, 31, 33, 64]),
    n=st.sampled_from([1, 7, 33, 129]),
    tokens=st.integers(0, 9),
    seed=SEEDS,
)
def test_routed_moe_is_its_body(k, n, tokens, seed):
    rng = np.random.default_rng(seed)
    model, (w, shifts), biases = test_mixture.mixture(k, n, rng)
    x = integers(rng, (tokens, k), -1)
    expert = rng.integers(0, 2, tokens).astype(np.int32)
    scale = np.asarray(model.graph.initializers["scale"].const_value.numpy())
    (body,) = run(model, {"x": x, "expert": expert})
    kernel = reference.routed_moe(
        x,
        expert,
        (w.T.astype(np.float32), biases[0]),
        (np.rint(shifts / scale[:, None]).astype(np.int8), scale, biases[1]),
    )
    second = expert != 0  # integers times powers of two: exact but for the bias
    assert (kernel[second] == body[second]).all()
    bound = test_mixture.bound_of(x, (w, shifts), biases, np.float32)
    assert np.all(np.abs(kernel - body) <= bound)


def test_buckets_hold_every_row_once_in_order():
    first, second = reference.buckets(np.array([[0, 1], [1, 0], [2, 0]], np.int32))
    assert ([0, 3, 5], [1, 2, 4]) == (first.tolist(), second.tolist())
