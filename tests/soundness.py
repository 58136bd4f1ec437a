"""What the exact passes promise of any model, checked on one model and one set of feeds."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from addax.errors import EvaluationError
from addax.ir.evaluate import evaluate
from addax.ir.model import clone
from addax.ir.rule import Exact
from addax.ir.shapes import infer_shapes
from addax.ir.text import to_text
from addax.ir.tolerance import bounds, disagreement
from addax.ir.verify import verify
from addax.passes._instrument import VerifyEach
from addax.passes._pipeline import run_pipeline

ORT_OFF = ort.GraphOptimizationLevel.ORT_DISABLE_ALL


@dataclass
class Tally:
    """What became of the models of one test."""

    counts: Counter = field(default_factory=Counter)

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))


def check(model: ir.Model, feeds: dict, tally: Tally | None = None) -> ir.Model:
    """Run every exact pass on a copy, which is returned.

    The result is well formed, has the interface and the meaning of the original, runs wherever
    the original runs, and is at a fixed point.
    """
    tally = tally or Tally()
    verify(model)
    after = clone(model)
    statistics = run_pipeline(after, instruments=[VerifyEach()])
    tally.counts["rewrites"] += statistics.applied
    verify(after)
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    assert interface(model) == interface(after)
    if fits(model, feeds):
        found = disagreement(model, after, feeds, Exact.REASSOCIATED)
        assert found is None, str(found)
        assert_runs(model, after, feeds, tally)
    assert_settled(after)
    tally.counts["models"] += 1
    return after


def interface(model: ir.Model) -> list[tuple]:
    """Name and element type of each input and output."""
    return [(v.name, v.dtype) for v in (*model.graph.inputs, *model.graph.outputs)]


def assert_settled(model: ir.Model) -> None:
    """A second run makes no rewrite and changes nothing."""
    text = to_text(model)
    again = run_pipeline(model)
    fired = [name for name, entry in again.items() if entry.applied]
    assert fired == []
    assert to_text(model) == text


def fits(model: ir.Model, feeds: dict) -> bool:
    """Whether the model works on these feeds, and every value has the shape that it should.

    A batch of zero may be outside its domain: a -1 in a reshape of nothing stands for no size.
    """
    if all(array.size for array in feeds.values()):
        return True
    copy, wrong = clone(model), []
    infer_shapes(copy)

    def watch(value: ir.Value, array: np.ndarray) -> None:
        dims = list(value.shape or ())
        if any(isinstance(d, int) and d != n for d, n in zip(dims, np.shape(array), strict=False)):
            wrong.append(value)

    try:
        evaluate(copy, feeds, watch=watch)
    except EvaluationError:
        return False
    return not wrong


def assert_runs(before: ir.Model, after: ir.Model, feeds: dict, tally: Tally) -> None:
    """ONNX Runtime, its optimizations off, runs the result wherever it runs the original."""
    expected = run_ort(before, feeds)
    if expected is None:
        tally.counts["models that ONNX Runtime does not run"] += 1
        return
    actual = run_ort(after, feeds)
    assert actual is not None, "ONNX Runtime ran the original, but not the result"
    allowed = bounds(before, feeds)
    remaining = bounds(after, feeds, given=before)
    for name, value in expected.items():
        bound = 2 * (allowed[name][1] + remaining[name][1])
        with np.errstate(all="ignore"):
            apart = np.abs(value.astype(np.float64) - actual[name].astype(np.float64))
        same = (value == actual[name]) | (np.isnan(value) & np.isnan(actual[name]))
        assert np.all(same | (apart <= bound) | np.isinf(bound)), f"{name}: {apart} > {bound}"


def run_ort(model: ir.Model, feeds: dict) -> dict | None:
    """The outputs in ONNX Runtime; None if it does not take or cannot run the model."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ORT_OFF
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    data = ir.to_proto(model).SerializeToString()
    try:
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        results = session.run(None, feeds)
    except Exception:  # its errors have no common class
        return None
    return dict(zip([v.name for v in session.get_outputs()], results, strict=True))
