"""The layers of a saved `model.opencl` folder, computed by an OpenCL device.

The shortest host program there is: it shows what one in another language must do, and checks the
kernels on a device at hand. Needs pyopencl and a driver.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from addax.errors import InputError, MissingPackageError
from addax.runtime.gpu import DESCRIPTION, WEIGHTS


class OpenClLayers:
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
        place = Path(folder)
        described = json.loads((place / DESCRIPTION).read_text("utf-8"))
        self._queue = _queue(self._cl, device)
        files = sorted({str(kernel["file"]) for kernel in described["kernels"]})
        source = "".join((place / file).read_text("utf-8") for file in files)
        program = self._cl.Program(self._queue.context, source).build()
        self._launches = {str(kernel["name"]): kernel for kernel in described["kernels"]}
        self._kernels = {name: self._cl.Kernel(program, name) for name in self._launches}
        self._nodes = {str(node["y"]): node for node in described["nodes"]}
        self._weights = {
            name: self._memory(array) for name, array in load_file(place / WEIGHTS).items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The values that the layers make."""
        return tuple(self._nodes)

    def run(self, name: str, x: np.ndarray, *, many: bool | None = None) -> np.ndarray:
        """The value `name` float32[..., N], from x float32[..., K].

        Args:
            name: One of `names`.
            x: What the layer reads.
            many: Which of the two kernels; by default by the number of rows.

        Raises:
            InputError: If there is no such layer, or x is not what it reads.
        """
        node = self._node(name)
        first, last = (step["arguments"] for step in node["few"])
        columns, outputs = int(first["columns"]), int(last["columns"])
        if x.dtype != np.float32 or not x.ndim or x.shape[-1] != columns:
            raise InputError(
                f"{name!r} is made of float32[..., {columns}]; got {x.dtype}{list(x.shape)}"
            )
        rows = x.size // columns
        y = np.empty((*x.shape[:-1], outputs), np.float32)
        if not rows:
            return y
        sizes = node["bytes_for_each_row"]
        given = {
            "rows": rows,
            "x": self._memory(x),
            "y": self._memory(y),
            "q": self._memory(np.empty(rows * int(sizes["q"]), np.uint8)),
            "s": self._memory(np.empty(rows * int(sizes["s"]), np.uint8)),
        }
        chosen = rows >= node["many_from_rows"] if many is None else many
        for step in node["many" if chosen else "few"]:
            self._launch(str(step["kernel"]), step["arguments"], given)
        self._cl.enqueue_copy(self._queue, y, given["y"])
        return y

    def _node(self, name: str) -> Mapping[str, Any]:
        if name not in self._nodes:
            raise InputError(f"expected one of {', '.join(self._nodes)}; got {name!r}")
        node: Mapping[str, Any] = self._nodes[name]
        return node

    def _launch(self, name: str, arguments: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        launch = self._launches[name]
        values: dict[str, Any] = {}
        for parameter, argument in arguments.items():
            if isinstance(argument, dict):
                values[parameter] = self._weights[argument["tensor"]]
            else:
                values[parameter] = given[argument] if isinstance(argument, str) else argument
        threads = int(launch["threads"])
        x, y = (-(-values[e["parameter"]] // e["per"]) for e in launch["grid"])
        in_order = [values[parameter["name"]] for parameter in launch["parameters"]]
        in_order = [np.int32(value) if isinstance(value, int) else value for value in in_order]
        self._kernels[name](self._queue, (x * threads, y), (threads, 1), *in_order)

    def _memory(self, array: np.ndarray) -> Any:
        flags = self._cl.mem_flags
        return self._cl.Buffer(
            self._queue.context,
            flags.READ_WRITE | flags.COPY_HOST_PTR,
            hostbuf=np.ascontiguousarray(array),
        )


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
