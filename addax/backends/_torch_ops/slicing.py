"""Parts of tensors along axes, and tensors made part of larger ones."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Ints, Scalar, Tensor

OPS = Converters()

_FAR = 2**31 - 1


@OPS.op("Slice", since=10)
def slice_(
    x: Tensor,
    starts: Ints,
    ends: Ints,
    axes: Ints | None = None,
    steps: Ints | None = None,
    *,
    site: Site,
) -> Tensor:
    """`x[start:end:step]` along each axis."""
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not all(isinstance(n, int) for n in (*axes, *steps)):
        return site.call(_sliced, x, tuple(starts), tuple(ends), tuple(axes), tuple(steps))
    window: dict[int, slice] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = site.axis(axis)
        if step > 0:
            window[axis] = _window(start, end, step)
        else:
            x = site.call(_sliced, x, (start,), (end,), (axis,), (step,))
    full = slice(None)
    window = {
        axis: part
        for axis, part in window.items()
        if not (part.start is part.stop is part.step is None)
    }
    if not window:
        return x
    return x[tuple(window.get(axis, full) for axis in range(max(window) + 1))]


def _window(start: Any, end: Any, step: int) -> slice:
    """Bounds without what says nothing: a start of 0, an end beyond every tensor."""
    return slice(
        None if isinstance(start, int) and start == 0 else start,
        None if isinstance(end, int) and end >= _FAR else end,
        None if step == 1 else step,
    )


def _sliced(
    x: Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int],
    steps: Sequence[int],
) -> Tensor:
    """Slices of either direction; torch's own go forward only."""
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        first, last, step = slice(start, end, step).indices(x.size(axis))
        count = max(0, -(-(last - first) // step) if step > 0 else -(-(first - last) // -step))
        places = torch.arange(count, device=x.device) * step + first
        x = torch.index_select(x, axis, places)
    return x


@OPS.op("Slice")
def slice_by_attributes(
    x: Tensor,
    *,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None = None,
    site: Site,
) -> Tensor:
    """`x[start:end]` along each axis."""
    return slice_(x, starts, ends, axes, site=site)


@OPS.op("Split", since=13)
def split(
    x: Tensor,
    sizes: Ints | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
    site: Site,
) -> tuple[Tensor, ...]:
    """Parts along an axis, of given sizes or as equal as can be, the last one smallest."""
    count = len(site.node.outputs)
    if sizes is not None:
        parts = torch.split(x, list(sizes), axis)
    else:
        length = site.size(x, axis)
        parts = torch.split(x, -(-length // (num_outputs or count)), axis)
    return tuple(parts[k] for k in range(count))


@OPS.op("Split")
def split_by_attribute(
    x: Tensor,
    sizes: Ints | None = None,
    *,
    axis: int = 0,
    split: Sequence[int] | None = None,  # ONNX's name
    site: Site,
) -> tuple[Tensor, ...]:
    """Parts along an axis, of given sizes or equal."""
    return _split(x, sizes if split is None else split, axis=axis, site=site)


_split = split


@OPS.op("Pad", since=11)
def pad(
    x: Tensor,
    pads: Ints,
    value: Scalar | None = None,
    axes: Ints | None = None,
    *,
    mode: str = "constant",
    site: Site,
) -> Tensor:
    """`x` continued (or, where negative, cut) at the ends of its axes."""
    rank = site.rank(0)
    numbers = tuple(range(rank)) if axes is None else tuple(axes)
    if not all(isinstance(axis, int) for axis in numbers):
        site.decline("the axes are computed; they must be constants")
    count = len(numbers)
    begin, end = [0] * rank, [0] * rank
    for k, axis in enumerate(numbers):
        begin[axis], end[axis] = pads[k], pads[k + count]
    if mode == "constant":
        return _pad_constant(x, begin, end, 0 if value is None else value)
    for axis in range(rank):
        if not _is_zero(begin[axis]) or not _is_zero(end[axis]):
            x = site.call(_continued, x, axis, begin[axis], end[axis], mode)
    return x


def _is_zero(number: Any) -> bool:
    return isinstance(number, int) and number == 0


def _pad_constant(x: Tensor, begin: Sequence[int], end: Sequence[int], value: float) -> Tensor:
    pairs = list(zip(begin, end, strict=True))
    while pairs and all(map(_is_zero, pairs[0])):
        pairs.pop(0)
    flat = [n for pair in reversed(pairs) for n in pair]
    return F.pad(x, flat, value=value) if flat else x


def _continued(x: Tensor, axis: int, begin: int, end: int, mode: str) -> Tensor:
    """One axis continued by its edge, by its mirror image, or from its other end."""
    size = x.size(axis)
    places = torch.arange(-begin, size + end, device=x.device)
    if mode == "edge":
        places = places.clamp(0, size - 1)
    elif mode == "wrap":
        places = places % size
    else:
        period = max(2 * (size - 1), 1)
        places = places % period
        places = torch.where(places >= size, period - places, places)
    return torch.index_select(x, axis, places)


@OPS.op("Pad", since=2)
def pad_by_attributes(
    x: Tensor, *, pads: Sequence[int], value: float = 0.0, mode: str = "constant", site: Site
) -> Tensor:
    """`x` continued at the ends of its axes, by constants."""
    return pad(x, pads, value, mode=mode, site=site)


@OPS.op("Pad")
def pad_by_first_attributes(
    x: Tensor, *, paddings: Sequence[int], value: float = 0.0, mode: str = "constant", site: Site
) -> Tensor:
    """The same under the names of opset 1."""
    return pad(x, paddings, value, mode=mode, site=site)
