"""The field map: a homomorphism from the numbers of floating formats, and its oracles."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.errors import UnsupportedOpError
from addax.ir._field.constants import CUBIC, ROOT_OF_2_OVER_PI, ROOT_OF_HALF, lifted, symbol
from addax.ir._field.element import Oracle, element
from addax.ir._field.ops.linear import _summed
from addax.ir._field.residues import PRIME, bilinear, inverse, power, residues

FINITE = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(2**26), 2**26)
EXPONENT = st.integers(-40, 40)
ELEMENT = st.integers(0, PRIME - 1)


def exact(x: float) -> int:
    ratio = Fraction(x)
    return ratio.numerator * pow(ratio.denominator, -1, PRIME) % PRIME


@given(FINITE)
def test_a_float_is_mapped_to_the_fraction_that_it_is(x: float) -> None:
    assert int(residues(x)) == exact(x)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_every_format_is_mapped_exactly(dtype: type) -> None:
    values = np.array([0.1, -3.75, 1000.5, 2**-14, 0.0], dtype=dtype).astype(np.float64)
    assert residues(values).tolist() == [exact(x) for x in values.tolist()]


def test_long_arrays_are_mapped_block_by_block() -> None:
    values = np.arange(40_000).reshape(200, 200) / 8
    assert np.array_equal(residues(values) * 8 % PRIME, np.arange(40_000).reshape(200, 200))


@given(WHOLE, WHOLE, EXPONENT)
def test_sums_that_floats_hold_are_sums_of_residues(a: int, b: int, e: int) -> None:
    x, y = a * 2.0**e, b * 2.0**e
    assert int(residues(x + y)) == int((residues(x) + residues(y)) % PRIME)


@given(WHOLE, WHOLE, EXPONENT, EXPONENT)
def test_products_that_floats_hold_are_products_of_residues(a: int, b: int, e: int, f: int) -> None:
    x, y = a * 2.0**e, b * 2.0**f
    assert int(residues(x * y)) == int(residues(x) * residues(y) % PRIME)


@given(ELEMENT.filter(bool), st.integers(0, 70))
def test_inverses_and_powers(a: int, k: int) -> None:
    assert int(inverse(np.array(a))) * a % PRIME == 1
    assert int(power(np.array(a), k)) == pow(a, k, PRIME)


def test_a_quotient_by_zero_is_neither_zero_nor_the_dividend() -> None:
    assert int(inverse(np.array(0))) not in {0, 1}


@given(
    st.integers(0, 2**32 - 1),
    st.one_of(st.integers(1, 40), st.sampled_from([2047, 2048, 2049, 9000])),
    st.integers(1, 3),
    st.booleans(),
)
def test_products_of_matrices_are_exact(seed: int, depth: int, rows: int, largest: bool) -> None:
    rng = np.random.default_rng(seed)
    low = PRIME - 2 if largest else 0
    a, b = rng.integers(low, PRIME, (rows, depth)), rng.integers(low, PRIME, (depth, 2))
    expected = (a.astype(object) @ b.astype(object)) % PRIME
    assert bilinear(np.matmul, a, b, depth).tolist() == expected.tolist()


def test_sums_that_float64_cannot_hold_are_refused() -> None:
    with pytest.raises(UnsupportedOpError, match="sums of 600000 products are too long"):
        bilinear(np.matmul, np.ones((1, 1)), np.ones((1, 1)), 600_000)


@pytest.mark.parametrize(
    ("equation", "shapes", "terms"),
    [
        ("ij,jk->ik", ((2, 3), (3, 4)), 3),
        ("ij,jk", ((2, 3), (3, 4)), 3),
        ("...ij,...jk->...ik", ((5, 2, 3), (3, 4)), 3),
        ("bij,bjk->ik", ((5, 2, 3), (5, 3, 4)), 15),
        ("ij,kl->", ((2, 3), (4, 5)), 120),
        ("i...,i...->...", ((7, 2), (7, 2)), 7),
    ],
)
def test_the_terms_of_an_einsum_are_counted(equation: str, shapes: tuple, terms: int) -> None:
    assert terms == _summed(equation, *(np.zeros(shape) for shape in shapes))


def test_rounded_irrationals_have_their_own_algebra() -> None:
    assert ROOT_OF_HALF * ROOT_OF_HALF * 2 % PRIME == 1
    assert symbol(float(np.float32(0.5**0.5))) == ROOT_OF_HALF
    assert symbol(-float(np.float32(2**0.5))) == PRIME - 2 * ROOT_OF_HALF % PRIME
    assert symbol(float(np.float16((2 / np.pi) ** 0.5))) == ROOT_OF_2_OVER_PI
    assert symbol(float(np.float32(0.044715))) == CUBIC
    assert symbol(1 / 6) == pow(6, -1, PRIME)
    assert symbol(0.7071) is None
    assert symbol(0.5) is None


def test_weights_are_what_they_say() -> None:
    values = np.array([0.5**0.5, 1.0])
    assert int(lifted(values)[0]) == exact(0.5**0.5)


def test_infinities_and_nan_are_themselves() -> None:
    low, high, nan, one = lifted(np.array([-np.inf, np.inf, np.nan, 1.0])).tolist()
    assert (low + high) % PRIME == 0
    assert len({low, high, nan, one, 0}) == 5


@given(ELEMENT)
def test_the_laws_of_the_oracles(x: int) -> None:
    oracle, a, b = Oracle(1), np.array(x), np.array(-x % PRIME)
    assert int(oracle.odd("Erf", a) + oracle.odd("Erf", b)) % PRIME == 0
    assert int(oracle.even("Cos", a)) == int(oracle.even("Cos", b))
    assert int(oracle.relu(a) - oracle.relu(b)) % PRIME == x


def test_oracles_differ_by_name_seed_and_argument() -> None:
    x = np.arange(1000)
    answers = {(s, n): Oracle(s)(n, x).tolist() for s in (1, 2) for n in ("Exp", "Log")}
    assert len({v for answer in answers.values() for v in answer}) > 3990


def test_oracles_do_not_depend_on_the_process() -> None:
    code = "import numpy; from addax.ir._field.element import Oracle; print(Oracle(3)('Exp', 5))"
    root = Path(__file__).resolve().parents[2]
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "77")
    }
    assert answers == {f"{Oracle(3)('Exp', 5)}\n"}


def test_an_element_is_no_count() -> None:
    with pytest.raises(UnsupportedOpError, match="depends on a computed floating value"):
        element(np.array(3)).item()
    with pytest.raises(UnsupportedOpError, match="depends on a computed floating value"):
        element(np.array([3])).tolist()
