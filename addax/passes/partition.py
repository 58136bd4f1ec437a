"""Partition: Split and Concat that undo each other, or say in several steps what is one.

Algebra     concat(split(x)) = x;      split(concat(a, b)) = a, b;      split_n(x) = x for one part;
            concat(a, concat(b, c)) = concat(a, b, c);      concat(a, b)[i:j] = a[i:j] within a;
            x[0:k], x[k:n] = split(x, [k, n - k])
Source      the ONNX operators' definitions
Exactness   bitwise: elements move, none is computed
Cost        moves fewer elements; where several nodes take an axis apart completely they become
            one Split, with a Squeeze for each part that dropped the axis

Only sizes that are numbers count: a part whose place depends on the input's size stays.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    constant,
    known_rank,
    producer,
    producing,
    rank,
    require,
    rule,
    shape,
    single_use,
)
from addax.ir.query import constant_tensor
from addax.ir.rewriter import is_read
from addax.ir.rule import EveryNode
from addax.passes import _cuts
from addax.passes._cuts import Cut
from addax.passes._family import Context, Phase
from addax.passes._scopes import open_scopes

PHASE = Phase.CANONICAL

_SMALL = 1 << 16  # bytes of constants that are joined although somebody else reads them too
_SIZES_OPSET = 13  # from here on Split takes its sizes as an operand


def axis_of(node: ir.Node) -> int:
    """The axis of a Split or Concat, counted from the front; declines where it is not known."""
    axis: int = attribute(node, "axis", 0)
    return axis if axis >= 0 else axis + known_rank(node.outputs[0])


def _size(value: ir.Value | None, axis: int) -> int | None:
    """The size of an axis, if it is a number."""
    dims = shape(value)
    size = None if dims is None or axis >= len(dims) else dims[axis]
    return size if isinstance(size, int) else None


# --- concatenation ------------------------------------------------------------------------------


def _concat(op: Op) -> ir.Value:
    return op.Concat(...)


@rule("partition/concat-concat", match=_concat, exact=Exact.BITWISE)
def concat_concat(op: Op) -> ir.Value:
    """concat(a, concat(b, c), d) -> concat(a, b, c, d)."""
    axis = axis_of(op.root)
    operands = list(_flat(op.root, axis))
    require(len(operands) > len(op.root.inputs), "no operand is such a Concat of its own")
    return op.Concat(*operands, axis=axis)


def _flat(node: ir.Node, axis: int) -> Iterator[ir.Value]:
    for value in node.inputs:
        inner = producer(value, "Concat")
        if inner is None or value is None or not single_use(value) or axis_of(inner) != axis:
            if value is not None:
                yield value
        else:
            yield from _flat(inner, axis)


@rule("partition/concat-constants", match=_concat, exact=Exact.BITWISE)
def concat_constants(op: Op) -> ir.Value:
    """concat(c1, c2, x) -> concat(c, x); operands without elements go."""
    axis = axis_of(op.root)
    given = [value for value in op.root.inputs if value is not None]
    filled = [value for value in given if _size(value, axis) != 0] or given[:1]
    operands: list[ir.Value] = []
    for is_constant, run in itertools.groupby(filled, _is_joinable):
        values = list(run)
        joined = is_constant and len(values) > 1
        operands += [op.Concat(*values, axis=axis)] if joined else values
    require(len(operands) < len(given), "no two constants are neighbours, no operand is empty")
    return operands[0] if len(operands) == 1 else op.Concat(*operands, axis=axis)


def _is_joinable(value: ir.Value) -> bool:
    tensor = constant_tensor(value)
    return tensor is not None and (tensor.nbytes <= _SMALL or len(value.uses()) == 1)


@dataclass(frozen=True)
class _Part:
    """The elements `start:end` of an axis of `whole`, which has `size` of them."""

    whole: ir.Value
    start: int
    end: int
    size: int


def _part(value: ir.Value, axis: int) -> _Part | None:
    """What `value` is a part of along the axis; None where it is none, or it is not known."""
    node = producer(value, "Split", "Slice")
    whole = None if node is None else node.inputs[0]
    size = _size(whole, axis)
    if node is None or whole is None or size is None:
        return None
    if node.op_type == "Slice":
        cuts = _cuts.read(node)
        if cuts is None or set(cuts) != {axis} or cuts[axis].step != 1:
            return None
        taken = cuts[axis].of(size)
        return _Part(whole, taken.start, max(taken.stop, taken.start), size)
    if rank(value) is None or axis_of(node) != axis:
        return None
    sizes = [_size(output, axis) for output in node.outputs]
    before, own = sizes[: value.index() or 0], _size(value, axis)
    if own is None or None in before:
        return None
    start = sum(n for n in before if n is not None)
    return _Part(whole, start, start + own, size)


@dataclass
class _Run:
    """Neighbouring operands of a Concat; `part` is what they make together, if it is a part."""

    values: list[ir.Value]
    part: _Part | None

    def follows(self, part: _Part | None) -> bool:
        """Whether `part` begins where this run ends."""
        mine = self.part
        return (
            mine is not None
            and part is not None
            and (mine.whole, mine.end) == (part.whole, part.start)
        )


def _runs(values: list[ir.Value], axis: int) -> list[_Run]:
    runs: list[_Run] = []
    for value in values:
        part = _part(value, axis)
        last = runs[-1] if runs else None
        if last is not None and last.part is not None and last.follows(part) and part is not None:
            last.values.append(value)
            last.part = _Part(part.whole, last.part.start, part.end, part.size)
        else:
            runs.append(_Run([value], part))
    return runs


@rule("partition/concat-of-parts", match=_concat, exact=Exact.BITWISE)
def concat_of_parts(op: Op) -> ir.Value:
    """concat(x[0:k], x[k:n], y) -> concat(x, y);  concat(x[a:b], x[b:c]) -> x[a:c]."""
    axis = axis_of(op.root)
    given = [value for value in op.root.inputs if value is not None]
    runs = _runs(given, axis)
    only = runs[0].part
    if len(runs) == 1 and only is not None:
        is_all = (only.start, only.end) == (0, only.size)
        return _cuts.write(op, only.whole, {} if is_all else {axis: Cut(only.start, only.end)})
    operands: list[ir.Value] = []
    for run in runs:
        part = run.part
        is_all = part is not None and (part.start, part.end) == (0, part.size)
        operands += [part.whole] if is_all and part is not None else run.values
    require(len(operands) < len(given), "no neighbouring operands make a whole value")
    return op.Concat(*operands, axis=axis)


# --- splits -------------------------------------------------------------------------------------


def _split(op: Op, x: ir.Value) -> ir.Value:
    return op.Split(x, ...)


@rule("partition/split-of-one", match=_split, exact=Exact.BITWISE)
def split_of_one(op: Op, x: ir.Value) -> ir.Value:
    """Split(x) -> x for one part."""
    require(len(op.root.outputs) == 1, "there are several parts", x)
    return x


@rule("partition/split-sizes", match=_split, exact=Exact.BITWISE)
def split_sizes(op: Op, x: ir.Value) -> tuple[ir.Value, ...]:
    """Split(x) -> Split(x, the sizes of its parts)."""
    require(len(op.root.inputs) == 1 and op.opset >= _SIZES_OPSET, "the sizes are given", x)
    axis = axis_of(op.root)
    sizes = _part_sizes(op.root, axis)
    return op.Split(x, sizes, axis=axis, _outputs=len(sizes))


def _part_sizes(node: ir.Node, axis: int) -> list[int]:
    sizes = [_size(value, axis) for value in node.outputs]
    known = [size for size in sizes if size is not None]
    require(len(known) == len(sizes), "the size of a part is known only at run time", *node.outputs)
    return known


def _split_concat(op: Op) -> ir.Value:
    return op.Split(op.Concat(...), ...)


@rule("partition/split-of-concat", match=_split_concat, exact=Exact.BITWISE)
def split_of_concat(op: Op) -> tuple[ir.Value, ...]:
    """split(concat(a, b, c)) -> a, concat(b, c) where no operand is cut."""
    inner, axis = producing(op.root.inputs[0]), axis_of(op.root)
    require(axis_of(inner) == axis, "they run along different axes")
    operands = [(value, _size(value, axis)) for value in inner.inputs if value is not None]
    made: list[ir.Value] = []
    for size in _part_sizes(op.root, axis):
        taken: list[ir.Value] = []
        count = 0
        while operands and (count < size or not taken):
            value, length = operands.pop(0)
            require(length is not None, "the size of an operand is known only at run time", value)
            taken.append(value)
            count += length or 0
        require(count == size, "an operand is cut")
        made.append(taken[0] if len(taken) == 1 else op.Concat(*taken, axis=axis))
    return tuple(made)


def _slice_concat(op: Op) -> ir.Value:
    return op.Slice(op.Concat(..., _shared=True), ...)


@rule("partition/slice-of-concat", match=_slice_concat, exact=Exact.BITWISE)
def slice_of_concat(op: Op) -> ir.Value:
    """concat(a, b)[i:j] -> a[i:j] where it stays within a; so for every operand."""
    inner, axis = producing(op.root.inputs[0]), axis_of(producing(op.root.inputs[0]))
    cuts, size = _cuts.read(op.root), _size(inner.outputs[0], axis)
    require(cuts is not None and set(cuts) == {axis}, "it cuts another axis, or is not constant")
    require(size is not None, "the size of an operand is known only at run time")
    taken = (cuts or {})[axis].of(size or 0)
    found = [
        (value, start, length)
        for value, start, length in _places(inner, axis)
        if taken and start <= min(taken) and max(taken) < start + length
    ]
    require(found, "it takes from several operands, or nothing")
    ((value, start, length),) = found
    cut = _cuts.spell(range(taken.start - start, taken.stop - start, taken.step), length)
    return _cuts.write(op, value, {} if cut == Cut(0, length) else {axis: cut})


def _places(node: ir.Node, axis: int) -> Iterator[tuple[ir.Value, int, int]]:
    """Each operand of a Concat of known size with its place and size in the result."""
    start = 0
    for value in node.inputs:
        length = _size(value, axis) or 0
        if value is not None:
            yield value, start, length
        start += length


RULES = (
    concat_concat,
    concat_constants,
    concat_of_parts,
    split_of_one,
    split_sizes,
    split_of_concat,
    slice_of_concat,
)


# --- what takes an axis apart completely --------------------------------------------------------


@dataclass
class _Unbinding:
    """The Split that takes the place of some selections; its outputs once it is made."""

    x: ir.Value
    axis: int
    sizes: list[int]
    outputs: tuple[ir.Value, ...] = field(default=())


@rule("partition/unbind-to-split", match=EveryNode(lambda _: True), exact=Exact.BITWISE)
def unbind_to_split(op: Op, split: _Unbinding, position: int) -> ir.Value:
    """x[0:k], x[k:n] -> Split(x);  x[0], x[1], ... -> the squeezed parts of Split(x)."""
    if not split.outputs:
        made = op.Split(split.x, split.sizes, axis=split.axis, _outputs=len(split.sizes))
        split.outputs = tuple(made)
    part = split.outputs[position]
    return op.Squeeze(part, [split.axis]) if op.root.op_type == "Gather" else part


def run(model: ir.Model, context: Context) -> bool:
    """Find the values that selections of one axis take apart, and split each once."""
    if model.opset_imports.get("", 1) < _SIZES_OPSET:
        return False
    changed = False
    for scope in open_scopes(model):
        selections: dict[tuple[ir.Value, int], list[tuple[int, int, ir.Node]]] = {}
        for node in scope:
            _note_selection(node, selections)
        for (x, axis), parts in selections.items():
            changed |= _unbind(context, x, axis, parts)
    return changed


def _note_selection(
    node: ir.Node, selections: dict[tuple[ir.Value, int], list[tuple[int, int, ir.Node]]]
) -> None:
    """Note what a Slice, or a Gather of one index, takes from which axis of which value."""
    if node.domain or node.op_type not in ("Gather", "Slice") or not node.inputs:
        return
    x = node.inputs[0]
    if x is None or constant_tensor(x) is not None or not is_read(node):
        return
    if node.op_type == "Slice":
        cuts = _cuts.read(node)
        if cuts is None or len(cuts) != 1:
            return
        ((axis, cut),) = cuts.items()
    else:
        index, full = constant(node.inputs[1]), rank(x)
        if index is None or index.ndim or not full:
            return
        axis = attribute(node, "axis", 0) % full
        cut = Cut(int(index), int(index) + 1 if int(index) != -1 else _cuts.END)
    size = _size(x, axis)
    taken = range(0) if size is None else cut.of(size)
    if taken and taken.step == 1:
        selections.setdefault((x, axis), []).append((taken.start, taken.stop, node))


def _unbind(
    context: Context, x: ir.Value, axis: int, parts: list[tuple[int, int, ir.Node]]
) -> bool:
    bounds = sorted({(start, end) for start, end, _ in parts})
    ends = [0, *(end for _, end in bounds)]
    if len(bounds) < 2 or ends[:-1] != [start for start, _ in bounds] or ends[-1] != _size(x, axis):
        return False
    split = _Unbinding(x, axis, [end - start for start, end in bounds])
    changed = False
    for start, end, node in parts:  # the first of them in the graph makes the Split
        if context.driver.rewrite(unbind_to_split, node, split, bounds.index((start, end))):
            changed = True
        elif not changed:
            break
    return changed
