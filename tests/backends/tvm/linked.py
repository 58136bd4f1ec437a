"""The kernels of `kernels.c` as an object file, to be linked to models."""

import functools
import subprocess
import tempfile
from pathlib import Path

from addax.backends.compiler import find_compiler
from addax.backends.kernel_code import KernelCode
from addax.backends.ort import FORMS
from addax.backends.target import InstructionSet
from tests.backends.ort.libraries import MANY

SOURCE = Path(__file__).parents[1] / "ort" / "kernels.c"


@functools.cache
def plain_code() -> KernelCode:
    """Kernels in plain loops; those for many rows take over at MANY."""
    few = dict.fromkeys(FORMS, MANY - 1)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "kernels.o"
        command = [*find_compiler().command, "-std=gnu11", "-O2", "-fPIC", "-c"]
        subprocess.run([*command, str(SOURCE), "-o", str(made)], check=True)
        return KernelCode(InstructionSet("scalar", "", "", few=few), made.read_bytes())
