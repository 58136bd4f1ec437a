"""Layers on NVIDIA GPUs: where there is none, a driver that runs the text on the processor."""

# ruff: noqa: N802 - the driver's own names

import ctypes
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import addax.runtime.cuda
from addax.errors import BuildError, MissingPackageError
from addax.runtime.beside import folder_beside
from addax.runtime.cuda import CudaLayers, ptx_of
from addax.runtime.gpu import save_program
from tests.backends.ort.libraries import layer, representable, weights

SIZE = (65, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    if find_spec("tvm") is None:
        pytest.skip("TVM, which writes the kernels, is not installed")
    path = tmp_path_factory.mktemp("cuda") / "model.onnx"
    save_program(layer("codebook4", *SIZE), "cuda", path)
    return folder_beside(path, "cuda")


def require_nvrtc() -> None:
    try:
        addax.runtime.cuda._nvrtc()
    except MissingPackageError:
        pytest.skip("NVRTC is not installed: pip install addax[gpu-tests]")


def check(layers: CudaLayers) -> None:
    assert ("y",) == layers.names
    for many in (False, True):
        for tokens in (1, 7, 18):
            x = representable("codebook4", (tokens,), SIZE[1], many)
            expected = (x @ weights("codebook4", *SIZE)[-1].T).astype(np.float32)
            np.testing.assert_array_equal(expected, layers.run("y", x, many=many))


def test_layers_on_a_gpu_are_exact(folder):
    require_nvrtc()
    try:
        layers = CudaLayers(folder)
    except (MissingPackageError, BuildError) as error:
        pytest.skip(f"no NVIDIA GPU: {error}")
    check(layers)


class Driver:
    """NVIDIA's driver on a processor: memory is the host's, kernels are C++ of the same text."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        pytest.importorskip("tvm")
        from addax.backends.gpu.launch import Extent, Launch
        from tests.backends.tvm.host import OnHost

        described = json.loads((folder / "kernels.json").read_text("utf-8"))
        self.kernels = [
            Launch(
                one["name"],
                {p["name"]: p["type"] for p in one["parameters"]},
                tuple(Extent(**extent) for extent in one["grid"]),
                one["threads"],
            )
            for one in described["kernels"]
        ]
        files = {"kernels.cu": (folder / "kernels.cu").read_text("utf-8")}
        by_name = {one.name: one for one in self.kernels}
        self.host = OnHost("cuda", files, by_name, scratch)
        self.memory = {}

    def cuInit(self, _flags):
        return 0

    def cuDeviceGet(self, device, number):
        device._obj.value = number
        return 0

    def cuDeviceGetAttribute(self, value, attribute, _device):
        value._obj.value = {75: 7, 76: 5}[attribute]
        return 0

    def cuDevicePrimaryCtxRetain(self, _context, _device):
        return 0

    def cuCtxSetCurrent(self, _context):
        return 0

    def cuModuleLoadData(self, _module, ptx):
        return 0 if all(one.name.encode() in ptx for one in self.kernels) else 1

    def cuModuleGetFunction(self, function, _module, name):
        function._obj.value = 1 + [one.name.encode() for one in self.kernels].index(name)
        return 0

    def cuMemAlloc_v2(self, memory, size):
        made = ctypes.create_string_buffer(size.value)
        memory._obj.value = ctypes.addressof(made)
        self.memory[memory._obj.value] = made
        return 0

    def cuMemcpyHtoD_v2(self, memory, address, size):
        ctypes.memmove(memory.value, address, size.value)
        return 0

    def cuMemcpyDtoH_v2(self, address, memory, size):
        ctypes.memmove(address, memory.value, size.value)
        return 0

    def cuMemFree_v2(self, memory):
        return 0 if self.memory.pop(memory.value) else 1

    def cuCtxSynchronize(self):
        return 0

    def cuLaunchKernel(self, function, x, y, z, threads, *rest):
        launch = self.kernels[function.value - 1]
        assert (1, launch.threads, 1, 1, 0, None) == (z, threads, *rest[:4])
        kinds = [
            ctypes.c_void_p if kind.endswith("*") else ctypes.c_int
            for kind in launch.parameters.values()
        ]
        self.host.call(
            launch.name,
            (x, y),
            [kind.from_address(place) for kind, place in zip(kinds, rest[4], strict=True)],
        )
        return 0


def test_layers_are_exact_through_a_driver_that_runs_the_text_on_the_processor(
    folder, tmp_path, monkeypatch
):
    require_nvrtc()
    from tests.backends.tvm.host import compiler

    if compiler() is None:
        pytest.skip("there is no C++ compiler")
    driver = Driver(folder, tmp_path)
    monkeypatch.setattr(addax.runtime.cuda, "_driver", lambda: driver)
    layers = CudaLayers(folder)
    kept = len(driver.memory)
    check(layers)
    assert kept == len(driver.memory)
    layers.repeat("y", representable("codebook4", (2,), SIZE[1], False), 2)()
    *_, y = (np.frombuffer(m, np.float32) for m in driver.memory.values() if len(m) == 4 * 2 * 65)
    assert np.abs(y).max() > 0
    monkeypatch.setattr(driver, "cuMemAlloc_v2", lambda *_: 2)
    with pytest.raises(BuildError, match="NVIDIA's driver refuses cuMemAlloc_v2 with status 2"):
        layers.run("y", np.zeros((1, SIZE[1]), np.float32))


def test_a_text_that_is_wrong_is_refused_with_the_reason():
    require_nvrtc()
    with pytest.raises(BuildError, match=r"NVRTC refuses the kernels: .*undefined"):
        ptx_of('extern "C" __global__ void f(int *x) { *x = nothing; }', "75")


def test_what_is_missing_is_named(folder, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", _no_library)
    with pytest.raises(MissingPackageError, match="expected NVIDIA's driver"):
        CudaLayers(folder)
    monkeypatch.setattr(addax.runtime.cuda, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match="compiled by NVRTC, which is not installed"):
        ptx_of("", "75")


def _no_library(name):
    raise OSError(name)
