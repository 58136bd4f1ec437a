"""Machine code of a whole model: compiled in memory, written to a file, loaded, run."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from addax.backends.compiler import find_compiler
from addax.backends.kernel_code import KernelCode
from addax.errors import BuildError, ModelFileError

_INTERFACE = "addax_interface"
_NAME = "model.so"


@dataclass(frozen=True)
class Slot:
    """One input or output: its name in the model, NumPy's name of its type, its shape."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Interface:
    """The inputs of a model in order, and its outputs in order."""

    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]

    @classmethod
    def read(cls, text: str) -> "Interface":
        """The interface that `write` wrote."""
        inputs, outputs = (
            tuple(Slot(name, dtype, tuple(shape)) for name, dtype, shape in slots)
            for slots in json.loads(text)
        )
        return cls(inputs, outputs)

    def write(self) -> str:
        """The interface as text; names may hold any character."""
        return json.dumps(astuple(self))


class Library:
    """A compiled model, called with arrays in the order of its inputs.

    Attributes:
        interface: What goes in and what comes out; it travels inside the file.
    """

    def __init__(
        self, module: Any, folder: "tempfile.TemporaryDirectory[str] | None" = None
    ) -> None:
        self._module = module
        self._folder = folder  # holds the file that the module was loaded from; goes with us
        self._machine = relax.VirtualMachine(module, tvm.cpu())
        self.interface = Interface.read(self._machine[_INTERFACE]().numpy().tobytes().decode())

    @classmethod
    def linked(cls, executable: Any, code: KernelCode) -> "Library":
        """A library of compiled code and the kernels that it calls.

        Raises:
            BuildError: If there is no linker, or it fails.
        """
        folder = tempfile.TemporaryDirectory(prefix="addax-", ignore_cleanup_errors=True)
        kernels, made = Path(folder.name) / "kernels.o", Path(folder.name) / _NAME
        try:
            kernels.write_bytes(code.data)
            _export(executable, made, kernels)
            kernels.unlink()
        except (OSError, RuntimeError) as error:
            raise BuildError(
                f"the kernels cannot be linked to the model: {_first(error)}"
            ) from error
        return cls(tvm.runtime.load_module(os.fspath(made)), folder)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Library":
        """The library that `save` wrote.

        Raises:
            ModelFileError: If there is no such file, or it is none of ours.
        """
        if not Path(path).is_file():
            raise ModelFileError(f"{os.fspath(path)}: no such file")
        try:
            return cls(tvm.runtime.load_module(os.fspath(path)))
        except (RuntimeError, AttributeError, ValueError, OSError) as error:
            raise ModelFileError(
                f"{os.fspath(path)}: expected a library that addax saved for this kind of "
                f"machine: {_first(error)}"
            ) from error

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run once: arrays of exactly the types and sizes that the interface says."""
        given = [tvm.runtime.tensor(np.asarray(array, order="C")) for array in arrays]
        return [made.numpy() for made in self._machine["main"](*given)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a shared library that TVM's runtime loads; it is there whole or not at all.

        Raises:
            ModelFileError: If there is no linker, or the file cannot be written.
        """
        target = Path(path)
        try:
            with tempfile.TemporaryDirectory(prefix=".addax-", dir=target.parent) as folder:
                made = Path(folder) / _NAME
                if self._folder is None:
                    _export(self._module, made)
                else:
                    shutil.copyfile(Path(self._folder.name) / _NAME, made)
                made.replace(target)
        except (BuildError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            raise ModelFileError(f"{target}: cannot write the library: {_first(error)}") from error


def compiled(
    module: tvm.IRModule,
    interface: Interface,
    target: tvm.target.Target,
    code: KernelCode | None = None,
) -> Library:
    """Machine code for a Relax module whose operators are loops already, or calls of kernels.

    Raises:
        BuildError: If the kernels cannot be linked.
    """
    text = np.frombuffer(interface.write().encode(), np.uint8)
    builder = relax.BlockBuilder(module)
    with builder.function(_INTERFACE, params=[]):
        builder.emit_func_output(builder.emit(relax.const(text)))
    executable = tvm.compile(builder.get(), target=target)
    return Library(executable) if code is None else Library.linked(executable, code)


def _export(module: Any, path: Path, *others: Path) -> None:
    def link(output: str, objects: Sequence[str], **_: Any) -> None:
        files = [*objects, *map(os.fspath, others)]
        command = [*find_compiler().command, "-shared", "-fPIC", "-o", output, *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise OSError(f"{command[0]} failed: {done.stderr.strip()[-500:]}")

    module.export_library(os.fspath(path), fcompile=link)


def _first(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:500]
