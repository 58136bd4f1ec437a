"""The WGSL kernels compute the formula on whatever wgpu finds here: Mesa's llvmpipe will do."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="source is written by TVM, which is not installed")
pytest.importorskip("wgpu", reason="wgpu is not installed: pip install addax[gpu-tests]")

import wgpu

from addax.backends.gpu.languages import LANGUAGES
from addax.backends.gpu.launch import Launch
from tests.backends.ort.libraries import FORMS
from tests.backends.tvm.layers import blocks, check

QUICK = ("codebook4", "binary1")
CASES = [pytest.param(f, marks=() if f in QUICK else pytest.mark.slow) for f in FORMS]


@pytest.fixture(scope="module")
def device():
    try:
        adapter = wgpu.gpu.request_adapter_sync()
    except (RuntimeError, OSError) as error:
        pytest.skip(f"wgpu finds no driver ({error}): apt install mesa-vulkan-drivers")
    return adapter.request_device_sync()


class WebGpu:
    """Kernels by their names, without `addax_`."""

    def __init__(self, device, files: Mapping[str, str], launches: Mapping[str, Launch]) -> None:
        self._device, self._launches = device, launches
        self._pipelines = {
            name: self._pipeline(files[LANGUAGES["webgpu"].file_of(launch.name)], launch.name)
            for name, launch in launches.items()
        }

    def _pipeline(self, text: str, entry: str):
        module = self._device.create_shader_module(code=text)
        stage = {"module": module, "entry_point": entry}
        return self._device.create_compute_pipeline(layout="auto", compute=stage)

    def run(self, kernel: str, arguments: Mapping[str, Any]) -> None:
        """Launch a kernel on arrays and numbers."""
        launch, pipeline = self._launches[kernel], self._pipelines[kernel]
        x, y = blocks(launch, arguments)
        pointers = [name for name, kind in launch.parameters.items() if kind.endswith("*")]
        numbers = [arguments[name] for name in launch.parameters if name not in pointers]
        usage = wgpu.BufferUsage
        storage = usage.STORAGE | usage.COPY_SRC
        memory = {
            name: self._device.create_buffer_with_data(
                data=np.ascontiguousarray(arguments[name]), usage=storage
            )
            for name in pointers
        }
        uniform = self._device.create_buffer_with_data(
            data=np.array([*numbers, x - 1], np.int32), usage=usage.UNIFORM
        )
        bound = [
            {"binding": place, "resource": {"buffer": one, "offset": 0, "size": one.size}}
            for place, one in enumerate([*memory.values(), uniform])
        ]
        group = self._device.create_bind_group(
            layout=pipeline.get_bind_group_layout(0), entries=bound
        )
        encoder = self._device.create_command_encoder()
        step = encoder.begin_compute_pass()
        step.set_pipeline(pipeline)
        step.set_bind_group(0, group)
        step.dispatch_workgroups(x, y, 1)
        step.end()
        self._device.queue.submit([encoder.finish()])
        for name in ("q", "s", "y"):
            if name in memory:
                bytes_ = self._device.queue.read_buffer(memory[name])
                arguments[name].reshape(-1).view(np.uint8)[:] = np.frombuffer(bytes_, np.uint8)


@pytest.mark.parametrize("form", CASES)
def test_wgsl_computes_the_formula(device, form):
    check("webgpu", form, lambda files, launches: WebGpu(device, files, launches))
