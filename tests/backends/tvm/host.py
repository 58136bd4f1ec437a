"""Text for GPUs run by threads of a processor: built as C++, called through ctypes."""

import ctypes
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from addax.backends.gpu.languages import LANGUAGES
from addax.backends.gpu.launch import Launch
from tests.backends.tvm.layers import blocks

_TYPES = {"int32": "int", "float32*": "float *", "int32*": "int *"}
_FLAGS = ["-std=c++20", "-O1", "-fno-strict-aliasing", "-w", "-shared", "-fPIC", "-pthread"]


def compiler() -> str | None:
    """A C++ compiler, if there is one."""
    return next((found for name in ("g++", "clang++") if (found := shutil.which(name))), None)


class OnHost:
    """Kernels in CUDA or Metal by their names, without `addax_`."""

    def __init__(
        self, language: str, files: Mapping[str, str], launches: Mapping[str, Launch], folder: Path
    ) -> None:
        header = Path(__file__).with_name("host.h").read_text("utf-8")
        made = []
        for name, text in files.items():
            held = [
                one for one in launches.values() if LANGUAGES[language].file_of(one.name) == name
            ]
            callers = "".join(_caller(language, launch) for launch in held)
            made.append(folder / f"{name}.cpp")
            made[-1].write_text(f"#define {language.upper()}\n{header}{text}\n{callers}", "utf-8")
        (folder / "metal_stdlib").write_text("")
        library = folder / "kernels.so"
        options = [*_FLAGS, "-I", str(folder), "-o", str(library)]
        subprocess.run([str(compiler()), *options, *map(str, made)], check=True)
        self._library, self._launches = ctypes.CDLL(str(library)), launches

    def run(self, kernel: str, arguments: Mapping[str, Any]) -> None:
        """Launch a kernel on arrays and numbers."""
        launch = self._launches[kernel]
        given = [arguments[name] for name in launch.parameters]
        values = [
            value.ctypes.data_as(ctypes.c_void_p) if isinstance(value, np.ndarray) else value
            for value in given
        ]
        self.call(launch.name, blocks(launch, arguments), values)

    def call(self, entry: str, grid: Sequence[int], values: Sequence[Any]) -> None:
        """Run an entry point on blocks along x and y; values are addresses and integers."""
        self._library[f"launch_{entry}"](*grid, *values)


def _caller(language: str, launch: Launch) -> str:
    declared = "".join(f", {_TYPES[kind]} {name}" for name, kind in launch.parameters.items())
    before, given = "", [*launch.parameters]
    if language == "metal":
        numbers = [name for name, kind in launch.parameters.items() if not kind.endswith("*")]
        before = f"  {launch.name}_args_t arg;\n" + "".join(
            f"  arg.{name}[0] = {name};\n" for name in numbers
        )
        given = [*(name for name in given if name not in numbers), "arg", "block", "here"]
    return (
        f'extern "C" void launch_{launch.name}(int blocks_x, int blocks_y{declared}) {{\n{before}'
        f"  launch(blocks_x, blocks_y, {launch.threads}, "
        f"[=] {{ {launch.name}({', '.join(given)}); }});\n}}\n"
    )
