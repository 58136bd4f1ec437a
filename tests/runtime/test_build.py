"""Libraries are built once for each content, by any compiler there is, or it is said what fails."""

import concurrent.futures
import ctypes
import sys
from pathlib import Path

import pytest

from addax.backends import compiler
from addax.backends.compiler import find_compiler
from addax.errors import BuildError
from addax.runtime import build as module
from addax.runtime.build import build

SOURCE = '__attribute__((visibility("default"))) int answer(void) { return ANSWER; }\n'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ADDAX_CACHE", str(tmp_path / "kept"))
    monkeypatch.delenv("CC", raising=False)
    return tmp_path / "kept"


def sources(answer: int = 42) -> dict[str, str]:
    return {"answer.c": '#include "answer.h"\n' + SOURCE, "answer.h": f"#define ANSWER {answer}\n"}


def answer(path: Path) -> int:
    return ctypes.CDLL(str(path)).answer()


def test_content_decides_what_is_built():
    first, again, other = build("a", sources()), build("a", sources()), build("a", sources(7))
    assert first == again != other
    assert (42, 7) == (answer(first), answer(other))


def test_objects_are_made_only_when_there_is_no_library():
    calls = []

    def objects():
        calls.append(1)
        return {}

    first = build("a", sources(), objects, "key")
    assert first == build("a", sources(), objects, "key")
    assert 1 == len(calls)
    assert first != build("a", sources(), objects, "another key")
    assert 2 == len(calls)


def test_a_damaged_library_is_built_again():
    path = build("a", sources())
    path.write_bytes(path.read_bytes()[:1000])
    assert 42 == answer(build("a", sources()))


def _build(number: int) -> int:
    return answer(build("a", sources()))


def test_two_processes_build_at_once():
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        assert [42] * 4 == list(pool.map(_build, range(4)))


def test_the_first_compiler_there_is(monkeypatch, tmp_path):
    names = ("mine", "cc", "clang")
    for name in names:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "mine -O1")
    assert (str(tmp_path / "mine"), "-O1") == find_compiler().command
    monkeypatch.delenv("CC")
    assert (str(tmp_path / "cc"),) == find_compiler().command
    (tmp_path / "cc").unlink()
    assert (str(tmp_path / "clang"),) == find_compiler().command
    (tmp_path / "clang").unlink()
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: name == "ziglang")
    monkeypatch.setattr(compiler.importlib.metadata, "version", lambda name: "0.1")
    found = find_compiler()
    assert ((sys.executable, "-m", "ziglang", "cc"), "ziglang 0.1") == (
        found.command,
        found.identity,
    )


def test_a_compiler_that_changes_builds_anew(monkeypatch, tmp_path):
    (tmp_path / "cc").write_text("#!/bin/sh\n")
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    before = find_compiler().identity
    (tmp_path / "cc").write_text("#!/bin/sh\necho\n")
    assert before != find_compiler().identity


def test_no_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BuildError, match=r"found none: install one.*pip install addax\[compiler\]"):
        build("a", sources())


def test_a_chosen_compiler_that_is_not_there(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -O3")
    with pytest.raises(BuildError, match="CC=no-such-compiler -O3 names no program; unset it"):
        build("a", sources())


def test_a_compiler_that_fails(monkeypatch, folder):
    monkeypatch.setenv("CC", "false")
    with pytest.raises(BuildError, match=r"(?s)the compiler failed with status 1: .*said nothing"):
        build("a", sources())
    assert [] == list(folder.iterdir())


def test_the_last_words_of_a_compiler():
    with pytest.raises(BuildError, match=r"(?s)status 1: .*ANSWER.*Set CC to another compiler"):
        build("a", {"answer.c": SOURCE})


def test_a_compiler_that_writes_nothing(monkeypatch):
    monkeypatch.setenv("CC", "true")
    with pytest.raises(BuildError, match="reported success but wrote no library"):
        build("a", sources())


def test_a_compiler_that_never_ends(monkeypatch, tmp_path):
    script = tmp_path / "slow"
    script.write_text("#!/bin/sh\nexec sleep 30\n")
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    monkeypatch.setattr(module, "_SECONDS", 0.1)
    with pytest.raises(BuildError, match=r"slow could not be run: .*timed out"):
        build("a", sources())


def test_a_cache_folder_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADDAX_CACHE", str(tmp_path / "file"))
    with pytest.raises(BuildError, match=r"cannot be written: .*set ADDAX_CACHE to a folder"):
        build("a", sources())


@pytest.mark.slow
def test_ziglang_builds_it(monkeypatch):
    pytest.importorskip("ziglang")
    monkeypatch.setenv("CC", f"{sys.executable} -m ziglang cc")
    assert 42 == answer(build("a", sources()))
