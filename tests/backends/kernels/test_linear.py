"""Kernels of linear layers: exact where rounding changes nothing, bounded elsewhere, total."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.kernels.layers import (
    KERNELS,
    SEEDS,
    SHAPES,
    Shape,
    extreme,
    group_look_ups,
    group_sums,
    layer,
    multiply,
    prepare,
    quantized,
    tabled,
    unrounded,
)
from tests.backends.kernels.program import Program

FEW = settings(max_examples=6)  # each example runs all kernels, some under an emulator
ULP = 2.0**-23  # of float32, relative


def layers(shape, seed, padding=0):
    return {kernel: layer(form, shape, seed, padding) for kernel, (form, _) in KERNELS.items()}


def products(machine, x, shape, seed=0, *, padding=0, shift=0, tiles=None, layers_=None):
    """y of every kernel; x for all of them, or by what prepares it."""
    program = Program()
    made = {}
    for kernel, some in (layers_ or layers(shape, seed, padding)).items():
        floats_ = x[KERNELS[kernel][1]] if isinstance(x, dict) else x
        seen = shape.in_one_group() if kernel == "int8" else shape
        rounded = prepare(program, KERNELS[kernel][1], program.put(floats_, shift), seen)
        made[kernel] = multiply(program, kernel, rounded, some, seen, tiles=tiles, shift=shift)
    outcome = program.run(machine)
    return {kernel: outcome[place] for kernel, place in made.items()}


def floats(shape, seed):
    return np.random.default_rng(seed).standard_normal((shape.M, shape.K)).astype(np.float32)


def same(left, right):
    """The kernels whose results differ in any bit."""
    return [kernel for kernel in left if left[kernel].tobytes() != right[kernel].tobytes()]


def scales(kernel, x, shape):
    """s[groups, M] of the activations."""
    return (tabled if KERNELS[kernel][1] == "tables" else quantized)(x, shape)[1]


def bound(kernel, x, some, shape):
    """How far y may be from x W^T: half a step for each byte that was rounded, and float32."""
    seen = shape.in_one_group() if kernel == "int8" else shape
    steps = scales(kernel, x, seen).T.astype(np.float64) * 0.5001
    sizes = np.abs(x).astype(np.float64) @ np.abs(some.weights).T * ULP * (seen.groups + 8)
    if KERNELS[kernel][1] == "tables":  # a byte for each four columns and plane
        multipliers = np.abs(some.planes).sum(-1)[:, :: shape.group]
        return (steps @ (multipliers * (shape.group // 4)).T + sizes) * some.scale
    weights = np.zeros((seen.groups, shape.N))
    np.add.at(weights, seen.of_column, np.abs(some.weights).T)
    return (steps @ weights + sizes) * some.scale


def group_terms(kernel, x, some, shape):
    """s q W^T of each group in float64, without the scale of the rows: [groups, M, N]."""
    if KERNELS[kernel][1] == "tables":
        q, s = tabled(x, shape)
        sums = group_look_ups(q, some, shape)
    else:
        q, s = quantized(x, shape)
        sums = group_sums(q, some, shape)
    return sums * s[..., None].astype(np.float64)


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_exact_on_integers_that_rounding_leaves_alone(isa, shape, seed):
    rng = np.random.default_rng(seed)
    x = {kind: unrounded(kind, shape, rng) for kind in ("quantize", "tables")}
    actual = products(isa, x, shape, seed)
    for kernel, some in layers(shape, seed).items():
        whole = x[KERNELS[kernel][1]].astype(np.int64) @ some.weights.T
        expected = (whole * some.scale.astype(np.float64)).astype(np.float32)
        assert (expected == actual[kernel]).all(), kernel


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_the_largest_sums_do_not_overflow(isa, shape, seed):
    x = {kind: np.empty((shape.M, shape.K), np.float32) for kind in ("quantize", "tables")}
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], shape.K)
    x["quantize"][:], x["tables"][:] = 127 * signs, 31 * signs
    for start in range(0, shape.K, shape.group):  # sums of four up to 127
        x["tables"][:, start] = (127 - 31 * min(3, shape.K - start - 1)) * signs[start]
    made = {k: extreme(f, shape, signs) for k, (f, _) in KERNELS.items()}
    actual = products(isa, x, shape, layers_=made)
    for kernel, some in made.items():
        expected = x[KERNELS[kernel][1]].astype(np.int64) @ some.weights.T
        size = np.abs(x[KERNELS[kernel][1]]).astype(np.int64) @ np.abs(some.weights).T
        bound = size * some.scale * (shape.groups + 3) * ULP
        assert (np.abs(expected * some.scale - actual[kernel]) <= bound).all(), kernel


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_floats_within_what_rounding_may_do(isa, shape, seed):
    x = floats(shape, seed)
    actual = products(isa, x, shape, seed)
    for kernel, some in layers(shape, seed).items():
        expected = (x.astype(np.float64) @ some.weights.T) * some.scale
        assert (np.abs(expected - actual[kernel]) <= bound(kernel, x, some, shape)).all(), kernel


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_floats_are_the_sums_of_what_was_rounded(isa, shape, seed):
    """Integers exactly; of float32 one rounding for each operation, fused or not."""
    x = floats(shape, seed)
    actual = products(isa, x, shape, seed)
    for kernel, some in layers(shape, seed).items():
        seen = shape.in_one_group() if kernel == "int8" else shape
        terms = group_terms(kernel, x, some, seen)
        error = np.abs(terms).sum(0) * some.scale * (seen.groups + 3) * ULP / 2 * 1.001
        assert (np.abs(terms.sum(0) * some.scale - actual[kernel]) <= error).all(), kernel


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_what_lies_beyond_the_weights_does_not_matter(isa, shape, seed):
    x = floats(shape, seed)
    assert [] == same(products(isa, x, shape, seed), products(isa, x, shape, seed, padding=1))


@FEW
@given(shape=SHAPES, seed=SEEDS, shift=st.sampled_from([1, 4, 20, 63]))
def test_arrays_may_lie_anywhere(isa, shape, seed, shift):
    x = floats(shape, seed)
    assert [] == same(products(isa, x, shape, seed), products(isa, x, shape, seed, shift=shift))


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_tiles_in_pieces_are_the_whole(isa, shape, seed):
    x = floats(shape, seed)
    pieces = [(t, t + 1) for t in reversed(range(shape.tiles))]
    assert [] == same(products(isa, x, shape, seed), products(isa, x, shape, seed, tiles=pieces))


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_a_tile_writes_its_own_columns_only(isa, shape, seed):
    last = shape.tiles - 1
    for kernel, y in products(
        isa, floats(shape, seed), shape, seed, tiles=[(last, last + 1), (0, 0)]
    ).items():
        assert np.isnan(y[:, : 64 * last]).all(), kernel
        assert not np.isnan(y[:, 64 * last :]).any(), kernel


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_what_is_no_number_stays_in_its_token(isa, odd, shape, seed):
    x, rng = floats(shape, seed), np.random.default_rng(seed)
    before = products(isa, x, shape, seed)
    m = rng.integers(shape.M)
    x[m, rng.integers(shape.K)] = odd
    after = products(isa, x, shape, seed)
    others = np.arange(shape.M) != m
    for kernel, y in after.items():
        assert np.isnan(y[m]).all(), kernel
        assert (before[kernel][others] == y[others]).all(), kernel


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_tokens_of_zeros_give_zeros(isa, shape, seed):
    x, rng = floats(shape, seed), np.random.default_rng(seed)
    zero = rng.random(shape.M) < 0.5
    x[zero] = rng.choice([0.0, -0.0])
    for kernel, y in products(isa, x, shape, seed).items():
        assert (y[zero] == 0).all(), kernel


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_tokens_do_not_depend_on_their_company(isa, shape, seed):
    x = floats(shape, seed)
    alone = Shape(1, shape.N, shape.K, shape.group)
    m = np.random.default_rng(seed).integers(shape.M)
    some = products(isa, x[m : m + 1], alone, seed)
    every = products(isa, x, shape, seed)
    assert [] == same(some, {kernel: y[m : m + 1] for kernel, y in every.items()})


def test_no_tokens_no_outputs(isa):
    shape = Shape(0, 65, 33, 32)
    for y in products(isa, np.zeros((0, 33), np.float32), shape, 0).values():
        assert (0, 65) == y.shape


@pytest.mark.parametrize("size", [1e-38, 1e-42, 1e-45])
def test_numbers_too_small_for_a_scale_stay_small(isa, size):
    """1 / s overflows below 3e-39: the result is small and finite, whatever the bytes are."""
    shape = Shape(3, 33, 70, 32)
    x = floats(shape, 0) * np.float32(size)
    for kernel, y in products(isa, x, shape, 0).items():
        assert (np.abs(y) <= 1e-30).all(), kernel
