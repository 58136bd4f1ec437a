"""Routed mixtures in TVM call kernels that equal the bodies."""

import numpy as np
import onnx_ir as ir
import pytest

from addax.backends.to_ort import to_ort
from addax.backends.to_tvm import to_tvm
from addax.errors import InputError
from addax.runtime.session import Session
from addax.runtime.tvm_session import TvmSession
from tests.backends.tvm.linked import plain_code
from tests.ir.dialect.packing import pack_int8
from tests.ir.dialect.running import model_of

pytest.importorskip("tvm")


def mixture(lead, experts, inner: int, outer: int) -> ir.Model:
    rng = np.random.default_rng(0)
    integers = 2 ** rng.integers(0, 4, (outer, inner)) * rng.choice([-1, 0, 1], (outer, inner))
    w, b, c = (
        rng.integers(-9, 10, size).astype(np.float32) for size in ((inner, outer), outer, outer)
    )
    inputs = {
        "x": (ir.DataType.FLOAT, [*lead, inner]),
        "expert": (ir.DataType.INT32, experts),
        "w": w,
        "b": b,
        "weights": pack_int8(integers.astype(np.int8), rng),
        "scale": rng.choice([0.5, 1, 2], outer).astype(np.float32),
        "c": c,
    }
    return model_of("RoutedMoE", inputs)


def feeds_of(lead, inner: int, share: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.integers(-20, 21, (*lead, inner)).astype(np.float32)
    x[..., 0] = 127  # a scale of 1: rounding leaves x alone
    return {"x": x, "expert": (rng.random(lead) >= share).astype(np.int32)}


def linked(model: ir.Model) -> TvmSession:
    assert plain_code().has(model.graph.node(0))
    return TvmSession(to_tvm(model, kernels=plain_code()))


@pytest.mark.parametrize(("inner", "outer"), [(1, 7), (33, 130), (64, 64)])
@pytest.mark.parametrize("is_open", [True, False])
def test_routed_mixture(inner, outer, is_open):
    sizes = ["A", "B"] if is_open else [3, 50]
    model = mixture(sizes, sizes, inner, outer)
    body, session = Session(to_ort(model)), linked(model)
    for lead in ((3, 50), (1, 1), (0, 2)) if is_open else ((3, 50),):
        for share in (0.0, 0.4, 1.0):
            feeds = feeds_of(lead, inner, share)
            np.testing.assert_array_equal(body.run(feeds)["y"], session.run(feeds)["y"])


def test_tokens_without_an_expert():
    session = linked(mixture(["A"], ["B"], 8, 8))
    feeds = {"x": np.ones((5, 8), np.float32), "expert": np.zeros(4, np.int32)}
    with pytest.raises(InputError, match="there is not an expert for each row of X"):
        session.run(feeds)
