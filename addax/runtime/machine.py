"""What this machine has that makes models fast: compilers, TVM, instructions, kernels built."""

import importlib.metadata
import platform
import shlex
from dataclasses import dataclass
from pathlib import Path

from addax.backends.compiler import find_compiler
from addax.errors import BuildError
from addax.runtime.kernels import best_target, built_kernels, usable_sets


@dataclass(frozen=True)
class Machine:
    """This machine.

    Attributes:
        system: Operating system and processor: "Linux x86_64".
        onnxruntime: Its version.
        tvm: Its version; None if it is not installed.
        compiler: The command of the C compiler that builds the library; None if there is none.
        sets: Names of the instruction sets that addax has kernels for and the processor has, the
            preferred one first.
        used: The one of them that kernels are built for; None if there is none.
        library: The library of kernels, if it was built before.
        missing: What keeps kernels from being built, for people; "" if nothing does.
    """

    system: str
    onnxruntime: str
    tvm: str | None
    compiler: str | None
    sets: tuple[str, ...]
    used: str | None
    library: Path | None
    missing: str

    @staticmethod
    def here() -> "Machine":
        """Ask this machine; what says which instructions it has is compiled the first time."""
        compiler, sets, used, library, missing = None, tuple[str, ...](), None, None, ""
        try:
            compiler = shlex.join(find_compiler().command)
            sets = tuple(isa.name for isa in usable_sets())
            used = best_target().sets[0].name
            kernels = built_kernels()
            library = None if kernels is None else kernels.path
        except BuildError as error:
            missing = str(error)
        tvm = _version("apache-tvm")
        if tvm is None and library is None and not missing:
            missing = "kernels are made with TVM: pip install addax[tvm]"
        system = f"{platform.system()} {platform.machine()}"
        runtime = _version("onnxruntime") or "not installed"
        return Machine(system, runtime, tvm, compiler, sets, used, library, missing)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
