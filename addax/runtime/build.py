"""Compile C sources and objects to a shared library, once for each content and compiler."""

import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from addax.backends.cache import cached, key_of
from addax.errors import BuildError

_FLAGS = ("-std=gnu11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden")
_SECONDS = 300  # that a compiler may take; it needs about one
_LINES_TOLD = 12
SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")


@dataclass(frozen=True)
class Compiler:
    """A C compiler: the command that starts it and what tells it from others."""

    command: tuple[str, ...]
    identity: str


def find_compiler() -> Compiler:
    """The first of `$CC`, cc, clang and ziglang's compiler that is there.

    Raises:
        BuildError: If there is none, or `$CC` names none.
    """
    if chosen := shlex.split(os.environ.get("CC", "")):
        found = shutil.which(chosen[0])
        if found is None:
            raise BuildError(f"expected a compiler, but CC={os.environ['CC']} names no program")
        return _program(found, chosen[1:])
    for name in ("cc", "clang"):
        if (found := shutil.which(name)) is not None:
            return _program(found, [])
    if importlib.util.find_spec("ziglang") is not None:
        version = importlib.metadata.version("ziglang")
        return Compiler((sys.executable, "-m", "ziglang", "cc"), f"ziglang {version}")
    raise BuildError(
        "expected a C compiler ($CC, cc, clang or ziglang), found none: install one, for instance "
        "by pip install addax[compiler]"
    )


def _program(path: str, arguments: Sequence[str]) -> Compiler:
    """The file's size and time stand for its version: asking it would take longer than all else."""
    status = os.stat(os.path.realpath(path))
    identity = f"{path} {list(arguments)} {status.st_size} {status.st_mtime_ns}"
    return Compiler((path, *arguments), identity)


def build(
    name: str,
    sources: Mapping[str, str],
    objects: Callable[[], Mapping[str, bytes]] = dict,
    key: str = "",
) -> Path:
    """A shared library of C sources and objects; from the cache if it was built before.

    Args:
        name: The name of the library, without suffix.
        sources: The text of each file by its name; those that end in `.c` are compiled.
        objects: Makes the objects to link, by file name; called only when there is no library.
        key: What the objects depend on; the cached library is used while it stays the same.

    Raises:
        BuildError: If there is no compiler, it fails, or the cache folder cannot be written.
    """
    compiler = find_compiler()
    content = [part for item in sorted(sources.items()) for part in item]
    parts = [sys.platform, compiler.identity, *_FLAGS, key, name, *content]
    try:
        return cached(
            key_of(parts), name + SUFFIX, lambda path: _link(compiler, sources, objects(), path)
        )
    except OSError as error:
        raise BuildError(
            f"the library of kernels cannot be written: {error}; set ADDAX_CACHE to a folder that "
            "can be written"
        ) from error


def _link(
    compiler: Compiler, sources: Mapping[str, str], objects: Mapping[str, bytes], made: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="addax-build-") as text:
        folder = Path(text)
        for file, source in sources.items():
            (folder / file).write_text(source, "utf-8")
        for file, data in objects.items():
            (folder / file).write_bytes(data)
        inputs = [file for file in (*sources, *objects) if not file.endswith(".h")]
        command = [*compiler.command, *_FLAGS, *sorted(inputs), "-o", str(made), "-lm"]
        _run(command, folder)
    if not made.is_file():
        raise BuildError(f"{shlex.join(command)} reported success but wrote no library")


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603: the command is the user's compiler and our files
            command, cwd=folder, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"the compiler {command[0]} could not be run: {error}") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        told = "\n".join(lines[-_LINES_TOLD:]) or "(it said nothing)"
        raise BuildError(
            f"the compiler failed with status {done.returncode}: {shlex.join(command)}\n{told}\n"
            "Set CC to another compiler, or pip install addax[compiler]"
        )
