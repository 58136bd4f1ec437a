"""Plans on the command line: a budget, the report as a page, and the table of `measure`."""

import json

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from addax.backends.rates import DYNAMIC, FLOAT
from addax.cli import app
from addax.errors import OptionError
from addax.runtime import cost_table, measured_costs
from addax.runtime import kernels as kernels_module

NETWORK = """<ir_version: 10, opset_import: ["": 20]>
g (float[N,64] x) => (float[N,96] y) <float[64,96] w> { y = MatMul(x, w) }"""


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert 0 == done.exit_code, done.output
    return done.stdout


@pytest.fixture
def files(tmp_path):
    random = np.random.default_rng(0)
    model = onnx.parser.parse_model(NETWORK.replace("<float[64,96] w>", ""))
    weights = random.normal(size=(64, 96)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=random.normal(size=(64, 64)).astype(np.float32))
    return tmp_path


def test_a_budget_and_a_report(files):
    options = ("--target", "portable", "--calibration", files / "data.npz", "--json")
    paths = ("-o", files / "out.onnx", "--report", files / "report.html")
    budget = ("--budget", "max_error=0.1,objective=bytes")
    record = json.loads(run("optimize", files / "model.onnx", *paths, *options, *budget))
    assert "max_error 0.1; least bytes" == record["plan"]["budget"]
    assert record["plan"]["measured"]["bytes"] < 64 * 96 * 4
    assert "<h2>The plan</h2>" in (files / "report.html").read_text("utf-8")


def test_a_budget_that_is_none(files):
    with pytest.raises(OptionError, match="expected a budget such as max_error"):
        run("optimize", files / "model.onnx", "-o", files / "out.onnx", "--budget", "small")


def test_measure_keeps_a_table_that_predictions_go_by(monkeypatch, tmp_path):
    monkeypatch.setenv("ADDAX_CACHE", str(tmp_path))
    monkeypatch.setattr(measured_costs, "SIDES", (64, 128))
    monkeypatch.setattr(measured_costs, "_SECONDS", 0.0)

    def none_here():
        raise kernels_module.BuildError("none here")

    monkeypatch.setattr(kernels_module, "host_kernels", none_here)
    monkeypatch.setattr(cost_table, "this_set", lambda: "avx512")
    assert "`addax measure` finds those of yours" in cost_table.cost_table("host").about
    record = json.loads(run("measure", "--json"))
    assert {FLOAT, DYNAMIC} == record["seconds"].keys()
    table = cost_table.cost_table("host")
    assert "measured on this machine" in table.about
    cells = record["seconds"][FLOAT]
    assert table.seconds(FLOAT, record["rows"][0], 64 * 64, 0) == pytest.approx(cells[0][0])
    text = run("measure", "--quick")
    assert "fp32: microseconds" in text
    assert "128 x 128" in text
