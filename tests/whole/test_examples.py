"""Every example runs as it stands, and is short enough to be read at once."""

import runpy
import sys

import pytest

from tests.whole.repository import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ARGUMENTS = {"train_mixture": ["2"]}
SLOW = {"onnx_file", "train_mixture", "vision_transformer"}
PRINTS = {
    "language_model": " ",
    "onnx_file": "-> class ",
    "own_rule": "['Clip']",
    "train_mixture": "% right",
    "vision_transformer": "4 bits: ",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.stem, marks=[pytest.mark.slow] if path.stem in SLOW else [])
        for path in EXAMPLES
    ],
)
def test_an_example_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *ARGUMENTS.get(name, [])])
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    assert PRINTS[name] in capsys.readouterr().out


def test_examples_are_five_of_forty_lines_at_most():
    assert set(PRINTS) == {path.stem for path in EXAMPLES}
    assert 5 == len(EXAMPLES)
    assert all(len(path.read_text("utf-8").splitlines()) <= 40 for path in EXAMPLES)
