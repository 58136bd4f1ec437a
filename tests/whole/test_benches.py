"""Every bench imports without doing anything, and has the form that all benches have."""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
MODULES = sorted(path.stem for path in BENCH.glob("*.py") if path.stem != "__init__")
PACKAGES = sorted(path.parent.name for path in BENCH.glob("*/__main__.py"))


def text_of(bench: str) -> str:
    """The file that runs where a bench is a module, or a package."""
    path = BENCH / bench / "__main__.py" if bench in PACKAGES else BENCH / f"{bench}.py"
    return path.read_text("utf-8")


def main_of(bench: str) -> Callable[[list[str]], None]:
    return importlib.import_module(f"bench.{bench}" + ".__main__" * (bench in PACKAGES)).main


def runs_as_a_script(module: str) -> bool:
    """Whether a module does something when it is run: then it is a bench."""
    tree = ast.parse(text_of(module))
    tests = [ast.unparse(node.test) for node in tree.body if isinstance(node, ast.If)]
    return "__name__ == '__main__'" in tests


BENCHES = [module for module in (*MODULES, *PACKAGES) if runs_as_a_script(module)]


@pytest.mark.parametrize("module", MODULES)
def test_imports_without_a_word(module: str, capfd: pytest.CaptureFixture[str]) -> None:
    importlib.import_module(f"bench.{module}")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("module", BENCHES)
def test_has_a_quick_form(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = main_of(module)
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
        main_of(module)(["--no-such-option"])
    assert stop.value.code == 2


@pytest.mark.parametrize("module", BENCHES)
def test_says_how_to_run_it(module: str) -> None:
    text = ast.get_docstring(ast.parse(text_of(module)))
    assert text is not None
    assert f"python -m bench.{module}" in text


def test_there_are_benches() -> None:
    assert {"passes", "train_digits", "kernels", "shiftaddvit"} <= set(BENCHES)
