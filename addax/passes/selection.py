"""Selection: slices and constant gathers composed, in one spelling, or seen to take everything.

Algebra     x[a:b:s][c:d:t] = x[a + c s : min(b, a + d s) : s t];      x[0:n] = x;
            x[[a, a + s, ...]] = x[a::s];                     squeeze(x[i:i+1]) = x[i]
Source      the ONNX operators' definitions (Slice clamps its bounds, Gather does not)
Exactness   bitwise: elements are chosen, none is computed
Cost        never adds a node

A range is a Slice, a single index that drops its axis a Gather, and what takes an axis apart
completely a Split (`partition`).
"""

import numpy as np
import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    const,
    const_ints,
    constant,
    decline,
    known_rank,
    producing,
    require,
    rule,
    same_shape,
    shape,
)
from addax.ir.query import constant_tensor
from addax.passes import _cuts
from addax.passes._cuts import Cut
from addax.passes._family import Phase

PHASE = Phase.CANONICAL


def _not_constant(x: ir.Value) -> None:
    """Leave selection from constants to `cleanup`, which knows when it may store them again."""
    require(constant_tensor(x) is None, "constants are cut when they are folded", x)


def _read(node: ir.Node) -> dict[int, Cut]:
    cuts = _cuts.read(node)
    if cuts is None:
        decline("the bounds are known only at run time", *node.inputs[1:])
    return cuts


def _slice(op: Op, x: ir.Value) -> ir.Value:
    return op.Slice(x, ...)


@rule("selection/slice-nothing", match=_slice, exact=Exact.BITWISE)
def slice_nothing(op: Op, x: ir.Value) -> ir.Value:
    """Slice(x, from the first to the last) -> x."""
    cuts = _cuts.read(op.root)
    if cuts is not None and all(cut.is_everything for cut in cuts.values()):
        return x
    steps = constant(op.root.inputs[4]) if len(op.root.inputs) > 4 else np.ones(1)
    require(steps is not None and np.all(steps == 1), "the step is not 1", x)
    require(same_shape(x, op.root.outputs[0]), "something is left out", x)
    return x


def _slice_twice(op: Op, x: ir.Value) -> ir.Value:
    return op.Slice(op.Slice(x, ..., _shared=True), ...)


@rule("selection/slice-slice", match=_slice_twice, exact=Exact.BITWISE)
def slice_slice(op: Op, x: ir.Value) -> ir.Value:
    """x[a:b:s][c:d:t] -> x[a + c s : min(b, a + d s) : s t], each axis by itself."""
    _not_constant(x)
    cuts, second = _read(producing(op.root.inputs[0])), _read(op.root)
    dims = shape(x) or ()
    for axis, cut in second.items():
        first = cuts.get(axis)
        size = dims[axis] if axis < len(dims) else None
        if first is None:
            cuts[axis] = cut
        elif isinstance(size, int):
            taken = first.of(size)
            cuts[axis] = _cuts.spell(taken[_python_slice(cut, len(taken))], size)
        else:
            is_known = first.is_from_front and cut.is_from_front
            require(is_known, "a bound counts from an end that is not known", x)
            cuts[axis] = first.then(cut)
    return _cuts.write(op, x, cuts)


def _python_slice(cut: Cut, size: int) -> slice:
    taken = cut.of(size)
    stop = taken.stop if taken.stop >= 0 else None
    return slice(taken.start, stop, taken.step)


@rule("selection/slice-spelling", match=_slice, exact=Exact.BITWISE)
def slice_spelling(op: Op, x: ir.Value) -> ir.Value:
    """Slice(x, ...) -> the same with bounds within known sizes, and axes named in order."""
    _not_constant(x)
    dims = dict(enumerate(shape(x) or ()))
    cuts = {axis: _spelt(cut, dims.get(axis)) for axis, cut in _read(op.root).items()}
    cuts = {axis: cut for axis, cut in cuts.items() if not _is_full(cut, dims.get(axis))}
    require(not _is_written(op.root, cuts), "it is spelt so already", x)
    return _cuts.write(op, x, cuts)


def _spelt(cut: Cut, size: int | str | None) -> Cut:
    if isinstance(size, int):
        return _cuts.spell(cut.of(size), size)
    return cut._replace(end=_cuts.END) if cut.end >= _cuts.FAR else cut


