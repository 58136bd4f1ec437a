"""ONNX Runtime's fused ops in torch: against the judge, and on the fixtures of its own tests."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from addax.backends.to_torch import to_torch
from addax.errors import UnsupportedOpError
from addax.frontend.from_onnx import from_onnx
from addax.ir.evaluate import evaluate
from tests.backends.exchange import as_numpy, assert_same, parsed

FOLDER = Path(__file__).resolve().parents[2] / "../shared/data/onnx_fixtures/ort"

H = "float[2, 3, 8] x, float[2, 3, 8] s, float[8] g, float[8] b"
ATTENTION = "float[2, 3, 8] x, float[8, 24] w, float[24] b"
CASES = [
    ("float[3] x", "y = M.Gelu(x)"),
    ("float[2, 3] x, float[3] b", "y = M.BiasGelu(x, b)"),
    ("float[2, 3] x, float[3] b", "y = M.FastGelu(x, b)"),
    ("float[3] x", "y = M.QuickGelu(x)"),
    (
        "float[1, 2, 5, 5] x, float[3, 2, 3, 3] w, float[3] b, float[1, 3, 3, 3] z",
        'y = M.FusedConv <activation = "LeakyRelu", activation_params = [0.3]> (x, w, b, z)',
    ),
    (
        "float[1, 2, 5, 5] x, float[3, 2, 3, 3] w",
        'y = M.FusedConv <activation = "Clip", activation_params = [-0.5, 0.25]> (x, w)',
    ),
    (
        "float[1, 2, 5, 5] x, float[3, 2, 3, 3] w",
        'y = M.FusedConv <activation = "HardSigmoid", activation_params = [0.3, 0.4]> (x, w)',
    ),
    (
        "float[2, 3] x, float[4, 3] w, float[4] b",
        'y = M.FusedGemm <transB = 1, alpha = 2.0, activation = "Tanh"> (x, w, b)',
    ),
    (
        "float[2, 3] x, float[3, 4] w",
        'y = M.FusedGemm <activation = "LeakyRelu", activation_alpha = 0.3> (x, w)',
    ),
    ("float[4, 2, 3] x, float[4, 2, 5] w", "y = M.FusedMatMul <transA = 1, alpha = 0.5> (x, w)"),
    ("float[2, 4, 3] x, float[4, 3, 5] w", "y = M.FusedMatMul <transBatchA = 1> (x, w)"),
    (H, "y = M.SkipLayerNormalization(x, s, g)"),
    (H, "y, m, v, t = M.SkipLayerNormalization <epsilon = 0.1> (x, s, g, b, b)"),
    (H, "y, m, v, t = M.SkipSimplifiedLayerNormalization <epsilon = 0.1> (x, s, g, b)"),
    (H, "y, v = M.SimplifiedLayerNormalization <epsilon = 0.1> (x, g)"),
    (
        "int32[2, 3] i, int32[2, 3] t, float[9, 8] w, float[4, 8] p, float[9, 8] u, float[8] g, "
        "int32[2, 3] m",
        "y, n, e = M.EmbedLayerNormalization(i, t, w, p, u, g, g, m)",
    ),
    (
        "int32[2, 3] i, float[9, 8] w, float[4, 8] p, float[8] g",
        "y, n = M.EmbedLayerNormalization(i, , w, p, , g, g)",
    ),
    (ATTENTION, "y = M.Attention <num_heads = 2> (x, w, b)"),
    (
        ATTENTION + ", int32[2] m, float[2, 2, 2, 4, 4] p",
        "y, c = M.Attention <num_heads = 2, unidirectional = 1> (x, w, b, m, p)",
    ),
    (ATTENTION + ", int32[4] m", "y = M.Attention <num_heads = 2> (x, w, b, m)"),
    (ATTENTION + ", int32[2, 3] m", "y = M.Attention <num_heads = 2, scale = 0.5> (x, w, b, m)"),
    (ATTENTION + ", int32[2, 3, 3] m", "y = M.Attention <num_heads = 2> (x, w, b, m)"),
    (ATTENTION + ", int32[2, 1, 5, 5] m", "y = M.Attention <num_heads = 2> (x, w, b, m)"),
    ("float[2, 3, 8] q, float[2, 5, 8] k", "y = M.MultiHeadAttention <num_heads = 2> (q, k, k)"),
    (
        "float[2, 3, 8] q, float[2, 5, 8] k, float[24] b, int32[2, 5] m, float[2, 2, 3, 5] a",
        "y = M.MultiHeadAttention <num_heads = 2> (q, k, k, b, m, a)",
    ),
    ("float[2, 3, 2, 3, 4] q", "y = M.MultiHeadAttention <num_heads = 2> (q)"),
    (
        "float[2, 3, 8] q, float[2, 5, 2, 2, 4] k",
        "y = M.MultiHeadAttention <num_heads = 2> (q, k)",
    ),
    (
        "float[2, 3, 8] q, float[2, 2, 5, 4] k, float[24] b",
        "y = M.MultiHeadAttention <num_heads = 2> (q, k, k, b)",
    ),
    (
        "float[2, 3, 8] q, float[2, 3, 8] k, float[2, 2, 4, 4] p",
        "y, c, d = M.MultiHeadAttention <num_heads = 2> (q, k, k, , , , p, p)",
    ),
]


@pytest.mark.parametrize(("inputs", "node"), CASES)
def test_a_fused_op_means_what_the_judge_says(inputs, node):
    names = node.split("=")[0]
    model = parsed(f"""<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>
        g ({inputs}) => ({names}) {{ {node.replace("M.", "com.microsoft.")} }}""")
    rng = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.inputs:
        shape = tuple(value.shape)
        drawn = rng.integers(0, 4, shape) if value.dtype == ir.DataType.INT32 else None
        feeds[value.name] = (
            drawn.astype(np.int32)
            if drawn is not None
            else rng.standard_normal(shape).astype(np.float32)
        )
    expected = evaluate(model, feeds)
    got = to_torch(model)(*map(torch.from_numpy, feeds.values()))
    got = (got,) if isinstance(got, torch.Tensor) else got
    for value, tensor in zip(model.graph.outputs, got, strict=True):
        assert_same(expected[value.name], as_numpy(tensor), 1e-5, 1e-5)


RANDOM = {"multinomial_float16.onnx", "random_normal_like_float16.onnx"}
TRAINING = {"bias_dropout_residual_fusion_multiple_consumers2.onnx"}
NO_GRAPH = {"gpt2_past.onnx"}  # two nodes make one value
SIZES = (2, 3, 8, 5)


def fixtures() -> list[Any]:
    if not FOLDER.exists():
        return [pytest.param("", marks=pytest.mark.skip(reason=f"no data at {FOLDER}"))]
    with (FOLDER / "manifest.csv").open() as manifest:
        rows = [row["path"] for row in csv.DictReader(manifest) if row["run"] == "ok"]
    return [pytest.param(p, id=Path(p).name) for p in rows if Path(p).name not in NO_GRAPH]


@pytest.mark.slow
@pytest.mark.parametrize("path", fixtures())
def test_a_fixture_of_onnx_runtime(path):
    model = from_onnx(FOLDER / path)
    if Path(path).name in TRAINING:
        with pytest.raises(UnsupportedOpError, match="dropout in training is random"):
            to_torch(model)
        return
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(FOLDER / path, options, providers=providers)
    feeds = drawn(session)
    inputs = [feeds[v.name] for v in model.graph.inputs if not v.is_initializer()]
    with torch.no_grad():
        got = to_torch(model)(*map(torch.from_numpy, inputs))
    got = (got,) if isinstance(got, torch.Tensor) else got
    step = 1 / 16 if any(n.op_type == "QuantizeLinear" for n in model.graph) else 2**-8
    for expected, tensor in zip(session.run(None, feeds), got, strict=True):
        made = as_numpy(tensor)
        assert (expected.shape, expected.dtype) == (made.shape, made.dtype)
        if Path(path).name not in RANDOM and expected.size:
            largest = max(1.0, float(np.nanmax(np.abs(expected.astype(np.float64)))))
            np.testing.assert_allclose(made, expected, rtol=0, atol=step * largest)


def drawn(session: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes: dict[str, int] = {}
    feeds = {}
    for value in session.get_inputs():
        shape = [
            d if isinstance(d, int) else sizes.setdefault(str(d), SIZES[len(sizes) % 4])
            for d in value.shape
        ]
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
        array = rng.standard_normal(shape)
        array = rng.integers(0, 2, shape) if dtype.startswith(("int", "uint", "bool")) else array
        feeds[value.name] = np.asarray(array).astype(dtype)
    return feeds
