"""Numbers of constants: the same for equal type, shape and bytes, and for nothing else."""

import numpy as np
import onnx_ir as ir
from hypothesis import given
from hypothesis import strategies as st

from addax.passes._equal_tensors import EqualTensors

DTYPES = (np.float32, np.float64, np.int64, np.int8, np.bool_)


def tensors() -> st.SearchStrategy[ir.Tensor]:
    """Tensors that often agree in part: few values, sizes around the size of a sample."""
    return st.builds(
        lambda dtype, size, spot, shape: _tensor(dtype, size, spot, shape),
        st.sampled_from(DTYPES),
        st.sampled_from([0, 1, 4, 300, 1000]),
        st.sampled_from([None, 0, 150, -1]),
        st.booleans(),
    )


def _tensor(dtype: type, size: int, spot: int | None, row: bool) -> ir.Tensor:
    array = np.zeros(size, dtype)
    if spot is not None and size > abs(spot):
        array[spot] = 1
    return ir.Tensor(array.reshape(1, size) if row else array)


@given(st.lists(tensors(), max_size=12))
def test_equal_numbers_mean_equal_tensors(drawn: list[ir.Tensor]) -> None:
    equal = EqualTensors()
    numbers = [equal.number(tensor) for tensor in drawn]
    keys = [(t.dtype, tuple(t.shape), t.tobytes()) for t in drawn]
    for i, key in enumerate(keys):
        assert [n == numbers[i] for n in numbers] == [other == key for other in keys]


def test_signs_of_zero_and_strings() -> None:
    equal = EqualTensors()
    assert equal.number(ir.tensor([0.0])) != equal.number(ir.tensor([-0.0]))
    nan = np.array([np.nan], np.float32)
    assert equal.number(ir.Tensor(nan)) == equal.number(ir.Tensor(nan.copy()))
    words = [ir.tensor(["a", "bc"]), ir.tensor(["a", "bc"]), ir.tensor(["ab", "c"])]
    numbers = [equal.number(tensor) for tensor in words]
    assert numbers[0] == numbers[1] != numbers[2]


def test_formats_of_fewer_than_eight_bits() -> None:
    import ml_dtypes

    equal = EqualTensors()
    one, two = (ir.Tensor(np.array(v).astype(ml_dtypes.int4)) for v in ([1, 2], [1, 3]))
    same = ir.Tensor(np.array([1, 2]).astype(ml_dtypes.int4))
    assert equal.number(one) == equal.number(same) != equal.number(two)
