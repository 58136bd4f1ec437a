"""The layers of a saved `model.opencl` folder, computed by an OpenCL device.

The shortest host program there is: it shows what one in another language must do, and checks the
kernels on a device at hand. Needs pyopencl and a driver.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from addax.errors import MissingPackageError
from addax.runtime._saved_layers import SavedLayers


class OpenClLayers(SavedLayers):
    """The kernels of a folder on a device, with the weights in its memory."""

    def __init__(self, folder: str | os.PathLike[str], device: Any = None) -> None:
        """Build the kernels.

        Args:
            folder: `model.opencl`, as `optimize(..., target="opencl").save("model.onnx")` writes.
            device: A `pyopencl.Device`; by default the first one.

        Raises:
            MissingPackageError: If pyopencl or a driver is missing.
        """
        self._cl = _pyopencl()
        self._queue = _queue(self._cl, device)
        super().__init__(folder)

    def _build(self, source: str) -> None:
        program = self._cl.Program(self._queue.context, source).build()
        self._kernels = {name: self._cl.Kernel(program, name) for name in self._launches}

    def _memory(self, array: np.ndarray) -> Any:
        flags = self._cl.mem_flags
        how = flags.READ_WRITE | flags.COPY_HOST_PTR
        return self._cl.Buffer(self._queue.context, how, hostbuf=array)

    def _read(self, memory: Any, array: np.ndarray) -> None:
        self._cl.enqueue_copy(self._queue, array, memory)

    def _launch(
        self, name: str, blocks: tuple[int, int], threads: int, arguments: Sequence[Any]
    ) -> None:
        given = [np.int32(one) if isinstance(one, int) else one for one in arguments]
        everyone = (blocks[0] * threads, blocks[1])
        self._kernels[name](self._queue, everyone, (threads, 1), *given)

    def _wait(self) -> None:
        self._queue.finish()


def _pyopencl() -> Any:
    try:
        import pyopencl
    except ImportError as error:
        raise MissingPackageError(
            "the OpenCL kernels are launched through pyopencl, which is not installed: "
            "pip install pyopencl"
        ) from error
    return pyopencl


def _queue(cl: Any, device: Any) -> Any:
    if device is None:
        try:
            device = next(d for platform in cl.get_platforms() for d in platform.get_devices())
        except (cl.Error, StopIteration) as error:
            raise MissingPackageError(
                "expected an OpenCL driver, but none is installed; on a processor, PoCL is one: "
                "apt install pocl-opencl-icd, or pip install pocl-binary-distribution"
            ) from error
    return cl.CommandQueue(cl.Context([device]))
