"""Kernels of linear layers: exact where rounding changes nothing, bounded elsewhere, total."""

import itertools
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.kernels.layers import (
    EDGES,
    KERNELS,
    SEEDS,
    SHAPES,
    Layer,
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


class Variant(NamedTuple):
    """What every kernel multiplies: x for all of them, or by what prepares it."""

    x: np.ndarray | dict[str, np.ndarray]
    shape: Shape
    layers: dict[str, Layer]
    shift: int = 0
    tiles: list[tuple[int, int]] | None = None


def layers(shape, seed, padding=0):
    return {kernel: layer(form, shape, seed, padding) for kernel, (form, _) in KERNELS.items()}


def products(machine, *variants):
    """y of every kernel, for each variant; all in one program."""
    program = Program()
    places = []
    for x, shape, layers_, shift, tiles in variants:
        places.append({})
        for kernel, some in layers_.items():
            kind = KERNELS[kernel][1]
            seen = shape.in_one_group() if kernel == "int8" else shape
            at = program.put(x[kind] if isinstance(x, dict) else x, shift)
            rounded = prepare(program, kind, at, seen)
            y = multiply(program, kernel, rounded, some, seen, tiles=tiles, shift=shift)
            places[-1][kernel] = y
    outcome = program.run(machine)
    return [{kernel: outcome[place] for kernel, place in made.items()} for made in places]


def floats(shape, seed):
    return np.random.default_rng(seed).standard_normal((shape.M, shape.K)).astype(np.float32)


def different(left, right):
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


def wrong_on_integers(machine, shapes, seed):
    """Shapes and kernels that are not exact on integers that rounding leaves alone."""
    rng = np.random.default_rng(seed)
    variants = []
    for shape in shapes:
        x = {kind: unrounded(kind, shape, rng) for kind in ("quantize", "tables")}
        variants.append(Variant(x, shape, layers(shape, seed)))
    wrong = []
    for variant, actual in zip(variants, products(machine, *variants), strict=True):
        for kernel, some in variant.layers.items():
            whole = variant.x[KERNELS[kernel][1]].astype(np.int64) @ some.weights.T
            expected = (whole * some.scale.astype(np.float64)).astype(np.float32)
            if (expected != actual[kernel]).any():
                wrong.append((variant.shape, kernel))
    return wrong


def test_exact_on_integers_at_every_edge(isa):
    groups = itertools.cycle([32, 64, 96, 128])
    sizes = [
        *((e, 9, 33) for e in EDGES),
        *((3, e, 40) for e in EDGES),
        *((2, 33, e) for e in EDGES),
    ]
    assert [] == wrong_on_integers(isa, [Shape(*some, next(groups)) for some in sizes], seed=0)


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_exact_on_integers_that_rounding_leaves_alone(isa, shape, seed):
    assert [] == wrong_on_integers(isa, [shape], seed)


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_the_largest_sums_do_not_overflow(isa, shape, seed):
    x = {kind: np.empty((shape.M, shape.K), np.float32) for kind in ("quantize", "tables")}
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], shape.K)
    x["quantize"][:], x["tables"][:] = 127 * signs, 31 * signs
    for start in range(0, shape.K, shape.group):  # sums of four up to 127
        x["tables"][:, start] = (127 - 31 * min(3, shape.K - start - 1)) * signs[start]
    made = {kernel: extreme(form, shape, signs) for kernel, (form, _) in KERNELS.items()}
    (actual,) = products(isa, Variant(x, shape, made))
    for kernel, some in made.items():
        integers = x[KERNELS[kernel][1]].astype(np.int64)
        error = np.abs(integers) @ np.abs(some.weights).T * (shape.groups + 3) * ULP
        assert (np.abs(integers @ some.weights.T - actual[kernel]) <= error).all(), kernel


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_floats_within_what_rounding_may_do(isa, shape, seed):
    x, made = floats(shape, seed), layers(shape, seed)
    (actual,) = products(isa, Variant(x, shape, made))
    for kernel, some in made.items():
        expected = (x.astype(np.float64) @ some.weights.T) * some.scale
        assert (np.abs(expected - actual[kernel]) <= bound(kernel, x, some, shape)).all(), kernel


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_floats_are_the_sums_of_what_was_rounded(isa, shape, seed):
    """Integers exactly; of float32 one rounding for each operation, fused or not."""
    x, made = floats(shape, seed), layers(shape, seed)
    (actual,) = products(isa, Variant(x, shape, made))
    for kernel, some in made.items():
        seen = shape.in_one_group() if kernel == "int8" else shape
        terms = group_terms(kernel, x, some, seen)
        error = np.abs(terms).sum(0) * some.scale * (seen.groups + 3) * ULP / 2 * 1.001
        assert (np.abs(terms.sum(0) * some.scale - actual[kernel]) <= error).all(), kernel


