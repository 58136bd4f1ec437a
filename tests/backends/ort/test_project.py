"""The CMake project of a target: what it says, that it builds, and that its library computes."""

import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from addax.backends.ort.project import SYSTEMS, project, readme
from addax.backends.ort.sources import FORMS
from addax.backends.ort.table import table
from addax.backends.targets import TARGETS
from addax.runtime.objects import machine_code
from tests.backends.ort.emulated import (
    build_library,
    build_runtime,
    needs_tools,
    plain_objects,
    run_layer,
    run_tool,
    write_project,
)
from tests.backends.ort.libraries import representable, weights

ARM = TARGETS["linux-arm64"]
DOT, PLAIN = "max", "cortex-a53"  # processors of the emulator, with and without `sdot`


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_project_lists_what_is_beside_it(name):
    target = TARGETS[name]
    files = project(target)
    text = files["CMakeLists.txt"]
    (listed,) = re.findall(r"add_library\(addax_kernels \$\{kind\} (.*) \$\{objects\}\)", text)
    assert sorted(file for file in files if file.endswith(".c")) == listed.split()
    (objects,) = re.findall(r"set\(objects (.*)\)", text)
    assert [f"{isa.name}.o" for isa in target.sets] == objects.split()
    for isa in target.sets:
        assert f'"{isa.name}", ' in files["kernels.h"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_readme_says_how_to_build_and_register(name):
    text = readme(TARGETS[name], "vit.ort")
    assert SYSTEMS[name].build in text
    assert SYSTEMS[name].register in text
    assert "`vit.ort`" in text
    assert "--minimal_build custom_ops" in text
    assert "no model in ORT format" in readme(TARGETS[name], "")


def test_only_ios_links_the_library_into_the_application():
    static = {name for name in SYSTEMS if 'library" ON' in project(TARGETS[name])["CMakeLists.txt"]}
    assert {"ios-arm64"} == static


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake missing: apt install cmake")
def test_a_compiler_for_another_processor_is_refused(tmp_path):
    folder = write_project(ARM, {"neondot.o": b"", "neon.o": b""}, tmp_path / "project")
    options = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=riscv64"]
    command = ["cmake", "-S", folder, "-B", folder / "build", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 != done.returncode
    told = " ".join(done.stderr.split())
    assert "expected a compiler for linux-arm64, got one for riscv64: pass the toolchain" in told


@pytest.fixture(scope="module")
def arm(tmp_path_factory) -> tuple[Path, Path]:
    """The mock runtime, and the library with kernels in plain loops."""
    folder = tmp_path_factory.mktemp("arm")
    library = build_library(write_project(ARM, plain_objects(ARM), folder / "project"))
    return build_runtime(folder), library


def expected(form: str, rows: int, x: np.ndarray) -> np.ndarray:
    return (x @ weights(form, rows, x.shape[-1])[3].T).astype(np.float32)


def check_layers(
    runtime: Path, library: Path, cpu: str, isa: str, forms=("codebook4", "binary2"), **environment
) -> None:
    """One codebook layer and one of binary codes, for few rows and for many."""
    for form in forms:
        for rows, tokens in ((70, 2), (130, 9)):
            x = representable(form, (tokens,), 72, many=tokens > 4)
            ran = run_layer(runtime, library, form, rows, x, cpu, **environment)
            assert {row.op for row in table([ARM]) if row.form} == set(ran.ops)
            assert dict.fromkeys(FORMS, isa) == ran.paths
            assert np.array_equal(expected(form, rows, x), ran.y), (form, rows, tokens)


@needs_tools
def test_the_library_takes_what_the_processor_has(arm):
    check_layers(*arm, DOT, "neondot")
    check_layers(*arm, PLAIN, "neon", forms=("codebook4",))


@needs_tools
def test_the_environment_forces_a_set(arm):
    check_layers(*arm, DOT, "neon", forms=("binary2",), ADDAX_ISA="neon")


@needs_tools
def test_a_static_library(tmp_path):
    folder = write_project(ARM, plain_objects(ARM), tmp_path / "project")
    archive = build_library(folder, "-DADDAX_STATIC=ON")
    assert ".a" == archive.suffix
    check_layers(build_runtime(tmp_path, archive), archive, DOT, "neondot")


@needs_tools
@pytest.mark.slow
@pytest.mark.parametrize("name", ["linux-arm64", "android-arm64"])
def test_machine_code_of_the_kernels(name, tmp_path):
    pytest.importorskip("tvm", reason="TVM missing: pip install addax[tvm]")
    target = TARGETS[name]
    library = build_library(write_project(target, machine_code(target), tmp_path / "project"))
    runtime = build_runtime(tmp_path)
    for cpu, isa in ((DOT, "neondot"), (PLAIN, "neon")):
        check_layers(runtime, library, cpu, isa)
        for form in ("codebook2", "binary1", "binary3", "binary4", "int8"):
            for tokens in (1, 5):
                x = representable(form, (tokens,), 161, many=tokens > 4)
                ran = run_layer(runtime, library, form, 129, x, cpu)
                assert np.array_equal(expected(form, 129, x), ran.y), (form, tokens)


@pytest.mark.slow
def test_apple_code_is_linked_with_the_sources(tmp_path):
    pytest.importorskip("tvm", reason="TVM missing: pip install addax[tvm]")
    pytest.importorskip("ziglang", reason="zig missing: pip install addax[compiler]")
    target = TARGETS["ios-arm64"]
    folder = write_project(target, machine_code(target), tmp_path / "project")
    inputs = sorted(path for path in folder.iterdir() if path.suffix in (".c", ".o"))
    made = tmp_path / "libaddax_kernels.dylib"
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-macos"]
    run_tool(*zig, "-std=gnu11", "-shared", "-fvisibility=hidden", *inputs, "-o", made)
    data = made.read_bytes()
    assert (0xFEEDFACF, 0x0100000C) == struct.unpack("<II", data[:8])  # Mach-O, arm64
    assert b"_RegisterCustomOps" in data
