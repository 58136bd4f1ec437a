"""Sequences, which are lists of tensors, and optionals, which are a value or `None`."""

from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir._judge.arrays import Array
from addax.ir._judge.ops.layout import numbers, split_points
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)


@KERNELS.op("SequenceConstruct")
def sequence_construct(*inputs: Array) -> Any:
    """The inputs as a sequence."""
    return list(inputs)


@KERNELS.op("SequenceEmpty")
def sequence_empty(*, dtype: int = 1) -> Any:
    """A sequence of nothing."""
    del dtype
    return []


@KERNELS.op("SequenceLength")
def sequence_length(sequence: list[Any]) -> Any:
    """How many tensors the sequence has."""
    return np.array(len(sequence), dtype=np.int64)


@KERNELS.op("SequenceAt")
def sequence_at(sequence: list[Any], position: Array) -> Any:
    """The tensor at a position; from the end if negative."""
    return sequence[int(position.item())]


@KERNELS.op("SequenceInsert")
def sequence_insert(sequence: list[Any], tensor: Array, position: Array | None = None) -> Any:
    """The sequence with a tensor before `position`, or at its end."""
    place = len(sequence) if position is None else int(position.item())
    if not -len(sequence) <= place <= len(sequence):
        raise IndexError(f"position {place} is outside a sequence of {len(sequence)}")
    place = place + len(sequence) if place < 0 else place
    return [*sequence[:place], tensor, *sequence[place:]]


@KERNELS.op("SequenceErase")
def sequence_erase(sequence: list[Any], position: Array | None = None) -> Any:
    """The sequence without the tensor at `position`, or without its last."""
    kept = list(sequence)
    del kept[-1 if position is None else int(position.item())]
    return kept


@KERNELS.op("SplitToSequence")
def split_to_sequence(
    x: Array, sizes: Array | None = None, *, axis: int = 0, keepdims: int = 1
) -> Any:
    """X cut along `axis`: into slices of 1 (`keepdims` or not), of one size, or of many sizes."""
    dim = x.shape[axis]
    if sizes is None:
        parts = np.split(x, range(1, dim), axis=axis)
        return parts if keepdims else [np.squeeze(part, axis) for part in parts]
    if sizes.ndim == 0:
        return list(np.split(x, range(int(sizes), dim, int(sizes)), axis=axis))
    return list(np.split(x, split_points(dim, numbers(sizes), 0), axis=axis))


@KERNELS.op("ConcatFromSequence")
def concat_from_sequence(sequence: list[Any], *, axis: int, new_axis: int = 0) -> Any:
    """The tensors one after another along an axis they have, or along a new one."""
    return np.stack(sequence, axis) if new_axis else np.concatenate(sequence, axis)


@KERNELS.op("Optional")
def optional(value: Any = None, *, type: ir.TypeProtocol | None = None) -> Any:  # noqa: A002
    """The value, or an empty optional."""
    del type
    return value


@KERNELS.op("OptionalHasElement")
def optional_has_element(value: Any = None) -> Any:
    """Whether there is a value."""
    return value is not None


@KERNELS.op("OptionalGetElement")
def optional_get_element(value: Any) -> Any:
    """The value.

    Raises:
        ValueError: there is none.
    """
    if value is None:
        raise ValueError("the optional is empty")
    return value
