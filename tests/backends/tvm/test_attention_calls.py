"""Attention in TVM calls kernels that equal the bodies; sizes that do not fit are refused."""

import numpy as np
import onnx_ir as ir
import pytest

from addax.backends.to_ort import to_ort
from addax.backends.to_tvm import to_tvm
from addax.errors import InputError
from addax.runtime.session import Session
from addax.runtime.tvm_session import TvmSession
from tests.backends.tvm.linked import plain_code
from tests.ir.dialect.running import model_of

pytest.importorskip("tvm")

FLOAT = ir.DataType.FLOAT
EPSILON = float(np.finfo(np.float32).eps)
CODES = {"codes_per_octave": 4, "bits": 6, "scale": 0.125, "delta": 0.0}


def linked(model: ir.Model) -> TvmSession:
    assert plain_code().has(model.graph.node(0))
    return TvmSession(to_tvm(model, kernels=plain_code()))


@pytest.mark.parametrize("mask", [[1], [65], [3, 1, 1], [2, 3, 33, 65]])
@pytest.mark.parametrize("is_open", [True, False])
def test_log_code_attention(mask, is_open):
    rng = np.random.default_rng(0)
    values = rng.integers(-20, 21, (2, 3, 65, 17)).astype(np.float32)
    values[..., 0, 0] = 127  # a scale of 1: rounding leaves V alone
    feeds = {
        "s": rng.standard_normal((2, 3, 33, 65)).astype(np.float32) * 8,
        "mask": np.where(rng.random(mask) < 0.3 * (mask != [1]), -np.inf, 0).astype(np.float32),
        "v": values,
    }
    dims = {"s": ["B", 3, "Q", "L"], "mask": mask, "v": ["B", 3, "L", 17]}
    if not is_open:
        dims = {name: list(array.shape) for name, array in feeds.items()}
    model = model_of("LogCodeAttention", {n: (FLOAT, d) for n, d in dims.items()}, **CODES)
    body, made = (session.run(feeds)["y"] for session in (Session(to_ort(model)), linked(model)))
    np.testing.assert_allclose(made, body, rtol=3 * EPSILON, atol=0)  # the same integers


def test_scores_of_nothing():
    dims = {"s": ["B", 2, "L"], "v": ["B", "L", 5]}
    inputs = {
        "s": (FLOAT, dims["s"]),
        "mask": np.zeros(1, np.float32),
        "v": (FLOAT, dims["v"]),
    }
    session = linked(model_of("LogCodeAttention", inputs, **CODES))
    for batch, length in ((0, 3), (2, 0)):
        feeds = {"s": (batch, 2, length), "v": (batch, length, 5)}
        made = session.run({name: np.ones(d, np.float32) for name, d in feeds.items()})["y"]
        np.testing.assert_array_equal(np.zeros((batch, 2, 5), np.float32), made)


@pytest.mark.parametrize(("mask", "values"), [((3, 1), (4, 4)), ((1, 1), (5, 4))])
def test_sizes_that_do_not_fit(mask, values):
    dims = {"s": ["a", "b"], "mask": ["c", "d"], "v": ["e", "f"]}
    session = linked(
        model_of("LogCodeAttention", {n: (FLOAT, d) for n, d in dims.items()}, **CODES)
    )
    sizes = {"s": (2, 4), "mask": mask, "v": values}
    with pytest.raises(InputError, match=r"the mask does not fit|of scores and values differ"):
        session.run({name: np.ones(d, np.float32) for name, d in sizes.items()})


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("tokens", [7, 33])
def test_binary_linear_attention(batch, tokens):
    heads, bits, width, taps = 2, 32, 16, 3
    rng = np.random.default_rng(0)
    columns = heads * (2 * bits + width)
    x = rng.integers(-9, 10, (batch, tokens, columns)).astype(np.float32)
    filters = rng.integers(-2, 3, (heads, 1, taps, 1)).astype(np.float32)
    inputs = {"x": (FLOAT, ["B", "N", columns]), "filters": filters}
    attributes = {"heads": heads, "bits": bits, "width": width}
    weights = {"value_weight": 0.5, "sum_weight": 0.25, "epsilon": 2.0**-20}
    model = model_of("BinaryLinearAttention", inputs, **attributes, **weights)
    body, made = (session.run({"x": x})["y"] for session in (Session(to_ort(model)), linked(model)))
    bound = EPSILON * (width + taps + 4) * (1 + 18 * taps)
    np.testing.assert_allclose(made, body, rtol=0, atol=bound)
