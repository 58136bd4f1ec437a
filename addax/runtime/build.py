"""Compile C sources and objects to a shared library, once for each content and compiler."""

import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from addax.backends.cache import cached, kept, key_of
from addax.backends.compiler import Compiler, find_compiler
from addax.errors import BuildError

_FLAGS = ("-std=gnu11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden")
_SECONDS = 300  # that a compiler may take; it needs about one
_LINES_TOLD = 12
SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")


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
    try:
        return cached(
            _key(compiler, name, sources, key),
            name + SUFFIX,
            lambda path: _link(compiler, sources, objects(), path),
        )
    except OSError as error:
        raise BuildError(
            f"the library of kernels cannot be written: {error}; set ADDAX_CACHE to a folder that "
            "can be written"
        ) from error


def built(name: str, sources: Mapping[str, str], key: str = "") -> Path | None:
    """The library that `build` would take from the cache; None if it would make one.

    Raises:
        BuildError: If there is no compiler.
    """
    return kept(_key(find_compiler(), name, sources, key), name + SUFFIX)


def _key(compiler: Compiler, name: str, sources: Mapping[str, str], key: str) -> str:
    content = [part for item in sorted(sources.items()) for part in item]
    return key_of([sys.platform, compiler.identity, *_FLAGS, key, name, *content])


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
        # The command is the user's compiler on our own files; no shell reads it.
        done = subprocess.run(  # noqa: S603
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
