"""The largest of many elements: an oracle of the elements without their order.

Sums of oracles stand for multisets, so that the padding of a pool, and -inf, count for nothing.
"""

from collections.abc import Sequence
from itertools import product as cartesian
from typing import Any

import numpy as np

from addax.errors import UnsupportedOpError
from addax.ir._field.constants import lifted
from addax.ir._field.element import element
from addax.ir._field.reductions import add_reduction
from addax.ir._field.residues import PRIME, Residues
from addax.ir._field.table import FieldSite
from addax.ir._judge.ops.window import Window, surrounded
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)

_LOWEST = int(lifted(np.array(-np.inf)))


def _items(x: Residues, site: FieldSite) -> Residues:
    return np.where(x == _LOWEST, 0, site.oracle("Item", x))


def largest(x: Residues, axes: tuple[int, ...], site: FieldSite) -> Residues:
    """The largest element over `axes`, which stay with size 1."""
    if all(x.shape[a] == 1 for a in axes):
        return x
    sums = _items(x, site).sum(axis=axes, keepdims=True) % PRIME
    return site.oracle("Largest", sums)


add_reduction(KERNELS, "ReduceMax", largest)
add_reduction(KERNELS, "ReduceMin", lambda x, axes, site: -largest(-x % PRIME, axes, site) % PRIME)


@KERNELS.op("ArgMin")
def place_of_smallest(
    x: Any, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0, site: FieldSite
) -> Any:
    """Where the smallest element is."""
    turned = -np.asarray(x) % PRIME
    return place(
        turned, axis=axis, keepdims=keepdims, select_last_index=select_last_index, site=site
    )


@KERNELS.op("ArgMax")
def place(
    x: Any, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0, site: FieldSite
) -> Any:
    """Where the largest element is: an integer that is an oracle of the elements in order.

    Raises:
        UnsupportedOpError: ties are to be broken otherwise than by default.
    """
    if select_last_index:
        raise UnsupportedOpError("which of equal elements comes last is not known here")
    rows = np.moveaxis(np.asarray(x), axis, 0)
    found = site.oracle("Place", *rows)
    return element(np.expand_dims(found, axis) if keepdims else found, "whole")


@KERNELS.op("MaxPool")
def max_pool(
    x: Any,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] = (),
    pads: Sequence[int] = (),
    storage_order: int = 0,
    strides: Sequence[int] = (),
    site: FieldSite,
) -> Any:
    """The largest element of each window.

    Raises:
        UnsupportedOpError: the places of the elements are asked for too.
    """
    del storage_order
    if site.outputs > 1:
        raise UnsupportedOpError("the places of largest elements are not known here")
    window = Window.of(
        x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, bool(ceil_mode)
    )
    out = window.outputs()
    items = surrounded(_items(np.asarray(x), site), window.before, window.after(out), 0)
    taps = cartesian(*map(range, window.kernel))
    sums = sum(items[(slice(None), slice(None), *window.at(tap, out))] for tap in taps)
    return site.oracle("Largest", np.asarray(sums) % PRIME)


@KERNELS.op("GlobalMaxPool")
def global_max_pool(x: Any, *, site: FieldSite) -> Any:
    """The largest element over all spatial dimensions."""
    return largest(np.asarray(x), tuple(range(2, x.ndim)), site)
