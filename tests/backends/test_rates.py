"""Predicted latency: what holds of any table of rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.backends.ort import FORMS
from addax.backends.rates import DYNAMIC, FLOAT, RATES, predict
from addax.backends.targets import AVX512, TARGETS

LINEAR = [form for form in FORMS if form.startswith(("binary", "codebook", "int8"))]
SIZES = st.integers(1, 10**9)


def test_every_linear_form_has_a_rate_and_every_table_an_instruction_set():
    sets = {isa.name for target in TARGETS.values() for isa in target.sets}
    assert RATES.keys() <= sets
    for rates in RATES.values():
        assert {DYNAMIC, FLOAT, *LINEAR} == rates.forms.keys()


@given(st.sampled_from(sorted(RATES)), st.sampled_from([FLOAT, *LINEAR]), SIZES, SIZES, SIZES)
def test_more_weights_or_bytes_never_take_less(isa, form, rows, weights, stored):
    taken = predict(isa, form, rows, weights, stored)
    assert taken >= 1e6 * (RATES[isa].call + stored / RATES[isa].stream)
    assert taken <= predict(isa, form, rows, weights, 2 * stored)
    assert taken <= predict(isa, form, rows, 2 * weights, stored)


@given(
    st.sampled_from([FLOAT, *(form for form in LINEAR if form != "binary1")]),
    st.integers(max(AVX512.few.get(form, 4) for form in LINEAR if form != "binary1") + 1, 10**5),
    SIZES,
)
def test_so_many_rows_take_time_in_proportion(form, rows, weights):
    """One plane is read from tables for any number of rows."""
    rates = RATES["avx512"]
    many = predict("avx512", form, rows, weights, 0)
    decoded = weights / rates.forms[form].weights
    expected = max(decoded, rows * weights / rates.forms[form].many) + rates.call
    assert expected * 1e6 == pytest.approx(many)


def test_codes_of_fewer_bits_are_faster_where_memory_is_what_takes_time():
    large = 4096 * 4096
    floats = predict("avx512", FLOAT, 1, large, 4 * large)
    codes = predict("avx512", "codebook4", 1, large, large // 2)
    planes = predict("avx512", "binary2", 1, large, large // 4)
    assert floats > codes > planes


def test_what_is_not_known_is_not_predicted():
    assert predict("quantum", FLOAT, 1, 1, 1) is None
    assert predict("avx512", "log_code", 1, 1, 1) is None
