"""Sessions of compiled models: feeds in, outputs out, in TVM's runtime."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from addax.backends.to_tvm import require_tvm
from addax.errors import InputError
from addax.runtime.session import Port

if TYPE_CHECKING:
    from addax.backends.tvm.library import Library, Slot


class TvmSession:
    """A compiled model, loaded.

    Args:
        library: What `addax.backends.to_tvm.to_tvm` made.
    """

    def __init__(self, library: "Library") -> None:
        self.library = library
        self.inputs = tuple(_port(slot) for slot in library.interface.inputs)
        self.outputs = tuple(_port(slot) for slot in library.interface.outputs)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "TvmSession":
        """Load a library that was saved.

        Raises:
            MissingPackageError: TVM is not installed, or in a version that crashes.
            ModelFileError: There is no such file, or it is no such library.
        """
        require_tvm()
        from addax.backends.tvm.library import Library

        return cls(Library.load(path))

    def run(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run the model once.

        Args:
            feeds: An array for each input, by name.

        Raises:
            InputError: The feeds do not fit the inputs.
        """
        expected = self.library.interface.inputs
        names = [slot.name for slot in expected]
        missing, extra = [n for n in names if n not in feeds], [n for n in feeds if n not in names]
        if missing or extra:
            raise InputError(
                f"expected feeds for {names}, got {list(feeds)}: "
                f"missing {missing or 'none'}, unknown {extra or 'none'}"
            )
        arrays = [np.asarray(feeds[name]) for name in names]
        bound: dict[str, int] = {}
        for slot, array in zip(expected, arrays, strict=True):
            _require_fit(slot, array, bound)
        try:
            made = self.library(arrays)
        except (RuntimeError, ValueError, TypeError) as error:
            lines = str(error).strip().splitlines() or [""]
            got = "; ".join(
                f"{n}: {a.dtype}{list(a.shape)}" for n, a in zip(names, arrays, strict=True)
            )
            raise InputError(
                f"the model could not run on these feeds: got {got}; TVM says: {lines[-1][:300]}"
            ) from error
        return dict(zip([port.name for port in self.outputs], made, strict=True))


def _require_fit(slot: "Slot", array: np.ndarray, bound: dict[str, int]) -> None:
    """The compiled code trusts its arguments, so nothing that does not fit may reach it."""
    fits = str(array.dtype) == slot.dtype and len(array.shape) == len(slot.shape)
    if fits:
        for dim, size in zip(slot.shape, array.shape, strict=True):
            wanted = dim if isinstance(dim, int) else bound.setdefault(dim, size)
            fits = fits and wanted == size
    if fits:
        return
    known = f" (where {', '.join(f'{k} = {v}' for k, v in bound.items())})" if bound else ""
    raise InputError(
        f"input {slot.name!r}: expected {slot.dtype}{list(slot.shape)}{known}, "
        f"got {array.dtype}{list(array.shape)}; the library was compiled for these sizes"
    )


def _port(slot: "Slot") -> Port:
    return Port(slot.name, f"tensor({_ONNX_NAMES.get(slot.dtype, slot.dtype)})", slot.shape)


_ONNX_NAMES = {"float32": "float", "float64": "double"}
