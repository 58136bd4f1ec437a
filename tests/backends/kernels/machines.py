"""What runs the kernels of an instruction set: this processor, or QEMU; or why nothing does.

Machine code is made by the product, and kept in its cache: a second run makes nothing.
"""

import ctypes
import functools
import importlib.util
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from addax.backends import targets
from addax.backends.cache import cached, key_of
from addax.backends.target import InstructionSet, Target
from addax.runtime.build import build
from addax.runtime.objects import generator_digest, machine_code
from tests.backends.kernels.program import Argument, Call, Machine, Place
from tests.conftest import cpu_features

X86 = (targets.AVX512, targets.AVX2, targets.SCALAR, targets.NO_MULTIPLIER)
ARM = (targets.NEON_DOT, targets.NEON)
SETS: Mapping[str, InstructionSet] = {isa.name: isa for isa in (*X86, *ARM)}
HARNESS = Path(__file__).with_name("harness.c")
_CROSS, _QEMU = "aarch64-linux-gnu-gcc", "qemu-aarch64"
_SECONDS = 120


def machine(name: str) -> Machine:
    """What runs the instruction set here; a test that asks for what cannot run is skipped."""
    isa = SETS[name]
    if reason := _missing(isa):
        pytest.skip(reason)
    return _emulated(name) if isa in ARM and not _is_arm() else _native(name)


def _missing(isa: InstructionSet) -> str:
    if not targets.host().sets:
        return "addax has no kernels for this processor"
    if isa in ARM and not _is_arm():
        absent = [tool for tool in (_CROSS, _QEMU) if shutil.which(tool) is None]
        if absent:
            return f"{isa.name} runs under QEMU, which needs {' and '.join(absent)}"
    elif isa in (targets.AVX512, targets.AVX2, targets.SCALAR) and _is_arm():
        return f"{isa.name} is for x86-64, this is {platform.machine()}"
    else:
        features = {name.replace("_", "") for name in cpu_features()}
        features |= {"dotprod"} & {name.replace("asimddp", "dotprod") for name in features}
        absent = [name for name in isa.requires if name not in features]
        if absent:
            return f"this processor has no {', '.join(absent)}"
    if importlib.util.find_spec("tvm") is None:
        return "kernels are made with TVM: pip install addax[tvm]"
    return ""


def _native_sets() -> list[str]:
    return [name for name, isa in SETS.items() if not _missing(isa) and (isa in X86) != _is_arm()]


def _is_arm() -> bool:
    return platform.machine().lower() in {"aarch64", "arm64"}


@functools.cache
def _native(name: str) -> Machine:
    target = Target(name, targets.host().triple, (SETS[name],))
    path = build(
        f"kernels-{name}",
        {},
        lambda: machine_code(target),
        key_of((generator_digest(), target.triple)),
    )
    return Native(name, ctypes.CDLL(str(path)))


class Native:
    """This processor, through ctypes."""

    def __init__(self, isa: str, library: ctypes.CDLL) -> None:
        self._isa, self._library = isa, library

    def run(self, memory: np.ndarray, calls: Sequence[Call]) -> np.ndarray:
        whole = np.zeros(len(memory) + 64, np.uint8)
        start = -whole.ctypes.data % 64
        aligned = whole[start : start + len(memory)]
        aligned[:] = memory
        for call in calls:
            self.call(call, lambda place: aligned.ctypes.data + place.start)
        return aligned

    def call(self, call: Call, address: Callable[[Place], int]) -> None:
        function = self._library[f"addax_{call.kernel}_{self._isa}"]
        function.restype = None
        function(*(_c_argument(address, one) for one in call.arguments))


def _c_argument(address: Callable[[Place], int], argument: Argument) -> object:
    if argument is None:
        return ctypes.c_void_p()
    if isinstance(argument, Place):
        return ctypes.c_void_p(address(argument))
    return (ctypes.c_float if isinstance(argument, float) else ctypes.c_int32)(argument)


@functools.cache
def _emulated(name: str) -> Machine:
    target = Target(name, "aarch64-linux-gnu", (SETS[name],))
    return Harness((_CROSS, "-static"), (_QEMU, "-cpu", "max"), target)


_CALL = np.dtype([("kernel", "S48"), ("arguments", np.int64, 20)])  # as in harness.c


class Harness:
    """A process for each program: `harness.c` with the kernels, started by `runner`."""

    def __init__(self, compiler: Sequence[str], runner: Sequence[str], target: Target) -> None:
        source, code = HARNESS.read_bytes(), machine_code(target)
        isa = target.sets[0].name

        def make(path: Path) -> None:
            files = {"harness.c": source, "calls.h": _calls_header(isa).encode(), **code}
            with tempfile.TemporaryDirectory(prefix="addax-harness-") as folder:
                for file, data in files.items():
                    (Path(folder) / file).write_bytes(data)
                flags = ["-std=c11", "-O1", "-lm", "-o", str(path)]
                command = [*compiler, "harness.c", *code, *flags]
                subprocess.run(command, cwd=folder, check=True, timeout=_SECONDS)

        key = key_of((*compiler, generator_digest(), target.triple, isa, source))
        self._command = [*runner, str(cached(key, "harness", make))]

    def run(self, memory: np.ndarray, calls: Sequence[Call]) -> np.ndarray:
        made = np.zeros(len(calls), _CALL)
        for row, call in zip(made, calls, strict=True):
            row["kernel"] = call.kernel
            row["arguments"][: len(call.arguments)] = [_number(one) for one in call.arguments]
        head = np.array([len(memory), len(calls)], np.int64)
        with tempfile.TemporaryDirectory(prefix="addax-program-") as folder:
            path = Path(folder) / "program"
            path.write_bytes(head.tobytes() + made.tobytes() + memory.tobytes())
            done = subprocess.run(
                [*self._command, str(path)], capture_output=True, timeout=_SECONDS, check=False
            )
            assert 0 == done.returncode, done.stderr.decode(errors="replace")
            return np.fromfile(path, np.uint8, len(memory))


def _number(argument: Argument) -> int:
    if argument is None:
        return -1
    if isinstance(argument, Place):
        return argument.start
    return int(np.float32(argument).view(np.int32)) if isinstance(argument, float) else argument


_C_TYPES = {"int32": "int32_t", "float32": "float"}
_READERS = {"int32": "(int32_t)", "float32": "real"}


def _calls_header(isa: str) -> str:
    """C text that calls each kernel by its name."""
    from addax.backends.kernels.catalogue import KERNELS  # loads TVM

    declared, calls = [], []
    for name, kernel in KERNELS.items():
        kinds = kernel.parameters.values()
        types = ", ".join("void *" if kind.endswith("*") else _C_TYPES[kind] for kind in kinds)
        given = ", ".join(
            f"at(a[{i}])" if kind.endswith("*") else f"{_READERS[kind]}(a[{i}])"
            for i, kind in enumerate(kinds)
        )
        declared.append(f"void addax_{name}_{isa}({types});\n")
        calls.append(f'    if (!strcmp(kernel, "{name}")) ')
        calls.append(f"return addax_{name}_{isa}({given}), 1;\n")
    head = "static int call_kernel(const char *kernel, const int64_t *a) {\n"
    return "".join((*declared, head, *calls, "    return 0;\n}\n"))


BEST = next(iter(_native_sets()), "scalar")
