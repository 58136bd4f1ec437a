"""Every block of Python in the documentation runs, and its tests pass."""

import re
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

from addax.explain import describe_passes
from addax.passes._family import families
from tests.whole.repository import ROOT

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list:
    """The blocks that run; those fenced as `python no-run` need files that are not here."""
    return [
        pytest.param(path, found[1], id=f"{path.name}:{text.count(chr(10), 0, found.start()) + 2}")
        for path in sorted((ROOT / "docs").rglob("*.md"))
        for text in [path.read_text("utf-8")]
        for found in _BLOCK.finditer(text)
    ]


@pytest.mark.parametrize(("path", "code"), blocks())
def test_a_block_runs(path: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    space = {"__name__": path.stem}
    exec(compile(code, str(path), "exec"), space)  # noqa: S102 - our own documentation
    for name in [name for name in space if name.startswith("test_")]:
        few = hypothesis.settings(max_examples=5)
        few(space[name])()


def test_there_are_blocks():
    assert len(blocks()) >= 3


def test_the_list_of_passes_is_the_truth():
    expected = describe_passes(families().values())
    actual = (ROOT / "docs" / "passes.md").read_text("utf-8").rstrip("\n")
    assert expected == actual, "run `addax passes --markdown > docs/passes.md`"


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text("utf-8")
    pages = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert [] == [page for page in pages if f": {page}\n" not in menu]


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path: Path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert 0 == done.returncode, done.stderr
    assert (tmp_path / "planner" / "index.html").exists()
    assert [] == [p for p in tmp_path.rglob("*.html") if "```" in p.read_text("utf-8")]
