"""What a Slice takes from each axis, read from its constant operands, and how it is written."""

from collections.abc import Mapping
from typing import NamedTuple

import onnx_ir as ir

from addax.ir import Op, constant, rank

FAR = 2**31 - 1  # exporters write "to the end" as this or as the largest int64
END = 2**63 - 1


class Cut(NamedTuple):
    """The elements `start:end:step` of an axis, as Slice reads them."""

    start: int
    end: int
    step: int = 1

    @property
    def is_everything(self) -> bool:
        """Whether it takes all of an axis of any size."""
        return self.start == 0 and self.end >= FAR and self.step == 1

    @property
    def is_from_front(self) -> bool:
        """Whether no bound counts from the end of the axis."""
        return self.start >= 0 and self.end >= 0 and self.step > 0

    def of(self, size: int) -> range:
        """The indices that it takes from an axis of `size` elements."""
        first = self.start + size if self.start < 0 else self.start
        last = self.end + size if self.end < 0 else self.end
        if self.step > 0:
            return range(min(max(first, 0), size), min(max(last, 0), size), self.step)
        return range(min(max(first, 0), size - 1), min(max(last, -1), size - 1), self.step)

    def then(self, other: "Cut") -> "Cut":
        """This cut and then another of what it leaves, both counted from the front."""
        end = min(self.end, self.start + other.end * self.step)
        return Cut(self.start + other.start * self.step, min(end, END), self.step * other.step)


def spell(taken: range, size: int) -> Cut:
    """The one spelling of taking the indices `taken` from an axis of `size` elements."""
    if not taken:
        return Cut(0, 0)
    if len(taken) == 1:
        return Cut(taken[0], taken[0] + 1)
    if taken.step > 0:
        return Cut(taken[0], taken[-1] + 1, taken.step)
    return Cut(taken[0], taken[-1] - 1 if taken[-1] else -size - 1, taken.step)


def read(node: ir.Node) -> dict[int, Cut] | None:
    """The cut of each axis that a Slice names; None if it is known only at run time."""
    if len(node.inputs) < 3:
        return None  # before opset 10
    starts, ends = _ints(node, 1), _ints(node, 2)
    if starts is None or ends is None:
        return None
    axes, steps = _ints(node, 3, range(len(starts))), _ints(node, 4, (1,) * len(starts))
    if axes is None or steps is None:
        return None
    full = rank(node.inputs[0])
    if any(axis < 0 for axis in axes):
        if full is None:
            return None
        axes = tuple(axis % full for axis in axes)
    bounds = zip(starts, ends, steps, strict=True)
    return {axis: Cut(*bound) for axis, bound in sorted(zip(axes, bounds, strict=True))}


def _ints(
    node: ir.Node, position: int, default: tuple[int, ...] | range | None = None
) -> tuple[int, ...] | None:
    value = node.inputs[position] if position < len(node.inputs) else None
    if value is None:
        return None if default is None else tuple(default)
    array = constant(value)
    return None if array is None else tuple(int(i) for i in array.reshape(-1))


def write(op: Op, x: ir.Value, cuts: Mapping[int, Cut]) -> ir.Value:
    """Slice(x, ...) for these cuts, axes in ascending order; `x` if there are none."""
    if not cuts:
        return x
    axes = sorted(cuts)
    starts, ends, steps = zip(*(cuts[axis] for axis in axes), strict=True)
    strides = () if set(steps) == {1} else (list(steps),)
    made: ir.Value = op.Slice(x, list(starts), list(ends), axes, *strides)
    return made
