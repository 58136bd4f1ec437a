"""Sequences of tensors, which are Python lists, and optional values, which may be None."""

from collections.abc import Callable
from typing import Any, TypeVar

import onnx_ir as ir
import torch

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Ints, Scalar, Tensor

OPS = Converters()

Sequence = list[Tensor]
Result = TypeVar("Result")


def _now_or_then(
    site: Site, function: Callable[..., Result], sequence: Sequence, position: Any, *rest: Any
) -> Result:
    """The function's result; recorded as a call unless list and position are known already."""
    if isinstance(sequence, list) and (position is None or isinstance(position, int)):
        return function(sequence, position, *rest)
    return site.call(function, sequence, position, *rest)


@OPS.op("SequenceConstruct", since=11)
def construct(*xs: Tensor) -> Sequence:
    """The inputs as a sequence."""
    return list(xs)


@OPS.op("SequenceEmpty", since=11)
def empty(*, dtype: int = 1) -> Sequence:
    """A sequence of nothing."""
    del dtype
    return []


@OPS.op("SequenceAt", since=11)
def at(sequence: Sequence, position: Scalar, *, site: Site) -> Tensor:
    """One element; negative positions count from the end."""
    return _now_or_then(site, _at, sequence, position)


def _at(sequence: Sequence, position: int) -> Tensor:
    return sequence[position]


@OPS.op("SequenceInsert", since=11)
def insert(
    sequence: Sequence, x: Tensor, position: Scalar | None = None, *, site: Site
) -> Sequence:
    """The sequence with one more element, at the end unless said otherwise."""
    return _now_or_then(site, _insert, sequence, position, x)


def _insert(sequence: Sequence, position: int | None, x: Tensor) -> Sequence:
    place = len(sequence) if position is None else position
    return [*sequence[:place], x, *sequence[place:]]


@OPS.op("SequenceErase", since=11)
def erase(sequence: Sequence, position: Scalar | None = None, *, site: Site) -> Sequence:
    """The sequence without one element, the last unless said otherwise."""
    return _now_or_then(site, _erase, sequence, -1 if position is None else position)


def _erase(sequence: Sequence, position: int) -> Sequence:
    place = position + len(sequence) if position < 0 else position
    return [*sequence[:place], *sequence[place + 1 :]]


@OPS.op("SequenceLength", since=11)
def length(sequence: Sequence, *, site: Site) -> Tensor:
    """How many elements there are."""
    return site.call(_length, sequence, site.device)


def _length(sequence: Sequence, device: torch.device | None) -> Tensor:
    return torch.tensor(len(sequence), dtype=torch.int64, device=device)


@OPS.op("ConcatFromSequence", since=11)
def concat(sequence: Sequence, *, axis: int, new_axis: int = 0) -> Tensor:
    """The elements joined along an axis, a new one if asked for."""
    return torch.stack(sequence, axis) if new_axis else torch.cat(sequence, axis)


@OPS.op("SplitToSequence", since=11)
def split(
    x: Tensor, sizes: Ints | None = None, *, axis: int = 0, keepdims: int = 1, site: Site
) -> Any:
    """Parts along an axis as a sequence."""
    if sizes is None:
        parts = torch.split(x, 1, axis)
        return site.call(_squeezed, parts, axis) if not keepdims else site.call(list, parts)
    if site.rank(1) == 0:
        return site.call(list, torch.split(x, sizes[0], axis))
    parts = torch.split(x, list(sizes), axis)
    return [parts[k] for k in range(len(sizes))]


def _squeezed(parts: tuple[Tensor, ...], axis: int) -> Sequence:
    return [part.squeeze(axis) for part in parts]


@OPS.op("Optional", since=15)
def optional(x: Tensor | None = None, *, type: ir.TypeProtocol | None = None) -> Any:  # noqa: A002
    """The value itself, or nothing."""
    del type
    return x


@OPS.op("OptionalGetElement", since=15)
def get_element(x: Tensor) -> Tensor:
    """The value that is there."""
    return x


@OPS.op("OptionalHasElement", since=15)
def has_element(x: Tensor | None = None, *, site: Site) -> Tensor:
    """Whether there is a value."""
    return site.call(_has_element, x, site.device)


def _has_element(x: Tensor | None, device: torch.device | None) -> Tensor:
    return torch.tensor(x is not None, device=device)