@FEW
@given(shape=SHAPES, seed=SEEDS, shift=st.sampled_from([1, 4, 20, 63]))
def test_neither_padding_nor_places_nor_pieces_matter(isa, shape, seed, shift):
    x, made = floats(shape, seed), layers(shape, seed)
    pieces = [(t, t + 1) for t in reversed(range(shape.tiles))]
    whole, *others = products(
        isa,
        Variant(x, shape, made),
        Variant(x, shape, layers(shape, seed, padding=1)),
        Variant(x, shape, made, shift=shift),
        Variant(x, shape, made, tiles=pieces),
    )
    assert [[], [], []] == [different(whole, other) for other in others]


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_a_tile_writes_its_own_columns_only(isa, shape, seed):
    last = shape.tiles - 1
    tiles = [(last, last + 1), (0, 0)]
    (made,) = products(isa, Variant(floats(shape, seed), shape, layers(shape, seed), tiles=tiles))
    for kernel, y in made.items():
        assert np.isnan(y[:, : 64 * last]).all(), kernel
        assert not np.isnan(y[:, 64 * last :]).any(), kernel


@FEW
@given(shape=SHAPES, seed=SEEDS, odd=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_what_is_no_number_stays_in_its_token(isa, shape, seed, odd):
    rng, made, x = np.random.default_rng(seed), layers(shape, seed), floats(shape, seed)
    m = rng.integers(shape.M)
    strange = x.copy()
    strange[m, rng.integers(shape.K)] = odd
    before, after = products(isa, Variant(x, shape, made), Variant(strange, shape, made))
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
    (made,) = products(isa, Variant(x, shape, layers(shape, seed)))
    for kernel, y in made.items():
        assert (y[zero] == 0).all(), kernel


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_tokens_do_not_depend_on_their_company(isa, shape, seed):
    x, made = floats(shape, seed), layers(shape, seed)
    m = seed % shape.M
    alone = Variant(x[m : m + 1], Shape(1, shape.N, shape.K, shape.group), made)
    some, every = products(isa, alone, Variant(x, shape, made))
    assert [] == different(some, {kernel: y[m : m + 1] for kernel, y in every.items()})


def test_no_tokens_no_outputs(isa):
    shape = Shape(0, 65, 33, 32)
    (made,) = products(isa, Variant(np.zeros((0, 33), np.float32), shape, layers(shape, 0)))
    assert {(0, 65)} == {y.shape for y in made.values()}


def test_numbers_too_small_for_a_scale_stay_small(isa):
    """1 / s overflows below 3e-39: the result is small and finite, whatever the bytes are."""
    shape = Shape(3, 33, 70, 32)
    x, made = floats(shape, 0), layers(shape, 0)
    sizes = np.array([1e-38, 1e-42, 1e-45], np.float32)
    for small in products(isa, *(Variant(x * size, shape, made) for size in sizes)):
        for kernel, y in small.items():
            assert (np.abs(y) <= 1e-30).all(), kernel
