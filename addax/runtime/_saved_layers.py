"""What the host programs of all GPU languages share: the description of a folder, the steps."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
        memory = {
            "x": self._memory(np.ascontiguousarray(x)),
            "y": self._memory(y),
            "q": self._memory(np.empty(rows * int(sizes["q"]), np.uint8)),
            "s": self._memory(np.empty(rows * int(sizes["s"]), np.uint8)),
        }
        chosen = rows >= node["many_from_rows"] if many is None else many
        try:
            for step in node["many" if chosen else "few"]:
                self._step(str(step["kernel"]), step["arguments"], {"rows": rows, **memory})
            self._read(memory["y"], y)
        finally:
            for one in memory.values():
                self._free(one)
        return y

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

    def _free(self, memory: Any) -> None:  # noqa: B027 - most runtimes count references
        """Give memory back."""
