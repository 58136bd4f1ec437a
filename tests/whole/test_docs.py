"""Every block of Python in the documentation runs, and its tests pass."""

import re
from pathlib import Path

import hypothesis
import pytest

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