def _is_full(cut: Cut, size: int | str | None) -> bool:
    return cut.is_everything or cut == (0, size, 1)


def _is_written(node: ir.Node, cuts: dict[int, Cut]) -> bool:
    """Whether the operands of a Slice say exactly this, in the way that `_cuts.write` does."""
    columns = list(zip(*((*cuts[axis], axis) for axis in sorted(cuts)), strict=True))
    if not columns:
        return False
    starts, ends, steps, axes = columns
    wanted = [starts, ends, axes] if set(steps) == {1} else [starts, ends, axes, steps]
    found = [constant(value) for value in node.inputs[1:]]
    return len(found) == len(wanted) and all(
        array is not None and array.dtype == np.int64 and tuple(array.tolist()) == sizes
        for array, sizes in zip(found, wanted, strict=True)
    )


# --- gathers ------------------------------------------------------------------------------------


def _gather(op: Op, x: ir.Value, indices: ir.Value) -> ir.Value:
    return op.Gather(x, indices)


def _axis_size(node: ir.Node) -> tuple[int, int | str | None]:
    """The axis that a Gather picks from, counted from the front, and its size."""
    axis = attribute(node, "axis", 0) % known_rank(node.inputs[0])
    return axis, (shape(node.inputs[0]) or ())[axis]


@rule("selection/gather-range", match=_gather, exact=Exact.BITWISE)
def gather_range(op: Op, x: ir.Value, indices: ir.Value) -> ir.Value:
    """x[[a, a + s, ..., b]] -> x[a : b + 1 : s]."""
    _not_constant(x)
    wanted = const(indices, "the index")
    require(wanted.ndim == 1 and wanted.size > 0, "the index is not a list", indices)
    axis, size = _axis_size(op.root)
    first, last = int(wanted[0]), int(wanted[-1])
    steps = np.unique(np.diff(wanted.astype(np.int64)))
    step = int(steps[0]) if steps.size else 1
    require(steps.size <= 1 and step != 0, "the indices are not evenly spaced", indices)
    if isinstance(size, int):
        first, last = (i + size if i < 0 else i for i in (first, last))
        require(0 <= first < size and 0 <= last < size, "an index is out of range", indices)
        taken = range(first, last + step, step)
        require(len(taken) == wanted.size, "the indices wrap around the end", indices)
        return _cuts.write(op, x, {axis: _cuts.spell(taken, size)})
    require(step > 0 and (first < 0) == (last < 0), "the size of the axis is not known", x)
    end = _cuts.END if last == -1 else last + 1
    return _cuts.write(op, x, {axis: Cut(first, end, step)})


@rule("selection/gather-index", match=_gather, exact=Exact.BITWISE)
def gather_index(op: Op, x: ir.Value, indices: ir.Value) -> ir.Value:
    """x[-i] -> x[n - i] on an axis of n elements."""
    _not_constant(x)
    index = const(indices, "the index")
    axis, size = _axis_size(op.root)
    require(index.ndim == 0 and index < 0, "not a single index from the end", indices)
    require(isinstance(size, int), "the size of the axis is not known", x)
    return op.Gather(x, int(index) + int(size or 0), axis=axis)


def _squeezed_slice(op: Op, x: ir.Value, axes: ir.Value) -> ir.Value:
    return op.Squeeze(op.Slice(x, ..., _shared=True), axes)


@rule("selection/slice-squeeze", match=_squeezed_slice, exact=Exact.BITWISE)
def slice_squeeze(op: Op, x: ir.Value, axes: ir.Value) -> ir.Value:
    """Squeeze(x[i:i+1]) -> Gather(x, i)."""
    _not_constant(x)
    inner = producing(op.root.inputs[0])
    cuts = _read(inner)
    dropped = {axis % known_rank(inner.outputs[0]) for axis in const_ints(axes, "the list of axes")}
    require(set(cuts) == dropped and len(cuts) == 1, "other axes are cut than dropped", axes)
    ((axis, cut),) = cuts.items()
    end = cut.start + 1 if cut.start != -1 else _cuts.END
    require(cut.step == 1 and cut.end == end, "takes not exactly one", x)
    return op.Gather(x, cut.start, axis=axis)


RULES = (
    slice_nothing,
    slice_slice,
    slice_spelling,
    gather_range,
    gather_index,
    slice_squeeze,
)
