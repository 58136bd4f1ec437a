"""What inputs are drawn as: random elements for floating ones, small numbers for the others."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import UnsupportedOpError
from addax.ir._field.element import Oracle, element
from addax.ir._field.residues import Residues
from addax.ir.query import constant_tensor

_SIZES = (2, 3, 5, 4, 6, 7)


class Draws:
    """Draws for one seed; the same name and size give the same array.

    Args:
        seed: What the arrays depend on, beside the names.
        sizes: What named dimensions are; others get small sizes, all different at first.
        alike: Give every dimension without a size the same one, for models that need it.
    """

    def __init__(self, seed: int, sizes: Mapping[str, int], *, alike: bool = False) -> None:
        self._oracle = Oracle(seed)
        self._count = 0
        self.sizes = dict(sizes)
        self._alike = alike

    def tensor(self, value: ir.Value) -> Any:
        """An array for `value`; a constant, which is a weight, is drawn like an input.

        Raises:
            UnsupportedOpError: its type or rank is not known, or it holds neither numbers nor
                conditions.
        """
        tensor = constant_tensor(value)
        if tensor is not None:
            return element(self._random(tuple(tensor.shape.numpy())), degree=1.0)
        dtype = value.dtype
        if dtype is None or value.shape is None or not isinstance(value.type, ir.TensorType):
            raise UnsupportedOpError(
                f"nothing can be drawn for {value.name!r}: expected a tensor with a known element "
                f"type and rank, got {value.type} with shape {value.shape}; run shape inference"
            )
        shape = tuple(self._size(d) for d in value.shape)
        if dtype in _REAL:
            return element(self._random(shape), degree=1.0)
        if dtype != ir.DataType.BOOL and not dtype.is_integer():
            raise UnsupportedOpError(f"input {value.name!r} of type {dtype} cannot be drawn")
        return (self._random(shape) & 1).astype(dtype.numpy())

    def _random(self, shape: tuple[int, ...]) -> Residues:
        self._count += 1
        return self._oracle(f"input {self._count}", np.arange(prod(shape)).reshape(shape))

    def _size(self, dim: Any) -> int:
        if isinstance(dim, int):
            return dim if dim >= 0 else _SIZES[0]
        name = dim.value
        if name is None:
            return _SIZES[0]
        if name not in self.sizes:
            self.sizes[name] = _SIZES[0 if self._alike else len(self.sizes) % len(_SIZES)]
        return self.sizes[name]


_REAL = frozenset(
    {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
)
