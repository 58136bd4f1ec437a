"""What every file of the repository obeys: size, names, no traces of a machine."""

import re

import pytest

from tests.whole.repository import PACKAGE, ROOT, module_name, python_files, tracked

FOLDERS = ("addax", "tests", "bench", "examples")
LONGEST = 400
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "core"}
# Paths of machines and of people. A single leading slash inside a URL or a regex is none.
MACHINE = re.compile(
    r"(?<![\w.:/-])/(?:work|tmp|root|home|Users|mnt|opt|var/folders)/[\w.]|[A-Z]:\\\\Users"
)
TEXT = {".py", ".md", ".toml", ".txt", ".cfg", ".yml", ".yaml", ".ini", ".sh", ".c", ".h", ""}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_python_file_is_longer_than_400_lines(folder: str):
    long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files(ROOT / folder)
        if (lines := len(path.read_text("utf-8").splitlines())) > LONGEST
    }
    assert long == {}


def test_modules_are_named_after_what_they_are():
    vague = [path for path in python_files(PACKAGE) if path.stem.strip("_") in VAGUE]
    assert vague == []


def test_every_module_says_what_it_is():
    silent = [
        module_name(path)
        for path in python_files(PACKAGE)
        if path.stat().st_size and not path.read_text("utf-8").startswith('"""')
    ]
    assert silent == []


def test_no_file_names_a_place_on_a_machine():
    found = []
    for path in tracked():
        if path.suffix not in TEXT or path == ROOT / "tests/whole/test_files.py":
            continue
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if MACHINE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("open('/" + "home/someone/model.onnx')", True),
        ("cache = /" + "tmp/x", True),
        ("see https://example.org/home/page", False),
        ("shape [batch, image/height]", False),
        ("ratio work/tmp/x", False),
    ],
)
def test_places_on_machines_are_recognised(line: str, is_one: bool):
    assert is_one == bool(MACHINE.search(line))


def test_every_text_file_ends_in_one_newline():
    wrong = []
    for path in tracked():
        if path.suffix in {".py", ".md", ".toml", ".txt"}:
            text = path.read_bytes()
            if text and (not text.endswith(b"\n") or text.endswith(b"\n\n")):
                wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []
