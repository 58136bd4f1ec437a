"""What the host programs of all GPU languages share: the description of a folder, the steps."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from addax.errors import InputError
from addax.runtime.gpu import DESCRIPTION, WEIGHTS


class SavedLayers(ABC):
    """The layers of a folder that `save` wrote, with the weights in a device's memory."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        place = Path(folder)
        described = json.loads((place / DESCRIPTION).read_text("utf-8"))
        self._launches = {str(kernel["name"]): kernel for kernel in described["kernels"]}
        self._nodes = {str(node["y"]): node for node in described["nodes"]}
        files = sorted({str(kernel["file"]) for kernel in described["kernels"]})
        self._build("".join((place / file).read_text("utf-8") for file in files))
        weights = load_file(place / WEIGHTS)
        self._weights = {name: self._memory(array) for name, array in weights.items()}

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
        columns, outputs = self._sizes(name)
        if x.dtype != np.float32 or not x.ndim or x.shape[-1] != columns:
            raise InputError(
                f"{name!r} is made of float32[..., {columns}]; got {x.dtype}{list(x.shape)}"
            )
        y = np.empty((*x.shape[:-1], outputs), np.float32)
        if y.size:
            rows = np.ascontiguousarray(x).reshape(-1, columns)
            memory = self._memory_of(name, rows, y)
            try:
                self._start(name, len(rows), memory, many)
                self._read(memory["y"], y)
            finally:
                for one in memory.values():
                    self._free(one)
        return y

    def repeat(
        self, name: str, x: np.ndarray, times: int, *, many: bool | None = None
    ) -> Callable[[], None]:
        """A function that computes a layer `times` times on memory of the device, to be timed.

        Args:
            name: One of `names`.
            x: Contiguous float32[rows, K]; it stays on the device.
            times: How often, before it waits for the device.
            many: As for `run`.

        Raises:
            InputError: If there is no such layer.
        """
        y = np.empty((len(x), self._sizes(name)[1]), np.float32)
        memory = self._memory_of(name, x, y)

        def run() -> None:
            for _ in range(times):
                self._start(name, len(x), memory, many)
            self._wait()

        return run

    def _sizes(self, name: str) -> tuple[int, int]:
        """Columns that a layer reads, and that it makes."""
        first, last = (step["arguments"] for step in self._node(name)["few"])
        return int(first["columns"]), int(last["columns"])

    def _memory_of(self, name: str, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        sizes = self._node(name)["bytes_for_each_row"]
        return {
            "x": self._memory(x),
            "y": self._memory(y),
            "q": self._memory(np.empty(len(x) * int(sizes["q"]), np.uint8)),
            "s": self._memory(np.empty(len(x) * int(sizes["s"]), np.uint8)),
        }

    def _start(self, name: str, rows: int, memory: Mapping[str, Any], many: bool | None) -> None:
        node = self._node(name)
        chosen = rows >= node["many_from_rows"] if many is None else many
        for step in node["many" if chosen else "few"]:
            self._step(str(step["kernel"]), step["arguments"], {"rows": rows, **memory})

    def _node(self, name: str) -> Mapping[str, Any]:
        if name not in self._nodes:
            raise InputError(f"expected one of {', '.join(self._nodes)}; got {name!r}")
        node: Mapping[str, Any] = self._nodes[name]
        return node

    def _step(self, name: str, arguments: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        launch = self._launches[name]
        values: dict[str, Any] = {}
        for parameter, argument in arguments.items():
            if isinstance(argument, dict):
                values[parameter] = self._weights[argument["tensor"]]
            else:
                values[parameter] = given[argument] if isinstance(argument, str) else argument
        x, y = (-(-values[e["parameter"]] // e["per"]) for e in launch["grid"])
        in_order = [values[parameter["name"]] for parameter in launch["parameters"]]
        self._launch(name, (x, y), int(launch["threads"]), in_order)

    @abstractmethod
    def _build(self, source: str) -> None:
        """Make the kernels of `self._launches` from their text."""

    @abstractmethod
    def _memory(self, array: np.ndarray) -> Any:
        """Memory of the device that holds a contiguous array."""

    @abstractmethod
    def _read(self, memory: Any, array: np.ndarray) -> None:
        """Copy memory back, once all launches are done."""

    @abstractmethod
    def _launch(
        self, name: str, blocks: tuple[int, int], threads: int, arguments: Sequence[Any]
    ) -> None:
        """Start a kernel; arguments are memory and integers, in order."""

    @abstractmethod
    def _wait(self) -> None:
        """Wait until all launches are done."""

    def _free(self, memory: Any) -> None:  # noqa: B027 - most runtimes count references
        """Give memory back."""
