"""StaticInt8MatMul in the library is its body, to the last bit: even levels, tables, threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.backends.ort import form_of
from addax.backends.to_ort import to_ort
from addax.runtime.session import Session
from tests.backends.ort.libraries import reference_library
from tests.ir.dialect.running import run
from tests.ir.dialect.test_static_int8_matmul import static_layer

SIZES = st.sampled_from([1, 4, 33, 64, 70, 130])


def table_of(kind, rng):
    """Entries of a kind, and a zero point that goes with them."""
    if kind == "even":
        top, zero = int(rng.integers(1, 256)), int(rng.integers(0, 128))
        return (np.minimum(np.arange(256), top) - min(zero, 127) - (top > 127)).clip(
            -128, 127
        ), zero
    if kind == "trap":  # as many changes as levels that even ones would have
        return np.array([0, 5, *[2] * 254]), int(rng.integers(0, 4))
    if kind == "constant":
        return np.full(256, -3), 7
    if kind == "stairs":
        return np.sort(rng.integers(-128, 128, 16))[np.sort(rng.integers(0, 16, 256))], 128
    return rng.integers(-128, 128, 256), int(rng.integers(0, 256))


@settings(max_examples=25)
@given(
    SIZES,
    SIZES,
    st.sampled_from([1, 7, 40]),
    st.sampled_from(["even", "constant", "stairs", "trap", "any"]),
    st.integers(0, 9999),
)
def test_the_kernel_is_the_body(n, k, rows, kind, seed):
    rng = np.random.default_rng(seed)
    table, zero = table_of(kind, rng)
    model, *_ = static_layer(n, k, rng, step=0.25, zero=zero, table=table.astype(np.int8))
    assert "static" == form_of(next(iter(model.graph)))
    x = (rng.standard_t(2, (rows, k)) * 10).astype(np.float32)
    made = Session(to_ort(model), threads=2, library=reference_library()).run({"x": x})["y"]
    assert np.array_equal(run(model, {"x": x})[0], made)


@pytest.mark.parametrize(
    "changes", [{"zero": 300}, {"step": 0.0}, {"table": np.zeros(16, np.int8)}]
)
def test_nodes_that_the_library_would_refuse_have_no_form(changes):
    rng = np.random.default_rng(0)
    table = changes.pop("table", None)
    model, *_ = static_layer(5, 8, rng, table=table, **changes)
    assert form_of(next(iter(model.graph))) is None
