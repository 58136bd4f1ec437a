"""Every error that the package raises is raised by some test, which matches its text."""

import ast
import re

import pytest

import addax.errors
from tests.whole.repository import PACKAGE, ROOT, python_files, tree, where

pytestmark = pytest.mark.slow

_RUN = 14
_SHORTEST = 7
ERRORS = frozenset(addax.errors.__all__)


def raises() -> list[tuple[str, str, tuple[str, ...]]]:
    """Place, class and the constant parts of the message of each `raise SomeError(...)`."""
    found = []
    for path in python_files(PACKAGE):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and _name(node.func) in ERRORS and node.args:
                parts = tuple(p for p in _constants(node.args[0]) if len(p.strip()) > 3)
                found.append((where(path, node.lineno), _name(node.func), parts))
    return found


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _constants(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return [part for value in node.values for part in _constants(value)]
    if isinstance(node, ast.BinOp):
        return [*_constants(node.left), *_constants(node.right)]
    return []


def texts() -> list[str]:
    """Every string of every test, regular expressions unescaped, and every line of a table."""
    strings = [
        re.sub(r"\\(.)", r"\1", node.value)
        for path in python_files(ROOT / "tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    tables = (path for path in (ROOT / "tests").rglob("*.txt") if "golden" not in path.parts)
    return strings + [line for path in tables for line in path.read_text("utf-8").splitlines()]


def test_every_message_is_matched_by_some_test():
    known = [text for text in texts() if " " in text and 10 <= len(text) <= 400]
    missing = [
        f"{place} {cls}: {' ... '.join(parts)[:110]}"
        for place, cls, parts in raises()
        if parts and not any(quotes(text, parts) for text in known)
    ]
    assert missing == []


def quotes(text: str, parts: tuple[str, ...]) -> bool:
    """Whether a test's string and a message share a telling run of characters."""
    return any(
        part[start : start + _RUN].strip() in text
        for part in map(str.strip, parts)
        if len(part) >= _SHORTEST
        for start in range(max(1, len(part) - _RUN + 1))
    )


def test_what_counts_as_a_quotation():
    parts = ("expected a fixed point within ", " rewrites, but the rules keep rewriting")
    assert quotes("expected a fixed point within 50 rewrites", parts)
    assert quotes("but the rules keep.*rewriting", parts)
    assert not quotes("expected something else", parts)
    assert not quotes("rewrites", parts)
