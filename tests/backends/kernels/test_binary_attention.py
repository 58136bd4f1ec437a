"""Binary linear attention: within the bound of its sums, and heads do not meet."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.kernels import reference
from tests.backends.kernels.layers import EDGES, SEEDS
from tests.backends.kernels.program import Program

FEW = settings(max_examples=8)
ULP = 2.0**-23
VALUE, SUM, EPSILON = 0.5, float(np.float32(1 / np.pi)), float(np.float32(1e-6))


class Form(NamedTuple):
    tokens: int
    heads: int
    bits: int
    width: int
    taps: int


FORMS = st.builds(
    Form,
    st.sampled_from(EDGES),
    st.integers(1, 3),
    st.sampled_from([16, 32, 48]),
    st.sampled_from([16, 32, 64]),
    st.sampled_from([1, 3, 9]),
)


def drawn(form, seed):
    """x[tokens, heads (2 bits + width)] and filters[heads, taps]."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((form.tokens, form.heads * (2 * form.bits + form.width)))
    x[rng.random(x.shape) < 0.1] = 0
    return x.astype(np.float32), rng.standard_normal((form.heads, form.taps)).astype(np.float32)


def attended(machine, arrays, form, shift=0):
    program = Program()
    x, filters = (program.put(array, shift) for array in arrays)
    y = program.room((form.tokens, form.heads * form.width), np.float32, shift)
    size = 5 * form.bits * form.width + form.width + form.bits
    scratch = program.room((size,), np.float32)
    for head in range(form.heads):
        sizes = (form.tokens, form.heads, head, form.bits, form.width, form.taps)
        weights = (VALUE, SUM, EPSILON)
        program.call("binary_linear_attention", x, filters, y, scratch, *sizes, *weights)
    return program.run(machine)[y]


def expected(arrays, form):
    """y in float64, and how far float32 may be from it."""
    x, filters = arrays
    weights = {"value_weight": VALUE, "sum_weight": SUM, "epsilon": EPSILON}
    sizes = {"heads": form.heads, "bits": form.bits}
    y = reference.binary_linear_attention(x[None], filters[:, None, :, None], **sizes, **weights)
    parts = reference.split_heads(x[None], form.heads, form.bits)
    v = parts.values[0].astype(np.float64)
    u = VALUE * v + SUM * reference.binary_sums(parts)[0]
    size = np.maximum(np.linalg.norm(u, axis=-1, keepdims=True), EPSILON)
    terms = (
        VALUE * np.abs(v) + SUM * reference.binary_sums(parts._replace(values=np.abs(v)[None]))[0]
    )
    far = np.linalg.norm(terms, axis=-1, keepdims=True) / size
    taps = np.abs(filters).sum(-1)[:, None, None] * np.abs(v).max(axis=1, keepdims=True)
    each = terms / size + np.abs(u) / size * far + taps
    rough = each * ULP * (form.tokens + form.bits + form.width + form.taps + 8)
    return y[0], np.swapaxes(rough, 0, 1).reshape(y[0].shape)


@FEW
@given(form=FORMS, seed=SEEDS)
def test_within_the_bound_of_its_sums(isa, form, seed):
    arrays = drawn(form, seed)
    y, bound = expected(arrays, form)
    assert (np.abs(y - attended(isa, arrays, form)) <= bound).all()


@FEW
@given(form=FORMS, seed=SEEDS)
def test_tokens_of_zeros_are_zeros(isa, form, seed):
    x, filters = drawn(form, seed)
    assert (attended(isa, (np.zeros_like(x), filters), form) == 0).all()


@FEW
@given(form=FORMS, seed=SEEDS, shift=st.sampled_from([1, 4, 60]))
def test_arrays_may_lie_anywhere(isa, form, seed, shift):
    arrays = drawn(form, seed)
    aligned, shifted = attended(isa, arrays, form), attended(isa, arrays, form, shift)
    assert aligned.tobytes() == shifted.tobytes()


@pytest.mark.parametrize("odd", [np.nan, np.inf])
@FEW
@given(form=FORMS, seed=SEEDS)
def test_what_is_no_number_stays_in_its_head(isa, odd, form, seed):
    x, filters = drawn(form, seed)
    before = attended(isa, (x, filters), form).reshape(form.tokens, form.heads, -1)
    head, token = seed % form.heads, seed % form.tokens
    x[token, 2 * form.heads * form.bits + head * form.width] = odd
    after = attended(isa, (x, filters), form).reshape(form.tokens, form.heads, -1)
    others = np.arange(form.heads) != head
    assert np.isnan(after[token, head] if np.isnan(odd) else after[token, head, 0]).all()
    assert (before[:, others] == after[:, others]).all()
