"""StaticInt8MatMul against its equation, to the last bit: ranges, tables, types, what is padded."""

import numpy as np
import onnx_ir as ir
from hypothesis import given
from hypothesis import strategies as st

from addax.ir.cost import total_cost
from addax.ir.dialect import install, operators
from addax.ir.evaluate import evaluate
from tests.ir.dialect.packing import pack_int8
from tests.ir.dialect.running import model_of, run

TYPES = {np.float32: ir.DataType.FLOAT, np.float16: ir.DataType.FLOAT16}
SIZES = st.sampled_from([1, 3, 4, 31, 64, 65, 100])


def static_layer(n, k, rng, kind=np.float32, step=0.1, zero=100, table=None):
    """A model of one layer, its weights int8[N, K], table and scale."""
    integers = rng.integers(-128, 128, (n, k)).astype(np.int8)
    table = rng.integers(-128, 128, 256).astype(np.int8) if table is None else table
    scale = (rng.choice([-1, 1], n) * rng.uniform(0.5, 2, n)).astype(kind)
    inputs = {
        "x": (TYPES[kind], ["B", k]),
        "weights": pack_int8(integers, rng),
        "table": table,
        "scale": scale,
    }
    return model_of("StaticInt8MatMul", inputs, step=step, zero=zero), integers, table, scale


def equation(x, integers, table, scale, step, zero):
    """The docstring's, sums in int64."""
    level = np.rint(x.astype(np.float32) / np.float32(step)) + zero
    codes = table[np.clip(level, 0, 255).astype(np.uint8)].astype(np.int64)
    sums = (codes @ integers.T.astype(np.int64)).astype(np.float32)
    return (sums * scale.astype(np.float32)).astype(x.dtype)


@given(SIZES, SIZES, st.integers(0, 255), st.sampled_from([1e-3, 0.1, 0.25, 7.0]), st.integers(0))
def test_it_is_its_equation(n, k, zero, step, seed):
    rng = np.random.default_rng(seed)
    model, *parts = static_layer(n, k, rng, step=step, zero=zero)
    x = (rng.standard_t(2, (5, k)) * step * 40).astype(np.float32)
    x[0] = step * (rng.integers(-300, 300, k) + 0.5)  # ties
    expected = equation(x, *parts, step, zero)
    assert np.array_equal(expected, run(model, {"x": x})[0])
    install(model, operators()["StaticInt8MatMul"])
    assert np.array_equal(expected, evaluate(model, {"x": x})["y"])


def test_infinities_are_the_ends_of_the_range():
    rng = np.random.default_rng(0)
    model, integers, table, scale = static_layer(3, 2, rng)
    x = np.array([[np.inf, -np.inf]], np.float32)
    far = np.array([[1e6, -1e6]], np.float32)
    assert np.array_equal(run(model, {"x": far})[0], run(model, {"x": x})[0])
    assert np.array_equal(equation(far, integers, table, scale, 0.1, 100), run(model, {"x": x})[0])


def test_halves_are_rounded_at_the_end():
    rng = np.random.default_rng(1)
    table = (np.arange(256).clip(0, 15) - 8).astype(np.int8)
    model, *parts = static_layer(33, 40, rng, np.float16, 0.01, 8, table)
    x = rng.normal(size=(4, 40)).astype(np.float16) / 10
    with np.errstate(over="ignore"):
        expected = equation(x, *parts, 0.01, 8)
    assert np.array_equal(expected, run(model, {"x": x})[0])


def test_its_cost_is_that_of_bytes_and_a_table_read_for_each_activation():
    model, *_ = static_layer(7, 10, np.random.default_rng(0))
    cost = total_cost(model, {"B": 3})
    assert (21, 210, 210, 30) == (
        cost.multiplies,
        cost.byte_multiplies,
        cost.integer_adds,
        cost.table_reads,
    )
