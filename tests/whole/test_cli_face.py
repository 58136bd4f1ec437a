"""The command line as a person meets it: help, suggestions, one clear line where it fails."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from typer.testing import CliRunner

import addax.cli
from addax.cli import app
from addax.errors import InputError, ModelFileError, OptionError
from tests.whole.test_public import HEAVY, loaded_by

COMMANDS = {
    *("agree", "bench", "bisect", "explain", "measure", "optimize", "passes", "reduce", "show"),
    *("targets", "verify"),
}
TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[N,4] x) => (float[N,4] y) <float one = {1}> { a = Mul(x, one) b = Identity(a) y = Relu(b) }
"""
OTHER = TEXT.replace("x", "z").replace("[N,4] y", "[N,4] w").replace("y = Relu", "w = Abs")


def write(path: Path, text: str) -> Path:
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "m.onnx", TEXT)


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert 0 == result.exit_code, result.output
    return result.stdout


def failed(capsys, monkeypatch, *arguments: object) -> tuple[int, str]:
    """Exit code and standard error of the whole program."""
    monkeypatch.setattr(sys, "argv", ["addax", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        addax.cli.main()
    return int(stop.value.code), capsys.readouterr().err


def test_every_command_has_help_and_json():
    listed = invoke("--help")
    assert {c.name or c.callback.__name__ for c in app.registered_commands} == COMMANDS
    for name in COMMANDS:
        assert name in listed
        assert "--json" in invoke(name, "--help").replace("\n", " ")
    assert "--install-completion" in listed


def test_help_loads_nothing_heavy():
    assert loaded_by("import addax.cli").isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("optmize", "m.onnx"), "No such command 'optmize'. Did you mean 'optimize'?"),
        (("show", "--htm", "x", "m.onnx"), "No such option: --htm"),
        (("show", "--htm", "x", "m.onnx"), "--html"),
        (("show",), "Missing argument"),
    ],
)
def test_wrong_usage_says_what_is_right(capsys, monkeypatch, arguments, text):
    code, told = failed(capsys, monkeypatch, *arguments)
    assert 2 == code
    assert text in " ".join(told.split())


def test_bench_times_in_turns_and_compares(model, tmp_path):
    out = tmp_path / "out.onnx"
    invoke("optimize", model, "-o", out)
    printed = invoke("bench", model, out, "--rounds", 3, "--size", "N=5")
    assert "inputs: x[5, 4]" in printed
    assert "times as fast (" in printed
    assert "y: relative error 0, largest of the last axis at the same place in 100.0%" in printed
    data = tmp_path / "x.npz"
    np.savez(data, x=np.ones((2, 4), np.float32))
    record = json.loads(invoke("bench", model, out, "--data", data, "--rounds", 3, "--json"))
    assert {"x": [2, 4]} == record["inputs"]
    assert {"y": {"relative_error": 0.0, "same_largest": 1.0}} == record["outputs"]
    assert record["speedup"]["lower_quartile"] <= record["speedup"]["upper_quartile"]
    assert all(0 < milliseconds for milliseconds in record["milliseconds"])


def test_bench_needs_models_that_fit(model, tmp_path):
    other = write(tmp_path / "other.onnx", OTHER)
    with pytest.raises(
        InputError, match=r"expected two models with the same inputs, .* gets \['x'"
    ):
        invoke("bench", model, other)
    wide = write(tmp_path / "wide.onnx", TEXT.replace("y = Relu(b)", "y = Concat<axis=0>(b, b)"))
    with pytest.raises(InputError, match="expected outputs of the same shapes"):
        invoke("bench", model, wide)
    with pytest.raises(OptionError, match="--size N: expected the name of a dimension and its"):
        invoke("bench", model, model, "--size", "N")


def test_show_draws_a_page(model, tmp_path):
    page = tmp_path / "m.html"
    assert f"wrote {page}" in invoke("show", model, "--html", page).replace("\n", "")
    assert page.read_text("utf-8").count("<svg") == 2
    record = json.loads(invoke("show", model, "--html", page, "--json"))
    assert (3, 1) == (record["nodes_before"], record["nodes_after"])
    assert all(rule.startswith("cleanup/") for rule in record["gone"].values())
    alone = json.loads(invoke("show", model, "--html", page, "--pipeline", "sign-norms", "--json"))
    assert 3 == alone["nodes_after"]
    assert "Relu" in json.loads(invoke("show", model, "--json"))["text"]
    with pytest.raises(ModelFileError, match="there is no folder"):
        invoke("show", model, "--html", tmp_path / "missing" / "m.html")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 zip", b"<html></html>", b"\x00" * 100])
def test_what_is_no_model_is_told_in_one_line(capsys, monkeypatch, tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    code, told = failed(capsys, monkeypatch, "optimize", path, "-o", tmp_path / "out.onnx")
    assert (1, 1) == (code, len(told.strip().splitlines()))
    assert told.startswith("addax: error: ")
    assert [path] == list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_nothing(capsys, monkeypatch, model, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("addax.ir._saving._skeleton", interrupt)
    code, told = failed(capsys, monkeypatch, "optimize", model, "-o", tmp_path / "out.onnx")
    assert (130, "addax: interrupted; nothing half-written stays\n") == (code, told)
    assert [model] == list(tmp_path.iterdir())


def test_other_errors_of_the_system_are_one_line(capsys, monkeypatch, model):
    def fail(*_, **__):
        raise OSError(28, "No space left on device", "cache")

    monkeypatch.setattr("addax.frontend.to_ir", fail)
    code, told = failed(capsys, monkeypatch, "show", model)
    assert (1, "addax: error: No space left on device (cache)\n") == (code, told)


def test_a_full_disk_is_told_in_one_line(tmp_path):
    proto = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 20]>
    g (float[2,100] x) => (float[2,100] y) { y = MatMul(x, w) }""")
    weights = np.random.default_rng(0).normal(size=(100, 100)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    done = subprocess.run(
        [sys.executable, "-m", "addax", "optimize", path, "-o", tmp_path / "out.onnx"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    )
    (line,) = done.stderr.strip().splitlines()
    assert (1, f"addax: error: cannot write {tmp_path / 'out.onnx'}") == (
        done.returncode,
        line.partition(": File too large")[0],
    )
    assert [path] == list(tmp_path.iterdir())
