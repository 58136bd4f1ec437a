"""The command line: what it prints, what it writes, how it fails."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from typer.testing import CliRunner

from addax.cli import app
from addax.errors import InputError

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


def test_optimize_calibrates_with_the_samples_of_a_file(tmp_path):
    random = np.random.default_rng(0)
    weights = random.normal(size=(64, 80)).astype(np.float32)
    text = """<ir_version: 10, opset_import: ["": 18]>
    g (float[N,64] x) => (float[N,80] y) { y = MatMul(x, w) }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    path, data, out = tmp_path / "m.onnx", tmp_path / "data.npz", tmp_path / "out.onnx"
    onnx.save(proto, path)
    np.savez(data, x=random.normal(size=(100, 64)).astype(np.float32))
    given = ("--allow", "shift-add", "--target", "portable", "--calibration", data, "--json")
    for bits, name in (("4", "CodebookMatMul"), ("binary2", "BinaryMatMul")):
        report = json.loads(run("optimize", path, "-o", out, "--bits", bits, *given))
        assert [node.op_type for node in onnx.load(out).graph.node] == [name]
        assert report["layers"][0]["output_error"] < 0.5
        assert report["layers"][0]["measured_after"] is None
    (measured,) = json.loads(run("optimize", path, "-o", out, *given, "--measure"))["layers"]
    assert 0 < measured["measured_after"]
    np.savez(data, x=np.zeros((3, 64)), z=np.zeros(4))
    with pytest.raises(InputError, match="expected arrays with as many samples each"):
        run("optimize", path, "-o", out, *given)


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


WRONG = """<ir_version: 10, opset_import: ["": 18]>
g (float[2] x) => (float[2] y) { a = Neg(x) y = Relu(a) }"""


def ended(code: int, *arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert code == result.exit_code, result.output
    return result.stdout


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    path = tmp_path / "wrong.onnx"
    onnx.save(onnx.parser.parse_model(WRONG), path)
    return path


def test_verify_proves_what_optimize_made_and_replays_its_certificate(model, tmp_path):
    out, certificate = tmp_path / "out.onnx", tmp_path / "c.json"
    run("optimize", model, "-o", out, "--certificate", certificate)
    printed = ended(0, "verify", model, out, "--certificate", certificate)
    assert printed.startswith("proved: the same function over the reals")
    assert "the proof is wrong with a probability of at most" in printed
    assert "\ncertificate: " in printed
    record = json.loads(ended(0, "verify", model, out, "--json"))
    assert ("proved", "proved") == (record["verdict"], record["proof"])


def test_verify_says_what_differs(model, wrong, tmp_path):
    printed = ended(3, "verify", model, wrong)
    assert printed.startswith("different: y[")
    data = tmp_path / "x.npz"
    np.savez(data, x=np.ones(2, np.float32))
    assert "y[0]: 1.0 became 0.0" in ended(3, "verify", model, wrong, "--data", data)
    assert "different" == json.loads(ended(3, "verify", model, wrong, "--json"))["verdict"]


def test_verify_rejects_a_certificate_of_something_else(model, wrong, tmp_path):
    certificate = tmp_path / "c.json"
    run("optimize", model, "-o", tmp_path / "out.onnx", "--certificate", certificate)
    record = json.loads(ended(3, "verify", model, model, "--certificate", certificate, "--json"))
    assert (True, False) == (record["verdict"] == "proved", record["certificate"]["holds"])


def test_verify_leaves_open_what_it_cannot_decide(tmp_path):
    path = tmp_path / "empty.onnx"
    text = (
        """<ir_version: 10, opset_import: ["": 18]> g (float[0] x) => (float[0] y) {y = Neg(x)}"""
    )
    onnx.save(onnx.parser.parse_model(text), path)
    assert ended(4, "verify", path, path).startswith("undecided: ")


def test_agree_prints_a_table(model):
    engines = ("--against", "judge", "--against", "onnxruntime")
    printed = ended(0, "agree", model, *engines)
    assert ["engine", "judge", "onnxruntime"] == [x.split()[0] for x in printed.splitlines()]
    record = json.loads(ended(0, "agree", model, *engines, "--json"))
    assert ["agrees", "agrees"] == [v["state"] for v in record["verdicts"]]
    assert "judge" in ended(4, "agree", model, "--against", "judge")


def test_bisect_finds_nothing_where_nothing_is_wrong(model):
    assert "no fault" in ended(0, "bisect", model)
    assert "null\n" == ended(0, "bisect", model, "--json")


CHECK = (
    f"{sys.executable} -c 'import sys, onnx; "
    'sys.exit(all(n.op_type != "Mul" for n in onnx.load(sys.argv[1]).graph.node))\''
)


def test_bisect_names_the_rewrite_and_writes_a_case(model, tmp_path):
    printed = ended(3, "bisect", model, "--check", CHECK, "--cases", tmp_path / "cases")
    assert "rewrite 1 of 2: cleanup/" in printed
    (case,) = (tmp_path / "cases").iterdir()
    assert case.read_text().startswith("# fires: found by bisect at Mul")


def test_reduce_writes_the_model_and_its_inputs(model, tmp_path):
    out = tmp_path / "small.onnx"
    printed = run("reduce", model, "-o", out, "--check", CHECK)
    assert "3 nodes became 1" in printed
    assert out.exists()
    assert out.with_suffix(".npz").exists()


def test_reduce_needs_a_fault(model, tmp_path):
    done = command("reduce", model, "-o", tmp_path / "small.onnx")
    assert (1, True) == (done.returncode, "expected a model with the fault" in done.stderr)


def test_data_that_is_no_npz_file_is_refused(model):
    done = command("verify", model, model, "--data", model)
    assert (1, True) == (done.returncode, "expected an .npz file with an array" in done.stderr)


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
