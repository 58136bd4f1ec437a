"""Cached files: made once, whole or not at all, made anew when damaged, by many at once."""

import concurrent.futures
import os
from pathlib import Path

import pytest

from addax.backends import cache
from addax.backends.cache import cache_folder, cached, digest_of, key_of


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ADDAX_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


class Maker:
    """Writes a file and counts how often it was asked to."""

    def __init__(self, text="made"):
        self.text, self.calls = text, 0

    def __call__(self, path: Path) -> None:
        self.calls += 1
        path.write_text(self.text, "ascii")


def test_a_file_is_made_once_and_found_again(folder):
    make = Maker()
    first, second = cached("ab", "x.so", make), cached("ab", "x.so", make)
    assert (1, first, "made") == (make.calls, second, first.read_text("ascii"))
    assert ["ab"] == os.listdir(folder)


@pytest.mark.parametrize("damage", ["truncated", "changed", "no digest", "gone"])
def test_a_damaged_file_is_made_anew(damage):
    make = Maker()
    path = cached("ab", "x.so", make)
    match damage:
        case "truncated":
            path.write_bytes(path.read_bytes()[:1])
        case "changed":
            path.write_text("nade", "ascii")
        case "no digest":
            (path.parent / "sha256").unlink()
        case "gone":
            path.unlink()
    assert "made" == cached("ab", "x.so", make).read_text("ascii")
    assert (2, ["ab"]) == (make.calls, os.listdir(cache_folder()))


def test_what_fails_leaves_nothing(folder):
    def fail(path: Path) -> None:
        path.write_text("half", "ascii")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        cached("ab", "x.so", fail)
    assert [] == os.listdir(folder)


def _make_slowly(number: int) -> str:
    def make(path: Path) -> None:
        with path.open("w") as file:
            for _ in range(200):
                file.write(f"{number:05}\n")
                file.flush()

    return cached("ab", "x.so", make).read_text("ascii")


def test_two_processes_that_make_the_same_at_once_both_see_a_whole_file():
    with concurrent.futures.ProcessPoolExecutor(4) as pool:
        texts = list(pool.map(_make_slowly, range(12)))
    assert {200} == {len(text.splitlines()) for text in texts}
    assert {1} == {len(set(text.splitlines())) for text in texts}
    assert ["ab"] == os.listdir(cache_folder())


def test_a_folder_that_cannot_be_replaced(folder, monkeypatch):
    monkeypatch.setattr(cache, "_replace", lambda made, folder: None)
    with pytest.raises(PermissionError, match=r"expected to replace the damaged .*remove that"):
        cached("ab", "x.so", Maker())


def test_where_files_are_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("ADDAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "w"))
    places = {"linux": tmp_path / "x", "win32": tmp_path / "w"}
    for platform, place in places.items():
        monkeypatch.setattr("sys.platform", platform)
        assert place / "addax" == cache_folder()
    monkeypatch.setattr("sys.platform", "darwin")
    assert Path.home() / "Library/Caches/addax" == cache_folder()


def test_keys_tell_apart_where_a_text_ends():
    assert key_of(["ab", "c"]) != key_of(["a", "bc"])
    assert key_of(["é"]) == key_of(["é".encode()])


def test_the_digest_of_a_file(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert digest_of(tmp_path / "f").startswith("ba7816bf8f01cfea")
