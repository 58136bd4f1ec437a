"""The layers of a saved `model.cuda` folder, computed by an NVIDIA GPU.

Needs NVIDIA's driver, and NVRTC, which compiles the text: `pip install nvidia-cuda-nvrtc-cu12`.
"""

import ctypes
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from addax.errors import BuildError, MissingPackageError
from addax.runtime._saved_layers import SavedLayers

_MAJOR, _MINOR = 75, 76  # attributes of a device: its compute capability


class CudaLayers(SavedLayers):
    """The kernels of a folder on the first GPU, with the weights in its memory."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Build the kernels.

        Args:
            folder: `model.cuda`, as `optimize(..., target="cuda").save("model.onnx")` writes.

        Raises:
            MissingPackageError: If the driver, a GPU or NVRTC is missing.
            BuildError: If the kernels cannot be built, or the driver refuses a call.
        """
        self._driver = _driver()
        self._call("cuInit", 0)
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._capability = "".join(str(self._about(device, a)) for a in (_MAJOR, _MINOR))
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        super().__init__(folder)

    def _about(self, device: ctypes.c_int, attribute: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        return value.value

    def _build(self, source: str) -> None:
        module = ctypes.c_void_p()
        ptx = ptx_of(source, self._capability)
        self._call("cuModuleLoadData", ctypes.byref(module), ptx)
        self._kernels = {}
        for name in self._launches:
            function = ctypes.c_void_p()
            self._call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
            self._kernels[name] = function

    def _memory(self, array: np.ndarray) -> ctypes.c_uint64:
        memory, size = ctypes.c_uint64(), ctypes.c_size_t(array.nbytes)
        self._call("cuMemAlloc_v2", ctypes.byref(memory), size)
        self._call("cuMemcpyHtoD_v2", memory, _address(array), size)
        return memory

    def _read(self, memory: ctypes.c_uint64, array: np.ndarray) -> None:
        self._call("cuMemcpyDtoH_v2", _address(array), memory, ctypes.c_size_t(array.nbytes))

    def _free(self, memory: ctypes.c_uint64) -> None:
        self._call("cuMemFree_v2", memory)

    def _launch(
        self, name: str, blocks: tuple[int, int], threads: int, arguments: Sequence[Any]
    ) -> None:
        given = [ctypes.c_int(one) if isinstance(one, int) else one for one in arguments]
        places = (ctypes.c_void_p * len(given))(*(ctypes.addressof(one) for one in given))
        sizes = (*blocks, 1, threads, 1, 1)
        self._call("cuLaunchKernel", self._kernels[name], *sizes, 0, None, places, None)

    def _wait(self) -> None:
        self._call("cuCtxSynchronize")

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status:
            raise BuildError(f"NVIDIA's driver refuses {name} with status {status}")


def ptx_of(source: str, capability: str) -> bytes:
    """PTX of CUDA's text for a compute capability such as "75", by NVRTC.

    Raises:
        MissingPackageError: NVRTC is not installed.
        BuildError: It refuses the text; the message has its first lines.
    """
    nvrtc = _nvrtc()
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    given = (f"--gpu-architecture=compute_{capability}".encode(), b"--disable-warnings")
    options = (ctypes.c_char_p * len(given))(*given)
    try:
        if nvrtc.nvrtcCompileProgram(program, len(given), options):
            lines = _text(nvrtc, program, "ProgramLog").decode(errors="replace").splitlines()
            raise BuildError("NVRTC refuses the kernels: " + " ".join(lines[:5]))
        return _text(nvrtc, program, "PTX")
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(nvrtc: Any, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    nvrtc[f"nvrtcGet{what}Size"](program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    nvrtc[f"nvrtcGet{what}"](program, text)
    return text.value


def _address(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


def _driver() -> Any:
    name = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise MissingPackageError(
            f"expected NVIDIA's driver ({name}); it is not installed, or there is no GPU"
        ) from error


def _nvrtc() -> Any:
    found = find_spec("nvidia")
    places = list(found.submodule_search_locations or ()) if found else []
    for pattern in ("**/libnvrtc.so.*", "**/nvrtc64_*.dll"):
        for file in (file for place in places for file in sorted(Path(place).glob(pattern))):
            if "alt" not in file.name and "builtins" not in file.name:
                return ctypes.CDLL(str(file))
    raise MissingPackageError(
        "CUDA's text is compiled by NVRTC, which is not installed: "
        "pip install nvidia-cuda-nvrtc-cu12"
    )
