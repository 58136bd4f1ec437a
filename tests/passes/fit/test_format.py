"""Formats as text, and their bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.ir.numbers import group_for
from addax.passes.fit import Format, Job, fit
from tests.passes.fit.layers import gauss

KINDS = ["binary1", "binary2", "binary3", "binary4", "fitted2", "fitted4", "powers4", "uniform2"]
SCALES = ["", "{scales=apot2}", "{scales=apot3}", "{scales=powers}", "{scales=real}"]


@given(st.sampled_from(KINDS), st.sampled_from(SCALES))
def test_a_format_is_its_text(kind: str, scales: str) -> None:
    made = Format.parse(kind + scales)
    assert kind + scales == str(made)
    assert made == Format.parse(f"  {kind}{scales.replace('=', ' = ')} ")
    assert made.executable == (scales != "{scales=real}")
    assert int(kind[-1]) == made.bits


def test_text_of_defaults_is_short_and_options_may_stand_together() -> None:
    assert "binary3" == str(Format.parse("binary3{scales=int8}"))
    rival = Format.parse("uniform3{zero=asymmetric,scales=real}")
    assert "uniform3{scales=real,zero=asymmetric}" == str(rival)
    assert not Format.parse("uniform3").executable


@given(st.sampled_from(KINDS), st.integers(1, 150), st.integers(1, 150))
def test_bytes_are_those_of_the_layout(kind: str, rows: int, columns: int) -> None:
    made, group = Format.parse(kind), group_for(columns)
    tiles, groups = -(-rows // 64), -(-columns // group)
    scales = made.bits if made.is_binary else 1
    table = 0 if made.is_binary else 2**made.bits
    expected = tiles * 64 * groups * (group * made.bits // 8 + scales) + 4 * rows + table
    assert expected == made.packed_bytes(rows, columns)


def test_a_big_layer_takes_little_more_than_its_bits() -> None:
    assert Format.parse("fitted4").bits_per_weight(4096, 4096) == pytest.approx(4.07, abs=0.01)
    assert Format.parse("binary3").bits_per_weight(4096, 4096) == pytest.approx(3.2, abs=0.01)
    assert Format.parse("binary3{scales=real}").bits_per_weight(4096, 4096) == 3 * (1 + 16 / 128)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_fitted_has_those_bytes(kind: str) -> None:
    fitted = fit(Job("layer", gauss(0, 70, 160), None, Format.parse(kind)))
    assert fitted.bytes == fitted.packed().nbytes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("binary5", "one of binary1, binary2, .*; got binary5"),
        ("powers2", "got powers2"),
        ("fitted3", "got fitted3"),
        ("ternary2", "got ternary2"),
        ("binary", "a format such as fitted4, binary3 or binary2{scales=powers}; got 'binary'"),
        ("binary3{scales=apot4}", "scales of binary3 to be one of .*; got 'apot4'"),
        ("binary3{bits=2}", "options scales=... or zero=... of a format, got 'bits=2'"),
        ("uniform4{zero=asymmetric}", "asymmetric in a uniform format with scales=real"),
        ("uniform4{zero=left,scales=real}", "got zero='left' in uniform4"),
    ],
)
def test_what_is_no_format_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Format.parse(text)
