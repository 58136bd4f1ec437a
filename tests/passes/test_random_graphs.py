"""Random models through every exact pass: well formed, equal, at a fixed point, deterministic."""

import os
import subprocess
import sys

import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.testing.strategies.arrays import Kind, feeds_for, kinds
from addax.testing.strategies.graphs import models
from tests.soundness import Tally, check

SEEDS = st.integers(0, 99)
BATCHES = st.sampled_from([2, 1, 3, 0])


@settings(max_examples=100)
@given(models(), kinds(), SEEDS, BATCHES)
def test_random_models_keep_their_meaning(model: ir.Model, kind: Kind, seed: int, batch: int):
    check(model, feeds_for(model.graph.inputs, kind, seed, {"N": batch}))


@pytest.mark.slow
def test_1500_random_models_keep_their_meaning(capsys: pytest.CaptureFixture[str]):
    tally = Tally()

    @settings(max_examples=1600, derandomize=False)
    @given(models(max_pieces=12), kinds(), SEEDS, BATCHES)
    def run(model: ir.Model, kind: Kind, seed: int, batch: int) -> None:
        check(model, feeds_for(model.graph.inputs, kind, seed, {"N": batch}), tally)

    run()
    with capsys.disabled():
        sys.stdout.write(f"\n{tally}; none wrong, invalid or crashed\n")
    assert tally.counts["models"] >= 1500


# Its own process must not wait for what it does not need: no runtime, no pytest.
TEXTS = """
from addax.ir.text import to_text
from addax.passes._pipeline import run_pipeline
from addax.testing.strategies.graphs import assemble

genes = [bytes((17 * k * k + 31 * i) % 256 for i in range(16)) for k in range(60)]
for k in range(0, 54, 6):
    model = assemble(genes[k], genes[k + 1 : k + 6])
    run_pipeline(model)
    print(to_text(model, names="kept"))
    print(model.graph)
"""


def test_the_result_does_not_depend_on_the_hash_seed():
    runs = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", TEXTS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
        )
        for seed in ("1", "2")
    ]
    first, second = (run.communicate()[0] for run in runs)
    assert [0, 0] == [run.returncode for run in runs]
    assert first == second
    assert first.count(b"random (") >= 9
