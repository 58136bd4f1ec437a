"""Questions about values: what counts as a number that exporters round at different places."""

import math

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.ir.query import is_near, known_dtype
from addax.ir.rule import Decline

TYPES = (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)
numbers = st.floats(1e-3, 1e3).map(float) | st.floats(-1e3, -1e-3).map(float)


def constant(array: np.ndarray) -> ir.Value:
    return ir.Value(
        name="c",
        const_value=ir.tensor(array),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        shape=ir.Shape(array.shape),
    )


def beside(rank: int) -> ir.Value:
    return ir.Value(name="x", shape=ir.Shape([2] * rank))


def moved(number: float, dtype: type, steps: int) -> np.ndarray:
    """The number of a type that is some units in the last place away from the nearest one."""
    nearest = np.asarray(number, dtype)
    scale = 2.0 ** math.floor(math.log2(abs(float(nearest))))
    return np.asarray(float(nearest) + steps * scale * float(ml_dtypes.finfo(dtype).eps), dtype)


@pytest.mark.parametrize("dtype", TYPES)
@given(numbers, st.integers(-1, 1))
def test_one_unit_in_the_last_place_is_near(dtype, number, steps):
    assert is_near(constant(moved(number, dtype, steps)), number)


@pytest.mark.parametrize("dtype", TYPES)
@given(numbers, st.sampled_from((-8, 8)))
def test_eight_units_are_not(dtype, number, steps):
    assert not is_near(constant(moved(number, dtype, steps)), number)


def test_nearness_is_relative():
    assert not is_near(constant(np.float32(9e-9).reshape(())), 1e-9)
    assert not is_near(constant(np.float32(1.4142).reshape(())), math.sqrt(2))
    assert is_near(constant(np.float32(1.4142135).reshape(())), math.sqrt(2))


@pytest.mark.parametrize(("size", "rank", "counts"), [(0, 0, True), (1, 0, False), (1, 1, True)])
def test_a_constant_that_may_raise_the_rank_does_not_count(size, rank, counts):
    value = constant(np.full((1,) * size, 0.5, np.float32))
    assert counts == is_near(value, 0.5, beside(rank))


def test_what_is_no_one_floating_constant_is_not_near():
    assert not is_near(None, 0.5)
    assert not is_near(beside(0), 0.5)
    assert not is_near(constant(np.array([0.5, 0.5], np.float32)), 0.5)
    assert not is_near(constant(np.array(2)), 2)


def test_an_element_type_that_is_not_known_declines():
    assert ir.DataType.FLOAT16 == known_dtype(constant(np.zeros(2, np.float16)))
    with pytest.raises(Decline, match="element type unknown"):
        known_dtype(beside(1))
    with pytest.raises(Decline, match="element type unknown"):
        known_dtype(None)
