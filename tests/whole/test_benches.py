"""Every bench imports without doing anything, and has the form that all benches have."""

import ast
import importlib
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
MODULES = sorted(path.stem for path in BENCH.glob("*.py") if path.stem != "__init__")


def runs_as_a_script(module: str) -> bool:
    """Whether a module does something when it is run: then it is a bench."""
    tree = ast.parse((BENCH / f"{module}.py").read_text("utf-8"))
    tests = [ast.unparse(node.test) for node in tree.body if isinstance(node, ast.If)]
    return "__name__ == '__main__'" in tests


BENCHES = [module for module in MODULES if runs_as_a_script(module)]


@pytest.mark.parametrize("module", MODULES)
def test_imports_without_a_word(module: str, capfd: pytest.CaptureFixture[str]) -> None:
    importlib.import_module(f"bench.{module}")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("module", BENCHES)
def test_has_a_quick_form(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(f"bench.{module}").main
    with pytest.raises(SystemExit) as stop:
        main(["--quick", "--seed", "1", "--help"])
    assert stop.value.code == 0
    page = capsys.readouterr().out
    assert page.startswith(f"usage: python -m bench.{module} ")
    assert "--quick" in page
    assert "--seed" in page


@pytest.mark.parametrize("module", BENCHES)
def test_an_unknown_option_stops_before_any_work(module: str) -> None:
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"bench.{module}").main(["--no-such-option"])
    assert stop.value.code == 2


@pytest.mark.parametrize("module", BENCHES)
def test_says_how_to_run_it(module: str) -> None:
    text = ast.get_docstring(ast.parse((BENCH / f"{module}.py").read_text("utf-8")))
    assert text is not None
    assert f"python -m bench.{module}" in text


def test_there_are_benches() -> None:
    assert {"passes", "train_digits"} <= set(BENCHES)
