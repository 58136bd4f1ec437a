"""A pass that raises leaves a folder with which anybody can see it raise again."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import addax
from addax.cli import app
from addax.errors import OptionError
from addax.ir.parser import parse_text
from tests.debugging.planted import crash, plant

__all__ = ["plant"]

BODY = """<ir_version: 10, opset_import: ["": 20]>
g (float[2,4] x, float[2,4] z) => (float[2,4] y) <float[4,4] w, float one = {1}> {
    a = MatMul(x, w)
    b = Mul(a, one)
    e = Sub(b, z)
    f = Tanh(e)
    y = Sigmoid(f)
}"""


@pytest.fixture
def crashing(plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Optimizes a model with a rule that raises, in a folder of its own."""
    plant(crash)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADDAX_REPRO", raising=False)

    def run() -> BaseException:
        with pytest.raises(ZeroDivisionError, match="planted") as caught:
            addax.optimize(parse_text(BODY))
        return caught.value

    return run


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def test_the_folder_has_what_is_needed_and_the_error_names_it(crashing, tmp_path, monkeypatch):
    error = crashing()
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("addax-repro-")
    assert f"to reproduce this, see command.txt in {folder.name}" in notes(error)
    assert {
        "model.onnx", "model.txt", "pipeline.txt", "command.txt", "error.txt", "versions.txt",
    } == {p.name for p in folder.iterdir()}  # fmt: skip
    told = (folder / "error.txt").read_text()
    assert "rule cleanup/crash at Tanh" in told
    assert "Traceback" in told
    assert "numpy" in (folder / "versions.txt").read_text()
    command = (folder / "command.txt").read_text()
    assert "cleanup\n" == (folder / "pipeline.txt").read_text()
    assert 1 == len(command.splitlines())
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ADDAX_REPRO", "")
    again = CliRunner().invoke(app, shlex.split(command)[1:])
    assert isinstance(again.exception, ZeroDivisionError)


def test_the_same_crash_has_the_same_folder(crashing, tmp_path):
    crashing()
    crashing()
    assert 1 == len(list(tmp_path.iterdir()))


def test_the_folder_may_be_elsewhere_or_nowhere(crashing, tmp_path, monkeypatch):
    monkeypatch.setenv("ADDAX_REPRO", "")
    assert "" == notes(crashing())
    assert [] == list(tmp_path.iterdir())
    monkeypatch.setenv("ADDAX_REPRO", str(tmp_path / "a" / "b"))
    crashing()
    assert 1 == len(list((tmp_path / "a" / "b").glob("addax-repro-*")))


def test_large_weights_are_left_out(crashing, tmp_path, monkeypatch):
    monkeypatch.setenv("ADDAX_REPRO_LIMIT", "0.00001")
    assert "without the model: 0 MB of weights, ADDAX_REPRO_LIMIT is less" in notes(crashing())
    (folder,) = tmp_path.iterdir()
    assert not (folder / "model.onnx").exists()
    assert (folder / "model.txt").exists()


def test_a_folder_that_cannot_be_written_hides_nothing(crashing, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADDAX_REPRO", str(tmp_path / "file"))
    assert "no folder to reproduce this could be written" in notes(crashing())


def test_errors_of_the_user_leave_nothing(crashing, tmp_path):
    with pytest.raises(OptionError):
        addax.optimize(parse_text(BODY), pipeline="no-such-pass")
    assert [] == list(tmp_path.iterdir())
