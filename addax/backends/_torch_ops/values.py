"""What an ONNX value is in torch: a recorded tensor, integers that Python holds, or both."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from addax.backends._torch_ops.dtypes import torch_dtype
from addax.backends._torch_ops.recorder import Recorder

_LONGEST = 64
_HOST_TYPES = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


@dataclass(frozen=True, slots=True)
class Integers:
    """An integer (or truth value), or a short list of them, that Python holds while the graph runs.

    Shapes are computed with them: an item is a number, or a proxy of one that was computed from
    `x.size(0)` and the like, so that torch can trace the arithmetic with symbolic sizes.
    """

    items: tuple[Any, ...]
    scalar: bool
    dtype: ir.DataType = ir.DataType.INT64

    @property
    def is_static(self) -> bool:
        """Whether every item is a number already."""
        return all(isinstance(item, int) for item in self.items)


class Entry:
    """One ONNX value in torch."""

    def __init__(
        self,
        make: Callable[[], Any],
        *,
        recorded: Any = None,
        integers: Integers | None = None,
        constant: ir.TensorProtocol | None = None,
        trainable: bool = False,
        poisoned: bool = False,
        absent: bool = False,
    ) -> None:
        self._make = make
        self._tensor: Any = recorded
        self._made = recorded is not None
        self._integers = integers
        self.constant = constant
        self.trainable = trainable
        self.poisoned = poisoned
        self.absent = absent

    @property
    def tensor(self) -> Any:
        """The proxy of the tensor (or list of tensors), recorded when first asked for."""
        if not self._made:
            self._tensor, self._made = self._make(), True
        return self._tensor

    @property
    def recorded(self) -> Any:
        """The tensor as far as it has been recorded already; None otherwise."""
        return self._tensor if isinstance(self._tensor, torch.fx.Proxy) else None

    @property
    def integers(self) -> Integers | None:
        """The value as integers in Python, where it is a small constant or came from a shape."""
        if self._integers is None and self.constant is not None:
            self._integers = _decoded(self.constant)
        return self._integers

    @property
    def number(self) -> Any:
        """The value as a Python number, if it is a scalar that training leaves alone; else None."""
        if self.integers is not None:
            return self.integers.items[0] if self.integers.scalar else None
        tensor = self.constant
        if tensor is None or self.trainable or len(tensor.shape) or not _is_plain_float(tensor):
            return None
        return float(tensor.numpy())


def _is_plain_float(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


def _decoded(tensor: ir.TensorProtocol) -> Integers | None:
    if tensor.dtype not in _HOST_TYPES or len(tensor.shape) > 1 or tensor.size > _LONGEST:
        return None
    array = np.asarray(tensor.numpy())
    return Integers(tuple(array.reshape(-1).tolist()), array.ndim == 0, tensor.dtype)


def from_integers(integers: Integers, recorder: Recorder) -> Entry:
    """The entry of integers; a tensor is made of them only where one is needed."""

    def make() -> Any:
        kind = {"dtype": torch_dtype(integers.dtype), "device": recorder.device}
        items = integers.items
        if integers.scalar and not integers.is_static:
            # torch.tensor would freeze a symbolic size, torch.full keeps it.
            return recorder.call(torch.full, (), items[0], **kind)
        step = items[1] - items[0] if integers.is_static and len(items) > 2 else 0
        if step and items == tuple(range(items[0], items[-1] + step, step)):
            return recorder.call(torch.arange, items[0], items[-1] + step, step, **kind)
        return recorder.call(torch.tensor, items[0] if integers.scalar else list(items), **kind)

    return Entry(make, integers=integers)


def from_array(array: np.ndarray, recorder: Recorder) -> Entry:
    """The entry of a small array; a tensor is made of it only where one is needed."""
    tensor = ir.tensor(array)

    def make() -> Any:
        dtype = torch_dtype(tensor.dtype)
        return recorder.call(torch.tensor, array.tolist(), dtype=dtype, device=recorder.device)

    return Entry(make, constant=tensor)


def from_number(number: Any, dtype: ir.DataType, recorder: Recorder) -> Entry:
    """The entry of a recorded number; a tensor is made of it only where one is needed."""
    kind = torch_dtype(dtype)
    return Entry(lambda: recorder.call(torch.full, (), number, dtype=kind, device=recorder.device))


def from_proxy(proxy: Any) -> Entry:
    """The entry of something recorded."""
    return Entry(lambda: proxy, recorded=proxy)
