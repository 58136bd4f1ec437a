"""Random models through every exact pass: well formed, equal, at a fixed point, deterministic."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from tests.strategies.arrays import Kind, feeds_for, kinds
from tests.strategies.graphs import assemble, models

ORT_OFF = ort.GraphOptimizationLevel.ORT_DISABLE_ALL


@dataclass
class Tally:
    """What became of the models of one test."""

    counts: Counter = field(default_factory=Counter)

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))


def check(model: ir.Model, kind: Kind, seed: int, batch: int, tally: Tally) -> None:
    """Every promise of the pipeline on one model and one set of feeds."""
    verify(model)
    after = clone(model)
    interface = [(v.name, v.dtype) for v in (*model.graph.inputs, *model.graph.outputs)]
    statistics = run_pipeline(after, instruments=[VerifyEach()])
    tally.counts["rewrites"] += statistics.applied
    verify(after)
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    assert interface == [(v.name, v.dtype) for v in (*after.graph.inputs, *after.graph.outputs)]

    feeds = feeds_for(model.graph.inputs, kind, seed, {"N": batch})
    if fits(model, feeds, batch):
        assert_agree(model, after, feeds)
        assert_runs(model, after, feeds, tally)

    text = to_text(after)
    again = run_pipeline(after)
    fired = [name for name, entry in again.items() if entry.applied]
    assert fired == [], "a second run must change nothing"
    assert to_text(after) == text
    tally.counts["models"] += 1


def fits(model: ir.Model, feeds: dict, batch: int) -> bool:
    """Whether the model works on these feeds, and every value has the shape that it should.

    A batch of zero may be outside its domain: a -1 in a reshape of nothing stands for no size.
    """
    if batch:
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


def assert_agree(before: ir.Model, after: ir.Model, feeds: dict) -> None:
    """The judge finds no difference beyond rounding."""
    found = disagreement(before, after, feeds, Exact.REASSOCIATED)
    assert found is None, str(found)


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


SEEDS = st.integers(0, 99)
BATCHES = st.sampled_from([2, 1, 3, 0])


@settings(max_examples=100)
@given(models(), kinds(), SEEDS, BATCHES)
def test_random_models_keep_their_meaning(model: ir.Model, kind: Kind, seed: int, batch: int):
    check(model, kind, seed, batch, Tally())


@pytest.mark.slow
def test_1500_random_models_keep_their_meaning(capsys: pytest.CaptureFixture[str]):
    tally = Tally()

    @settings(max_examples=1600, derandomize=False)
    @given(models(max_pieces=12), kinds(), SEEDS, BATCHES)
    def run(model: ir.Model, kind: Kind, seed: int, batch: int) -> None:
        check(model, kind, seed, batch, tally)

    run()
    with capsys.disabled():
        sys.stdout.write(f"\n{tally}; none wrong, invalid or crashed\n")
    assert tally.counts["models"] >= 1500


GENES = [bytes((17 * k * k + 31 * i) % 256 for i in range(16)) for k in range(60)]
DIGEST = """
import hashlib
from tests.passes.test_random_graphs import texts
print(hashlib.sha256("".join(texts()).encode()).hexdigest())
"""


def texts() -> list[str]:
    """The optimized text of some fixed random models, with the names that were given."""
    made = []
    for k in range(0, len(GENES) - 6, 6):
        model = assemble(GENES[k], GENES[k + 1 : k + 6])
        run_pipeline(model)
        made.append(to_text(model, names="kept"))
        made.append(str(ir.to_proto(model)))
    return made


def test_the_result_does_not_depend_on_the_hash_seed():
    digests = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", DIGEST],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
