"""The C compiler of this machine."""

import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from addax.errors import BuildError


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
            raise BuildError(
                f"expected a compiler, but CC={os.environ['CC']} names no program; unset it or "
                "install that program"
            )
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
