"""Machine code of the kernels for a target: made by TVM in a minute, then kept in the cache."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from addax.backends.cache import cached, key_of
from addax.backends.target import InstructionSet, Target
from addax.errors import BuildError

# What kernels come from, in addax/backends.
_GENERATOR = ("kernels", "targets", "target.py", "tvm/builder.py", "tvm/objects.py")
_FOR_GPUS = {"cuda.py", "gpu.py", "grids.py"}  # they make sources, not machine code


def machine_code(target: Target) -> dict[str, bytes]:
    """An object file with every kernel for each instruction set of a target: `avx512.o`.

    Raises:
        BuildError: If one is not in the cache and TVM is missing or fails, or the cache folder
            cannot be written.
    """
    try:
        return {f"{isa.name}.o": _cached(target, isa).read_bytes() for isa in target.sets}
    except OSError as error:
        raise BuildError(
            f"the machine code of the kernels cannot be kept: {error}; set ADDAX_CACHE to a folder "
            "that can be written"
        ) from error


def require_tvm() -> None:
    """Raise a `BuildError` that says what to install, where TVM is missing."""
    if importlib.util.find_spec("tvm") is None:
        raise BuildError(
            "the kernels are made with TVM, which is not installed: pip install addax[tvm]"
        )


def generator_digest() -> str:
    """The digest of what makes the kernels: our generator and the version of TVM."""
    digest = hashlib.sha256()
    for name in _GENERATOR:
        for file in _python_files(resources.files("addax.backends") / name):
            digest.update(file.read_bytes())
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        digest.update(importlib.metadata.version("apache-tvm").encode())
    return digest.hexdigest()


def _cached(target: Target, isa: InstructionSet) -> Path:
    key = key_of(("object", generator_digest(), target.triple, isa.name))
    only = dataclasses.replace(target, sets=(isa,))
    return cached(key, f"{isa.name}.o", lambda path: _make(only, path))


def _make(target: Target, path: Path) -> None:
    require_tvm()
    try:
        from addax.backends.tvm.objects import kernel_objects

        (made,) = kernel_objects(target).values()
    except Exception as error:  # whatever a foreign compiler raises, it is told in one way
        raise BuildError(
            f"TVM could not make the kernels: {type(error).__name__}: {error}; "
            "pip install addax[tvm] has the version that does"
        ) from error
    path.write_bytes(made)


def _python_files(place: Traversable) -> list[Traversable]:
    if place.is_file():
        return [place] if place.name.endswith(".py") and place.name not in _FOR_GPUS else []
    entries = sorted(place.iterdir(), key=lambda entry: entry.name)
    return [file for entry in entries for file in _python_files(entry)]
