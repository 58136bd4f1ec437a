"""Binarize, BinMatMul and KernelHash against their equations."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.backends.to_ort import to_ort
from addax.ir.dialect import operators
from addax.ir.evaluate import evaluate
from addax.ir.verify import verify
from tests.ir.dialect.running import linear_bound, model_of, run, session_of

FLOAT, INT8 = ir.DataType.FLOAT, ir.DataType.INT8


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("signed", [0, 1])
def test_binarize_compares(signed, kind):
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, (3, 7)).astype(kind)
    threshold = rng.integers(-1, 2, 7).astype(kind)
    name = {np.float16: ir.DataType.FLOAT16, np.float64: ir.DataType.DOUBLE}.get(kind, FLOAT)
    model = model_of("Binarize", {"x": (name, ["B", 7]), "threshold": threshold}, signed=signed)
    verify(to_ort(model))
    bits = (x > threshold).astype(np.int8)
    assert (run(model, {"x": x})[0] == (2 * bits - 1 if signed else bits)).all()


def test_no_number_is_not_above():
    model = model_of("Binarize", {"x": (FLOAT, ["B"]), "t": np.zeros(1, np.float32)}, signed=0)
    x = np.array([np.nan, np.inf, -np.inf, -0.0], np.float32)
    assert [0, 1, 0, 0] == run(model, {"x": x})[0].tolist()


@given(
    m=st.sampled_from([1, 7, 33]),
    n=st.sampled_from([1, 31, 129]),
    d=st.sampled_from([1, 7, 33]),
    signed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_product_with_bits(m, n, d, signed, seed):
    rng = np.random.default_rng(seed)
    b = rng.integers(0, 2, (2, m, n)).astype(np.int8) * (1 + signed) - signed
    v = rng.standard_normal((2, n, d)).astype(np.float32)
    model = model_of("BinMatMul", {"b": (INT8, ["B", m, n]), "v": (FLOAT, ["B", n, d])})
    verify(to_ort(model))
    (ran,) = run(model, {"b": b, "v": v})
    exact = b @ v.astype(np.float64)
    bound = np.stack([linear_bound(v[i].T, b[i].astype(float), np.float32).T for i in range(2)])
    assert np.all(np.abs(ran - exact) <= bound)


def test_a_product_with_bits_broadcasts_and_then_has_its_type_alone():
    model = model_of("BinMatMul", {"b": (INT8, [3, 2, 4]), "v": (FLOAT, [1, 4, 5])})
    assert (FLOAT, None) == (model.graph.outputs[0].dtype, model.graph.outputs[0].shape)
    feeds = {"b": np.ones((3, 2, 4), np.int8), "v": np.ones((1, 4, 5), np.float32)}
    assert (session_of(model).run(None, feeds)[0] == np.full((3, 2, 5), 4)).all()


def hasher(anchors, mean, a, sigma):
    h, _, d = anchors.shape
    inputs = {
        "x": (FLOAT, ["B", h, "N", d]),
        "anchors": anchors,
        "mean": mean,
        "a": a,
        "sigma": np.asarray(sigma, np.float32),
    }
    return model_of("KernelHash", inputs)


def hashed(x, anchors, mean, a, sigma):
    distance = np.sum((x[..., None, :].astype(np.float64) - anchors[:, None]) ** 2, axis=-1)
    width = sigma or distance.mean((2, 3), keepdims=True)
    return (np.exp(-distance / (2 * width)) - mean) @ np.swapaxes(a, 1, 2).astype(np.float64)


@given(
    tokens=st.sampled_from([1, 7, 33]),
    bits=st.sampled_from([1, 16]),
    sigma=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_bits_of_a_hash(tokens, bits, sigma, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 3, tokens, 8)).astype(np.float32)
    anchors = rng.standard_normal((3, 5, 8)).astype(np.float32)
    mean = rng.uniform(0, 1, (3, 1, 5)).astype(np.float32)
    a = rng.standard_normal((3, bits, 5)).astype(np.float32)
    model = hasher(anchors, mean, a, sigma)
    verify(to_ort(model))
    z = hashed(x, anchors, mean, a, sigma)
    sure = np.abs(z) > 2.0**-14 * np.abs(a).sum(-1).max()
    assert sure.mean() > 0.9
    for made in (run(model, {"x": x})[0], evaluate(to_ort(model), {"x": x})["y"]):
        assert ((made == (z > 0)) | ~sure).all()


def test_a_hash_of_its_own_anchors():
    anchors = np.ones((1, 2, 4), np.float32)
    a = np.array([[[1, 1], [-1, -1]]], np.float32)
    model = hasher(anchors, np.zeros((1, 1, 2), np.float32), a, 0.0)
    assert [[1, 0]] * 3 == run(model, {"x": np.ones((1, 1, 3, 4), np.float32)})[0][0, 0].tolist()


def test_what_they_cost():
    cost = {name: found.cost for name, found in operators().items()}
    node = model_of("Binarize", {"x": (FLOAT, ["B", 7]), "t": np.zeros(1, np.float32)}).graph[0]
    assert cost["Binarize"](node, {"B": 3}).adds == 21
    node = model_of("BinMatMul", {"b": (INT8, ["B", 2, 4]), "v": (FLOAT, ["B", 4, 5])}).graph[0]
    made = cost["BinMatMul"](node, {"B": 3})
    assert (0, 120) == (made.multiplies, made.adds)
    node = hasher(
        np.ones((1, 5, 8), np.float32),
        np.zeros((1, 1, 5), np.float32),
        np.ones((1, 16, 5), np.float32),
        0.0,
    ).graph[0]
    made = cost["KernelHash"](node, {"B": 2, "N": 3})
    assert made.multiplies == 2 * 3 * (8 * 6 + 5 * 9 + 16 * 5)
