"""CUDA's text run by threads of a processor: built as C++, called through ctypes."""

import ctypes
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from addax.backends.gpu.launch import Launch
from tests.backends.tvm.layers import blocks

_TYPES = {"int32": "int", "float32*": "float *", "int32*": "int *"}


def compiler() -> str | None:
    """A C++ compiler, if there is one."""
    return next((found for name in ("g++", "clang++") if (found := shutil.which(name))), None)


class CudaOnHost:
    """Kernels by their names, without `addax_`."""

    def __init__(
        self, files: Mapping[str, str], launches: Mapping[str, Launch], folder: Path
    ) -> None:
        source, library = folder / "kernels.cpp", folder / "kernels.so"
        header = Path(__file__).with_name("cuda_host.h").read_text("utf-8")
        source.write_text(
            header + files["kernels.cu"] + "".join(map(_caller, launches.values())), "utf-8"
        )
        flags = ["-std=c++20", "-O1", "-fno-strict-aliasing", "-w", "-shared", "-fPIC", "-pthread"]
        subprocess.run([str(compiler()), *flags, str(source), "-o", str(library)], check=True)
        self._library, self._launches = ctypes.CDLL(str(library)), launches

    def run(self, kernel: str, arguments: Mapping[str, Any]) -> None:
        """Launch a kernel on arrays and numbers."""
        launch = self._launches[kernel]
        given = [arguments[name] for name in launch.parameters]
        values = [
            value.ctypes.data_as(ctypes.c_void_p) if isinstance(value, np.ndarray) else value
            for value in given
        ]
        self._library[f"launch_{launch.name}"](*blocks(launch, arguments), *values)


def _caller(launch: Launch) -> str:
    declared = "".join(f", {_TYPES[kind]} {name}" for name, kind in launch.parameters.items())
    return (
        f'extern "C" void launch_{launch.name}(int blocks_x, int blocks_y{declared}) {{\n'
        f"  launch({{blocks_x, blocks_y}}, {launch.threads}, "
        f"[=] {{ {launch.name}({', '.join(launch.parameters)}); }});\n}}\n"
    )
