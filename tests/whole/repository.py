"""The repository as text: which files are its own, and what they import."""

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "addax"


@functools.cache
def tracked() -> tuple[Path, ...]:
    """Every file under version control that exists; without git, every file that is no build's."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"],  # noqa: S607 - whichever git there is
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return tuple(
            path
            for path in sorted(ROOT.rglob("*"))
            if path.is_file() and not any(p.startswith((".", "build")) for p in path.parts)
        )
    return tuple(ROOT / name for name in listed.split("\0") if name and (ROOT / name).exists())


def python_files(folder: Path) -> list[Path]:
    """The Python files under a folder."""
    return sorted(folder.rglob("*.py"))


@functools.cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"))


def module_name(path: Path) -> str:
    """The dotted name of a module of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Each module that a file imports anywhere, with the line; those for type checkers too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def where(path: Path, line: int) -> str:
    """A place for a message."""
    return f"{path.relative_to(ROOT)}:{line}"
