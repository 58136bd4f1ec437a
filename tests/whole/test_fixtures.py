"""The fixtures of ONNX Runtime's own optimizer tests, through the default exact pipeline.

Each is read, optimized, verified, and run in ONNX Runtime with the runtime's optimizations off,
beside the original. What the original cannot do is skipped with the runtime's own words.
"""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import addax
from addax.backends.to_ort import to_ort
from addax.errors import InvalidGraphError, UnsupportedOpError
from addax.frontend.from_onnx import from_onnx
from addax.ir.tolerance import tolerance
from addax.ir.verify import verify
from addax.runtime.session import Session
from tests.whole.disagreement import moved, worst

FOLDER = Path(__file__).resolve().parents[2] / "../shared/data/onnx_fixtures/ort"

RANDOM = {"bias_dropout_residual_fusion_multiple_consumers2.onnx"}  # dropout in training mode
CONTRADICTORY = {  # Reshape of 6,000 elements to 4,000
    "reshape_fusion_multiple_values_in_initializer_tensor_1.onnx"
}
LARGE = {"gpt2_past.onnx"}  # 3,571 nodes
FAST = 4  # every fourth fixture is in the fast suite
SIZES = (2, 3, 8, 5)  # of axes whose size is open
MOST = 1 << 22

onnxruntime.set_default_logger_severity(4)


def rows():
    if not FOLDER.exists():
        return []
    with (FOLDER / "manifest.csv").open(encoding="utf-8") as manifest:
        return list(csv.DictReader(manifest))


def fixtures():
    if not rows():
        return [pytest.param("", marks=pytest.mark.skip(reason=f"no data at {FOLDER}"))]
    found = []
    for number, row in enumerate(rows()):
        name = Path(row["path"]).name
        is_fast = number % FAST == 0 and name not in LARGE
        marks = () if is_fast else (pytest.mark.slow,)
        found.append(pytest.param(row["path"], id=name.removesuffix(".onnx"), marks=marks))
    return found


@pytest.mark.parametrize("path", fixtures())
def test_it_means_the_same(path):
    source = FOLDER / path
    if source.name in CONTRADICTORY:
        with pytest.raises(InvalidGraphError, match="cannot take the shape"):
            addax.optimize(source)
        pytest.skip("its shapes contradict each other")
    made = addax.optimize(source)
    verify(made.model)
    model = to_ort(made.model)
    before, after = onnx.load(source), ir.to_proto(model)
    if passes_checker(before):
        onnx.checker.check_model(after)
    declared = {name: port for name, port in interface(before).items() if port[0]}
    assert list(interface(before)) == list(interface(after))
    assert declared == {name: interface(after)[name] for name in declared}
    try:
        original = session_of(source)
        feeds = feeds_of(original)
        expected = run(original, feeds)
    except Exception as error:
        pytest.skip(f"the original does not run: {str(error).splitlines()[0][:200]}")
    actual = unoptimized(model).run(feeds)
    assert types_of(expected) == types_of(actual)
    if source.name not in RANDOM:
        allowed = dict.fromkeys(expected, 0.0)
        if worst(expected, actual, allowed) is not None:
            allowed = rounding(source, made.model, feeds)
        assert None is worst(expected, actual, allowed)


@pytest.mark.slow
def test_most_originals_run():
    if not rows():
        pytest.skip(f"no data at {FOLDER}")
    running = {row["path"] for row in rows() if runs(FOLDER / row["path"])}
    assert (84, 95) == (len(running), len(rows()))
    assert {row["path"] for row in rows() if row["run"] == "ok"} <= running


def runs(source):
    try:
        original = session_of(source)
        run(original, feeds_of(original))
    except Exception:
        return False
    return True


def passes_checker(proto):
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError:
        return False
    return True


def session_of(source):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(source), options)


def run(session, feeds):
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def interface(proto):
    """Names, and as far as they are declared element types and sizes; -1 is an open size too."""
    found = {}
    for port in (*proto.graph.input, *proto.graph.output):
        type_ = port.type.tensor_type
        sizes = [(d.dim_param or d.dim_value or None) for d in type_.shape.dim]
        found[port.name] = (type_.elem_type, [None if d == -1 else d for d in sizes])
    return found


def types_of(arrays):
    return {name: (array.dtype, array.shape) for name, array in arrays.items()}


def feeds_of(session):
    """Seeded arrays; axes of one name have one size."""
    rng = np.random.default_rng(0)
    sizes = {}
    feeds = {}
    for port in session.get_inputs():
        shape = [
            d if isinstance(d, int) else sizes.setdefault(d, SIZES[len(sizes) % len(SIZES)])
            for d in port.shape
        ]
        if np.prod(shape) > MOST:
            shape = [d if isinstance(d, int) else 1 for d in port.shape]
        kind = port.type.removeprefix("tensor(").removesuffix(")")
        dtype = np.dtype({"float": "float32", "double": "float64"}.get(kind, kind))
        drawn = rng.integers(0, 2, shape) if dtype.kind in "iub" else rng.standard_normal(shape)
        feeds[port.name] = np.asarray(drawn, dtype)
    return feeds


def rounding(source, after, feeds):
    """How far rounding may move each output: both models' bounds, or else the original's unrest."""
    before = from_onnx(source)
    unrest = cache(lambda: moved(before, feeds, unoptimized))
    try:
        old, new = tolerance(before, feeds), tolerance(after, feeds)
    except UnsupportedOpError:  # attention of ONNX Runtime's own has no error analysis
        return unrest()
    allowed = {name: old[name] + new[name] for name in old}
    return {n: a if np.isfinite(a).all() else unrest()[n] for n, a in allowed.items()}


def unoptimized(model):
    return Session(model, optimize=False, threads=1)
