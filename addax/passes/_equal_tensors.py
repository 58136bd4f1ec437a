"""Which constant tensors are equal: type, shape and bytes.

Small tensors are compared by their bytes. Of large ones a few bytes are read, and all of them
only where these agree with those of another: weights that differ stay in their files.
"""

import hashlib
from typing import Any

import numpy as np
import onnx_ir as ir

_WHOLE = 256  # bytes up to which a tensor is its own key
_SAMPLE = 64
_CHUNK = 1 << 20


class EqualTensors:
    """Gives equal tensors the same number, and others another."""

    def __init__(self) -> None:
        self._first: dict[Any, tuple[int, ir.TensorProtocol]] = {}
        self._by_digest: dict[Any, int] = {}
        self._count = 0

    def number(self, tensor: ir.TensorProtocol) -> int:
        """The number of all tensors that equal this one."""
        key, is_whole = _key(tensor)
        first = self._first.get(key)
        if first is None:
            self._count += 1
            self._first[key] = self._count, tensor
            return self._count
        number, other = first
        if is_whole or other is tensor:
            return number
        self._by_digest.setdefault((key, _digest(other)), number)
        found = self._by_digest.setdefault((key, _digest(tensor)), self._count + 1)
        self._count = max(self._count, found)
        return found


def _key(tensor: ir.TensorProtocol) -> tuple[Any, bool]:
    """What equal tensors agree in, and whether tensors that agree in it are equal."""
    kind = (tensor.dtype, tuple(tensor.shape))
    if tensor.dtype == ir.DataType.STRING:
        return (*kind, tuple(tensor.numpy().reshape(-1).tolist())), True
    data = _bytes(tensor)
    if data.size <= _WHOLE:
        return (*kind, data.tobytes()), True
    middle = data.size // 2
    parts = (data[:_SAMPLE], data[middle : middle + _SAMPLE], data[-_SAMPLE:])
    return (*kind, b"".join(part.tobytes() for part in parts)), False


def _bytes(tensor: ir.TensorProtocol) -> np.ndarray:
    return np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)


def _digest(tensor: ir.TensorProtocol) -> bytes:
    data = _bytes(tensor)
    digest = hashlib.blake2b(digest_size=32)
    for start in range(0, data.size, _CHUNK):
        digest.update(data[start : start + _CHUNK].data)
    return digest.digest()
