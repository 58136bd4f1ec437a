"""Bits of weights and activations: the text, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.errors import OptionError
from addax.passes._int8_bits import FEWEST, MOST, Widths

BITS = st.integers(FEWEST, MOST)


@given(BITS, BITS)
def test_the_text_is_read_as_it_is_written(weights, activations):
    widths = Widths(weights, activations)
    assert widths == Widths.parse(str(widths))
    assert widths.levels == 2**activations - 1
    assert widths.is_narrow == (activations < 8)


def test_bytes_are_the_default():
    assert "w8a8" == str(Widths())


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        ("w9a8", "'w9a8' asks for weights of 9 bits, which no container holds"),
        ("w4a16", "asks for activations of 16 bits, which no container holds: .* have 2 to 8"),
        ("w1a4", "asks for weights of 1 bits, which no container holds"),
        ("4", "some: bits must be a text such as 'w8a8' or 'w4a4'.* got '4'"),
        (4, "bits must be a text such as 'w8a8' or 'w4a4'.* got 4"),
        ("w4a4b", "bits must be a text .* got 'w4a4b'"),
    ],
)
def test_other_bits_are_refused(bits, said):
    with pytest.raises(OptionError, match=said):
        Widths.parse(bits, "some")
