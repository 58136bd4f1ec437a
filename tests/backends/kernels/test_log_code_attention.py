"""Attention by codes of the logarithm: NumPy's codes and sums, on every instruction set."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.kernels import reference
from tests.backends.kernels.layers import EDGES, SEEDS, SIZES
from tests.backends.kernels.program import Program

FEW = settings(max_examples=8)
ULP = 2.0**-23
MASKS = ("none", "columns", "rows", "all")


class Form(NamedTuple):
    """scores[rows, length], v[length, width]; codes of `bits` bits, `steps` an octave."""

    rows: int
    length: int
    width: int
    steps: int
    bits: int
    scale: float
    mask: str


FORMS = st.builds(
    Form,
    SIZES,
    SIZES,
    SIZES,
    st.sampled_from([1, 2, 7]),
    st.integers(3, 6),
    st.sampled_from([0.125, 1.0, 2.0]),
    st.sampled_from(MASKS),
)
FORMS = FORMS.filter(lambda form: form.rows * form.length * form.width <= 600_000)


def drawn(form, seed):
    """Scores, mask (of the form's shape) and values."""
    rng = np.random.default_rng(seed)
    scores = (rng.standard_normal((form.rows, form.length)) * 3 / form.scale).astype(np.float32)
    shape = {"none": (1, 1), "columns": (1, form.length), "rows": (form.rows, 1)}
    shape = shape.get(form.mask, (form.rows, form.length))
    mask = np.zeros(shape, np.float32)
    if form.mask != "none":
        mask[rng.random(shape) < 0.3] = -np.inf
        mask[rng.random(shape) < 0.2] = -1.5
    values = rng.standard_normal((form.length, form.width)).astype(np.float32)
    return scores, mask, values


def rounded_values(program, v, shift=0):
    """The places of q, s and sum of `values`."""
    length, width = v.shape
    columns = -(-width // 16) * 16
    q = program.room((-(-length // 4), columns, 4), np.int8)
    s, sums = program.room((1,), np.float32), program.room((columns,), np.int32)
    program.call("values", program.put(v, shift), q, s, sums, length, width)
    return q, s, sums


def attend(program, arrays, form, shift=0, pieces=None):
    """The places of y, one for each piece of the rows."""
    scores, mask, v = arrays
    rounded = rounded_values(program, v, shift)
    levels = reference.log_code_table(form.steps, form.bits)
    table = program.put(np.concatenate([levels, np.zeros(64 - len(levels), np.uint8)]))
    strides = (mask.shape[1] * (len(mask) > 1), int(mask.shape[1] > 1))
    padded = -(-form.length // 64) * 64
    codes = program.room((4 * padded,), np.uint8)
    made = []
    for first, last in pieces or [(0, form.rows)]:
        some = program.put(scores[first:last], shift)
        masked = program.put(mask[first:last] if len(mask) > 1 else mask, shift)
        made.append(program.room((last - first, form.width), np.float32, shift))
        sizes = (last - first, form.length, form.width, *strides, (1 << form.bits) - 1)
        read = (some, masked, *rounded, table, made[-1], codes)
        program.call("log_code_attention", *read, *sizes, form.scale, float(form.steps))
    return made


def attended(machine, arrays, form, *, shift=0, pieces=None):
    program = Program()
    places = attend(program, arrays, form, shift, pieces)
    outcome = program.run(machine)
    return np.concatenate([outcome[y] for y in places])


def expected(arrays, form):
    scores, mask, v = arrays
    return reference.log_code_attention(
        scores, mask, v, codes_per_octave=form.steps, bits=form.bits, scale=form.scale
    )


@FEW
@given(length=SIZES, width=SIZES, seed=SEEDS, shift=st.sampled_from([0, 4, 1]))
def test_values_are_rounded_as_by_numpy(isa, length, width, seed, shift):
    v = np.random.default_rng(seed).standard_normal((length, width)).astype(np.float32)
    program = Program()
    places = rounded_values(program, v, shift)
    q, s, sums = (program.run(isa)[place] for place in places)
    rounded = reference.round_to_int8(v, axis=(0, 1))
    whole = np.zeros((len(q) * 4, q.shape[1]), np.int8)
    whole[:length, :width] = rounded.q
    assert rounded.scale[0, 0] == s[0]
    assert (whole.reshape(-1, 4, q.shape[1]).swapaxes(1, 2) == q).all()
    assert (whole.sum(0, dtype=int) == sums).all()


def test_codes_and_sums_at_every_edge(isa):
    masks = itertools.cycle(MASKS)
    sizes = [
        *((e, 9, 33) for e in EDGES),
        *((3, e, 40) for e in EDGES),
        *((2, 33, e) for e in EDGES),
    ]
    forms = [Form(*some, 2, 5, 0.125, next(masks)) for some in sizes]
    program = Program()
    places = [attend(program, drawn(form, 0), form)[0] for form in forms]
    outcome = program.run(isa)
    for form, place in zip(forms, places, strict=True):
        assert (expected(drawn(form, 0), form) == outcome[place]).all(), form


@FEW
@given(form=FORMS, seed=SEEDS)
def test_codes_and_sums_are_those_of_numpy(isa, form, seed):
    arrays = drawn(form, seed)
    assert (expected(arrays, form) == attended(isa, arrays, form)).all()


@FEW
@given(form=FORMS, seed=SEEDS, scale=st.sampled_from([0.3, 0.17677669]))
def test_scales_that_round(isa, form, seed, scale):
    """Where the score's product is fused with the mask, a code at a tie may go the other way."""
    form = form._replace(scale=float(np.float32(scale)))
    scores, mask, v = arrays = drawn(form, seed)
    fused = scores.astype(np.float64) * form.scale + mask  # exact, then rounded once
    one = fused.astype(np.float32)
    other = expected((one, np.zeros((1, 1), np.float32), v), form._replace(scale=1.0))
    actual = attended(isa, arrays, form)
    apart, fused_apart = (actual != y for y in (expected(arrays, form), other))
    assert not (apart.all(-1) & fused_apart.all(-1)).any()
    assert not (apart & fused_apart).any()


@FEW
@given(form=FORMS, seed=SEEDS, shift=st.sampled_from([1, 4, 60]))
def test_rows_and_places_do_not_matter(isa, form, seed, shift):
    arrays = drawn(form, seed)
    whole = attended(isa, arrays, form).tobytes()
    assert whole == attended(isa, arrays, form, shift=shift).tobytes()
    pieces = [(0, form.rows // 3), (form.rows // 3, form.rows)]
    assert whole == attended(isa, arrays, form, pieces=pieces).tobytes()


@FEW
@given(form=FORMS, seed=SEEDS)
def test_a_row_without_columns_is_zeros(isa, form, seed):
    form = form._replace(mask="rows")
    scores, mask, v = drawn(form, seed)
    masked = np.isinf(mask[:, 0])
    y = attended(isa, (scores, mask, v), form)
    assert (y[masked] == 0).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@FEW
@given(form=FORMS, seed=SEEDS)
def test_what_is_no_number_in_the_scores_stays_in_its_row(isa, odd, form, seed):
    scores, mask, v = drawn(form, seed)
    before = attended(isa, (scores, mask, v), form)
    m = seed % form.rows
    scores[m, seed % form.length] = odd
    after = attended(isa, (scores, mask, v), form)
    others = np.arange(form.rows) != m
    assert (before[others] == after[others]).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_in_the_values_is_in_every_output(isa, odd):
    form = Form(5, 33, 17, 1, 4, 1.0, "none")
    scores, mask, v = drawn(form, 0)
    v[7, 3] = odd
    assert np.isnan(attended(isa, (scores, mask, v), form)).all()
