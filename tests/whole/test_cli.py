"""The command line: what it prints, what it writes, how it fails."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import onnx.parser
import pytest
from typer.testing import CliRunner

from addax.cli import app

TEXT = """<ir_version: 10, opset_import: ["": 18]>
g (float[2] x) => (float[2] y) <float one = {1}> { a = Mul(x, one) b = Identity(a) y = Relu(b) }"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), path)
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert 0 == result.exit_code, result.output
    return result.stdout


def test_optimize_writes_and_reports(model, tmp_path):
    out = tmp_path / "out.onnx"
    printed = run("optimize", model, "-o", out)
    assert ["Relu"] == [node.op_type for node in onnx.load(out).graph.node]
    assert "nodes" in printed
    assert f"wrote {out}" in printed.replace("\n", "")


def test_optimize_prints_json_for_programs(model, tmp_path):
    printed = run("optimize", model, "-o", tmp_path / "out.onnx", "--json")
    report = json.loads(printed)
    assert (3, 1) == (report["before"]["nodes"], report["after"]["nodes"])


def test_passes_lists_every_family():
    found = {family["family"]: family for family in json.loads(run("passes", "--json"))}
    assert {"cleanup", "fold-affine"} <= found.keys()
    rules = {rule["name"]: rule for rule in found["cleanup"]["rules"]}
    assert "bitwise" == rules["cleanup/identity"]["exactness"]
    assert "cleanup/identity" in run("passes")


def test_explain_says_where_a_rule_applied_and_where_not(model):
    printed = run("explain", model, "--rule", "cleanup/identity")
    assert "applied" in printed
    entry = json.loads(run("explain", model, "--rule", "cleanup/idempotent", "--json"))
    assert isinstance(entry, list)


def test_show_prints_canonical_text(model):
    assert "Relu" in run("show", model)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "addax", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_errors_are_one_line_and_exit_code_1(tmp_path):
    done = command("optimize", tmp_path / "missing.onnx", "-o", tmp_path / "out.onnx")
    assert 1 == done.returncode
    assert done.stderr.startswith("addax: error: ")
    assert 1 == len(done.stderr.strip().splitlines())
    assert [] == list(tmp_path.iterdir())


def test_an_unknown_rule_suggests_the_right_one(model):
    done = command("explain", model, "--rule", "cleanup/identty")
    assert 1 == done.returncode
    assert "there is no rule 'cleanup/identty'; did you mean 'cleanup/identity'" in done.stderr
    assert "`addax passes` lists them" in done.stderr


def test_an_unknown_node_is_named(model):
    done = command("explain", model, "--rule", "cleanup/identity", "--node", "nowhere")
    assert (1, True) == (done.returncode, "the model has no node 'nowhere'" in done.stderr)
