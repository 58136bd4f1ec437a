"""Every body of the dialect in every opset that addax writes, and in torch."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

from addax.backends.to_ort import to_ort
from addax.backends.to_torch import to_torch
from addax.ir.dialect import operators
from addax.ir.shapes import infer_shapes
from tests.ir.dialect.running import model_of, run, session_of
from tests.ir.dialect.test_linear import layer
from tests.ir.dialect.test_mixture import mixture
from tests.ir.dialect.test_static_int8_matmul import static_layer

FLOAT, INT8, INT32 = ir.DataType.FLOAT, ir.DataType.INT8, ir.DataType.INT32


def whole(rng, *shape):
    """Small whole numbers: sums of them do not depend on their order."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def examples(rng):
    """A model of each operator and what to feed it."""
    x = {"x": whole(rng, 3, 40)}
    yield layer("codebook4", 33, 40, rng)[0], x
    yield layer("binary3", 33, 40, rng)[0], x
    yield layer("int8", 33, 40, rng)[0], x
    yield static_layer(33, 40, rng)[0], x
    expert = np.array([0, 1, 0], np.int32)
    yield mixture(40, 5, rng)[0], x | {"expert": expert}
    select = {"expert": (INT32, ["B"]), "a": (FLOAT, ["B", 2]), "b": (FLOAT, ["B", 2])}
    yield (
        model_of("MoeSelect", select),
        {"expert": expert, "a": whole(rng, 3, 2), "b": whole(rng, 3, 2)},
    )
    route = {"x": (FLOAT, ["B", 40]), "w": whole(rng, 40, 2), "b": whole(rng, 2)}
    yield model_of("Route", route, outputs=2), x
    yield model_of("Binarize", {"x": (FLOAT, ["B", 40]), "t": whole(rng, 40)}, signed=1), x
    product = {"b": (INT8, ["B", 2, 40]), "v": (FLOAT, ["B", 40, 3])}
    yield (
        model_of("BinMatMul", product),
        {"b": rng.integers(-1, 2, (2, 2, 40)).astype(np.int8), "v": whole(rng, 2, 40, 3)},
    )
    hashing = {
        "x": (FLOAT, ["B", 2, "N", 4]),
        "anchors": whole(rng, 2, 5, 4),
        "mean": np.full((2, 1, 5), 0.3, np.float32),
        "a": rng.standard_normal((2, 16, 5)).astype(np.float32),
        "sigma": np.zeros((), np.float32),
    }
    yield model_of("KernelHash", hashing), {"x": whole(rng, 3, 2, 7, 4)}
    for delta in (0.0, 0.5):
        attention = {
            "s": (FLOAT, ["B", "Q", "L"]),
            "mask": (FLOAT, ["Q", "L"]),
            "v": (FLOAT, ["B", "L", 3]),
        }
        model = model_of(
            "LogCodeAttention", attention, codes_per_octave=2, bits=4, scale=0.5, delta=delta
        )
        yield (
            model,
            {"s": whole(rng, 2, 5, 7), "mask": whole(rng, 5, 7), "v": whole(rng, 2, 7, 3)},
        )
    linear = {"x": (FLOAT, ["B", "N", 2 * 24]), "filters": whole(rng, 2, 1, 3, 1)}
    model = model_of(
        "BinaryLinearAttention",
        linear,
        heads=2,
        bits=8,
        width=8,
        value_weight=0.5,
        sum_weight=0.25,
        epsilon=1e-6,
    )
    yield model, {"x": whole(rng, 3, 7, 48)}


def named(index):
    model, feeds = list(examples(np.random.default_rng(0)))[index]
    return model, feeds


COUNT = len(list(examples(np.random.default_rng(0))))


def test_the_examples_are_all_operators():
    made = {model.graph[0].op_type for model, _ in examples(np.random.default_rng(0))}
    assert set(operators()) == made


@pytest.mark.parametrize("index", range(COUNT))
@pytest.mark.parametrize("opset", [18, 21, 23])
def test_opsets_do_not_matter(index, opset):
    model, feeds = named(index)
    expected = run(model, feeds)
    model.opset_imports[""] = opset
    for optimize in (False, True):
        results = session_of(model, optimize=optimize).run(None, feeds)
        for one, other in zip(expected, results, strict=True):
            eps = 0 if one.dtype.kind == "i" else 8 * np.finfo(one.dtype).eps
            assert np.all(np.abs(one - other) <= eps * np.abs(one))


@pytest.mark.parametrize("index", range(COUNT))
def test_shapes_of_bodies_are_those_of_the_rules(index):
    model, _ = named(index)
    made = to_ort(model)
    for out in made.graph.outputs:
        out.type = out.shape = None
    infer_shapes(made)
    for expected, out in zip(model.graph.outputs, made.graph.outputs, strict=True):
        assert (expected.dtype, expected.shape) == (out.dtype, out.shape)


@pytest.mark.parametrize("index", range(COUNT))
def test_torch_runs_the_bodies(index):
    model, feeds = named(index)
    results = to_torch(model)(*(torch.from_numpy(feed) for feed in feeds.values()))
    results = results if isinstance(results, tuple) else (results,)
    for one, other in zip(run(model, feeds), results, strict=True):
        eps = 0 if one.dtype.kind == "i" else 64 * np.finfo(one.dtype).eps
        size = max(1.0, float(np.abs(one).max()))
        assert np.all(np.abs(one - other.detach().numpy()) <= eps * size)
