"""The CMake project of a target, built by a cross compiler and run under an emulator."""

import functools
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from addax.backends.ort.project import LIBRARY, project
from addax.backends.target import Target
from tests.backends.ort.libraries import weights

HERE = Path(__file__).parent
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
CROSS = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64")
_TYPES = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int8): 3}
_MISSING = [tool for tool in (COMPILER, EMULATOR, "cmake") if shutil.which(tool) is None]

needs_tools = pytest.mark.skipif(
    bool(_MISSING),
    reason=f"{', '.join(_MISSING)} missing: apt install gcc-aarch64-linux-gnu qemu-user cmake",
)


@dataclass(frozen=True)
class Run:
    """What the mock runtime saw: ops registered, the path of each form, output 0."""

    ops: tuple[str, ...]
    paths: Mapping[str, str]
    y: np.ndarray


def run_tool(*command: object, **environment: str) -> str:
    """A command that must succeed; what it prints."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def plain_objects(target: Target) -> dict[str, bytes]:
    """The kernels in plain loops of `kernels.c` for each instruction set of an Arm target."""
    return {f"{isa.name}.o": _plain_object(isa.name) for isa in target.sets}


@functools.cache
def _plain_object(isa: str) -> bytes:
    text = (HERE / "kernels.c").read_text("utf-8").replace("_scalar", f"_{isa}")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "kernels.c"), Path(folder, "kernels.o")
        source.write_text(text, "utf-8")
        run_tool(COMPILER, "-O1", "-fPIC", "-c", source, "-o", made)
        return made.read_bytes()


def write_project(target: Target, objects: Mapping[str, bytes], folder: Path) -> Path:
    """The project's folder."""
    folder.mkdir(parents=True)
    for name, text in project(target).items():
        (folder / name).write_text(text, "utf-8")
    for name, data in objects.items():
        (folder / name).write_bytes(data)
    return folder


def build_library(folder: Path, *options: str) -> Path:
    """The library that CMake makes of a project."""
    options = (*CROSS, f"-DCMAKE_C_COMPILER={COMPILER}", *options)
    run_tool("cmake", "-S", folder, "-B", folder / "build", *options)
    run_tool("cmake", "--build", folder / "build")
    (made,) = (folder / "build").glob(f"lib{LIBRARY}.*")
    return made


def build_runtime(folder: Path, archive: Path | None = None) -> Path:
    """The mock runtime; with an archive, linked to it."""
    made = folder / "mock_runtime"
    extra = ["-DSTATIC", archive, "-lm"] if archive is not None else []
    run_tool(COMPILER, "-O1", HERE / "mock_runtime.c", *extra, "-ldl", "-o", made)
    return made


def run_layer(
    runtime: Path, library: Path, form: str, rows: int, x: np.ndarray, cpu: str, **environment: str
) -> Run:
    """One layer of `rows` outputs, its weights drawn, on activations x under the emulator."""
    op_type, inputs, attributes, _ = weights(form, rows, x.shape[-1])
    case, out = runtime.with_suffix(".case"), runtime.with_suffix(".out")
    case.write_bytes(_case(op_type, attributes, x, inputs))
    root = ("-L", "/usr/aarch64-linux-gnu")
    printed = run_tool(EMULATOR, "-cpu", cpu, *root, runtime, library, case, out, **environment)
    lines = [line.split() for line in printed.splitlines()]
    (dims,) = (tuple(map(int, rest)) for word, *rest in lines if word == "shape")
    return Run(
        tuple(rest[0] for word, *rest in lines if word == "registered"),
        {rest[0]: rest[1] for word, *rest in lines if word == "path"},
        np.fromfile(out, np.float32).reshape(dims),
    )


def _case(
    op_type: str, attributes: Mapping[str, int], x: np.ndarray, inputs: Mapping[str, np.ndarray]
) -> bytes:
    """The file that `mock_runtime.c` reads."""
    made = [struct.pack("<32si", op_type.encode(), len(attributes))]
    made += [
        struct.pack("<24sqfi", name.encode(), value, value, 0) for name, value in attributes.items()
    ]
    made.append(struct.pack("<i", 1 + len(inputs)))
    for is_constant, array in [(0, x), *((1, array) for array in inputs.values())]:
        made.append(struct.pack("<iii", is_constant, _TYPES[array.dtype], array.ndim))
        made.append(struct.pack(f"<{array.ndim}qq", *array.shape, array.nbytes))
        made.append(np.ascontiguousarray(array).tobytes())
    return b"".join(made)
