"""The judge against ONNX Runtime, its optimizations off, on the fixtures of its optimizer tests."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from addax.errors import UnsupportedOpError
from addax.ir.evaluate import Judge

FOLDER = Path(__file__).resolve().parents[2] / "../shared/data/onnx_fixtures/ort"

RANDOM = {
    "bias_dropout_residual_fusion_multiple_consumers2.onnx",
    "constant_folding_remove_dangling_inputs.onnx",
    "multinomial_float16.onnx",
    "random_normal_like_float16.onnx",
}
NO_GRAPH = {
    "gpt2_past.onnx",  # two nodes make one value: onnx_ir does not read it
}
SIZES = (2, 3, 8, 5)
LARGE = 1 << 22


def fixtures() -> list[Any]:
    if not FOLDER.exists():
        return [pytest.param("", marks=pytest.mark.skip(reason=f"no data at {FOLDER}"))]
    with (FOLDER / "manifest.csv").open() as manifest:
        rows = [row["path"] for row in csv.DictReader(manifest) if row["run"] == "ok"]
    return [pytest.param(path, id=Path(path).name) for path in rows]


@pytest.mark.parametrize("path", fixtures())
def test_fixture(path):
    if Path(path).name in NO_GRAPH:
        pytest.skip("not a well-formed graph")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        FOLDER / path, options, providers=["CPUExecutionProvider"]
    )
    model = ir.load(FOLDER / path)
    model.graph.sort()  # runtimes take graphs in any order, and several fixtures are in none
    feeds = _feeds(session)
    if Path(path).name in RANDOM:
        with pytest.raises(UnsupportedOpError, match="random"):
            Judge(model).run(feeds)
        return
    expected = dict(
        zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True)
    )
    step = _step(model)
    own = Judge(model).run(feeds)
    exact = Judge(model, precision=np.float64).run(feeds)
    for name, value in expected.items():
        assert value.dtype == own[name].dtype
        _agrees(value, own[name], step)
        _agrees(value, exact[name], step)


def _step(model: ir.Model) -> float:
    """How much of the largest output may be off: by what the narrowest numbers are rounded.

    Sums of K terms are off by K steps at most, and these graphs are small; where codes are
    rounded, a tie may fall to either side.
    """
    if any(node.op_type == "QuantizeLinear" for node in model.graph):
        return 1 / 16
    values = [v for node in model.graph for v in (*node.inputs, *node.outputs) if v is not None]
    if any(v.dtype == ir.DataType.FLOAT16 for v in values) or any(
        node.op_type == "Cast" and node.attributes["to"].value == ir.DataType.FLOAT16
        for node in model.graph
    ):
        return 4 * float(np.finfo(np.float16).eps)
    return 256 * float(np.finfo(np.float32).eps)


def _feeds(session: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    sizes: dict[str, int] = {}
    feeds = {}
    for value in session.get_inputs():
        shape = [
            d if isinstance(d, int) else sizes.setdefault(d, SIZES[len(sizes) % 4])
            for d in value.shape
        ]
        if np.prod(shape) > LARGE:
            shape = [d if isinstance(d, int) else 1 for d in value.shape]
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        dtype = np.dtype({"float": "float32", "double": "float64"}.get(kind, kind))
        if dtype.kind in "iub":
            feeds[value.name] = rng.integers(0, 2, shape).astype(dtype)
        else:
            feeds[value.name] = rng.standard_normal(shape).astype(dtype)
    return feeds


def _agrees(expected: Any, got: Any, step: float) -> None:
    assert expected.shape == got.shape
    if expected.dtype.kind in "iub":
        assert np.array_equal(expected, got)
        return
    finite = np.isfinite(expected)
    assert np.array_equal(finite, np.isfinite(got))
    atol = step * float(np.abs(expected[finite]).max(initial=0.0))
    np.testing.assert_allclose(
        got[finite].astype(np.float64), expected[finite].astype(np.float64), rtol=0, atol=atol
    )
