"""Softmax and its kin. Before opset 13 they flatten the dimensions from `axis` on into one."""

from collections.abc import Callable
from typing import Any

import numpy as np

from addax.ir._judge.arrays import Array, wide
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)


def softmax_of(x: Array, axis: int) -> Any:
    """exp(x) / sum exp(x) along `axis`, shifted by the largest x; one buffer."""
    y = x - np.maximum.reduce(x, axis=axis, keepdims=True)
    np.exp(y, out=y)
    y /= np.add.reduce(y, axis=axis, keepdims=True)
    return y


def log_softmax_of(x: Array, axis: int) -> Any:
    """Logarithms of softmax, x - log sum exp(x) along `axis`."""
    y = x - np.maximum.reduce(x, axis=axis, keepdims=True)
    y -= np.log(np.add.reduce(np.exp(y), axis=axis, keepdims=True))
    return y


def _hardmax_of(x: Array, axis: int) -> Any:
    y = np.zeros_like(x)
    np.put_along_axis(y, np.expand_dims(np.argmax(x, axis=axis), axis), 1, axis)
    return y


def _add(name: str, call: Callable[[Array, int], Any]) -> None:
    def along(x: Array, *, axis: int = -1) -> Any:
        if x.size == 0:
            return x
        return call(wide(x), axis).astype(x.dtype, copy=False)

    def flattened(x: Array, *, axis: int = 1) -> Any:
        axis = axis + x.ndim if axis < 0 else axis
        rows = int(np.prod(x.shape[:axis]))
        return along(x.reshape(rows, -1) if x.size else x).reshape(x.shape)

    KERNELS.add(name, flattened)
    KERNELS.add(name, along, since=13)


_add("Softmax", softmax_of)
_add("LogSoftmax", log_softmax_of)
_add("Hardmax", _hardmax_of)
