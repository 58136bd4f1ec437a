"""Type and shape rules of the operators that move, pick, repeat or make elements."""

from collections.abc import Sequence

import onnx_ir as ir

from addax.errors import InvalidGraphError
from addax.ir import _dims
from addax.ir._dims import UNKNOWN, Dim, broadcast_shapes, equals, is_known, same, show
from addax.ir._shape_data import ShapeData, attribute, dims, is_size, slice_range
from addax.ir._shape_rules import Fact, Rule, axis_of, drop_axes, dtype_of, unify
from addax.ir.query import constant_tensor

_INT64 = ir.DataType.INT64
_FAR = 2**31 - 1  # exporters write "to the end" as this or as the largest int64


def _operand(
    node: ir.Node, data: ShapeData, position: int, name: str
) -> tuple[bool, Sequence[Dim] | None]:
    """Whether an operand is given, and its contents: an input, or before that an attribute."""
    if len(node.inputs) > position:
        value = node.inputs[position]
        return value is not None, data.of(value)
    given = attribute(node, name)
    return given is not None, given


def _ints(
    node: ir.Node, data: ShapeData, position: int, name: str
) -> tuple[bool, tuple[int, ...] | None]:
    """The same for an operand of which only numbers are of use."""
    is_given, found = _operand(node, data, position, name)
    if found is None or not all(isinstance(i, int) for i in found):
        return is_given, None
    return is_given, tuple(i for i in found if isinstance(i, int))


def _transpose(node: ir.Node, _: ShapeData) -> Fact:
    x, dtype = dims(node.inputs[0]), dtype_of(node.inputs[0])
    if x is None:
        return dtype, None
    order = attribute(node, "perm")
    if order is None:
        return dtype, x[::-1]
    if sorted(order) != list(range(len(x))):
        raise InvalidGraphError(f"perm {tuple(order)} does not permute the axes of {show(x)}")
    return dtype, [x[axis] for axis in order]


def _reshape(node: ir.Node, data: ShapeData) -> Fact:
    x, dtype = dims(node.inputs[0]), dtype_of(node.inputs[0])
    target = data.of(node.inputs[1])
    if target is None:
        rank = (dims(node.inputs[1]) or (UNKNOWN,))[0]
        return dtype, [UNKNOWN] * rank if isinstance(rank, int) else None
    return dtype, _reshaped(x, target, zero_copies=not attribute(node, "allowzero", 0))


def _reshaped(x: Sequence[Dim] | None, target: Sequence[Dim], *, zero_copies: bool) -> list[Dim]:
    """The target with 0 and -1 resolved, as far as the sizes of `x` are known."""
    copied = {i for i, d in enumerate(target) if equals(d, 0) and zero_copies}
    if x is not None and any(i >= len(x) for i in copied):
        raise InvalidGraphError(f"the target {show(target)} copies axes that {show(x)} lacks")
    result = [
        d if i not in copied else UNKNOWN if x is None else x[i] for i, d in enumerate(target)
    ]
    free = [
        i for i, d in enumerate(result) if equals(d, -1) or (not is_known(d) and i not in copied)
    ]
    if x is None or len(free) != 1:
        _check_count(x, result, target)
        return [UNKNOWN if equals(d, -1) else d for d in result]
    # Copied axes cancel whatever their size is; so do equal names.
    rest = [d for i, d in enumerate(x) if i not in copied]
    fixed: list[Dim] = []
    for i, d in enumerate(result):
        if i in copied or i == free[0]:
            continue
        twin = next((j for j, e in enumerate(rest) if not isinstance(d, int) and same(d, e)), None)
        if twin is None:
            fixed.append(d)
        else:
            del rest[twin]
    count, known = _dims.product(rest), _dims.product(fixed)
    if isinstance(count, int) and isinstance(known, int) and known > 0 and count % known:
        raise InvalidGraphError(f"{show(x)} cannot take the shape {show(target)}")
    result[free[0]] = _dims.quotient(count, known)
    return result


def _check_count(x: Sequence[Dim] | None, result: Sequence[Dim], target: Sequence[Dim]) -> None:
    if x is None:
        return
    before, after = _dims.product(x), _dims.product(result)
    if isinstance(before, int) and isinstance(after, int) and after >= 0 and before != after:
        raise InvalidGraphError(f"{show(x)} cannot take the shape {show(target)}")


def _flatten(node: ir.Node, _: ShapeData) -> Fact:
    x, dtype = dims(node.inputs[0]), dtype_of(node.inputs[0])
    if x is None:
        return dtype, (UNKNOWN, UNKNOWN)
    axis = int(attribute(node, "axis", 1))
    if not -len(x) <= axis <= len(x):
        raise InvalidGraphError(f"axis {axis} is out of range for {show(x)}")
    axis += len(x) if axis < 0 else 0
    return dtype, (_dims.product(x[:axis]), _dims.product(x[axis:]))


def _unsqueeze(node: ir.Node, data: ShapeData) -> Fact:
    x, dtype = dims(node.inputs[0]), dtype_of(node.inputs[0])
    axes = _ints(node, data, 1, "axes")[1]
    if x is None or axes is None:
        return dtype, None
    rank = len(x) + len(axes)
    if not all(-rank <= axis < rank for axis in axes):
        raise InvalidGraphError(f"axes {axes} are out of range for rank {rank}")
    new = {axis % rank for axis in axes}
    if len(new) != len(axes):
        raise InvalidGraphError(f"axes {axes} name one axis twice")
    kept = iter(x)
    return dtype, [1 if i in new else next(kept) for i in range(rank)]


def _squeeze(node: ir.Node, data: ShapeData) -> Fact:
    x, dtype = dims(node.inputs[0]), dtype_of(node.inputs[0])
    is_given, axes = _ints(node, data, 1, "axes")
    if x is None or (is_given and axes is None):
        return dtype, None
    if not is_given:
        is_static = all(isinstance(d, int) for d in x)
        return dtype, [d for d in x if d != 1] if is_static else None
    result = drop_axes(x, axes or (), keep=False)
    wrong = [x[axis] for axis in axes or () if isinstance(x[axis], int) and x[axis] != 1]
    if wrong:
        raise InvalidGraphError(f"axes {axes} of {show(x)} are to go, but not all have size 1")
    return dtype, result


def _concat(node: ir.Node, _: ShapeData) -> Fact:
    dtype = next((v.dtype for v in node.inputs if v is not None and v.dtype is not None), None)
    shapes = [known for known in map(dims, node.inputs) if known is not None]
    if not shapes:
        return dtype, None
    if any(len(x) != len(shapes[0]) for x in shapes):
        raise InvalidGraphError(f"ranks differ: {', '.join(map(show, shapes))}")
    axis = axis_of(node, len(shapes[0]), 0)
    result = list(shapes[0])
    for x in shapes[1:]:
        if x == shapes[0]:
            continue
        for i, d in enumerate(x):
            if i != axis:
                result[i] = unify(result[i], d)
    is_complete = len(shapes) == len(node.inputs)
    result[axis] = _dims.total(x[axis] for x in shapes) if is_complete else UNKNOWN
    return dtype, result


def _split(node: ir.Node, data: ShapeData) -> list[Fact]:
    x, dtype = dims(node.inputs[0]), dtype_of(node.inputs[0])
    count = len(node.outputs)
    if x is None:
        return [(dtype, None)] * count
    axis = axis_of(node, len(x), 0)
    is_given, lengths = _operand(node, data, 1, "split")
    if not is_given:
        lengths = _equal_parts(x[axis], count)
    if lengths is None:
        lengths = [UNKNOWN] * count
    if len(lengths) != count:
        raise InvalidGraphError(f"{len(lengths)} split sizes for {count} outputs")
    whole = _dims.total(lengths)
    if isinstance(whole, int) and isinstance(x[axis], int) and whole != x[axis]:
        raise InvalidGraphError(f"split sizes {show(lengths)} do not add up to {x[axis]}")
    return [(dtype, [*x[:axis], length, *x[axis + 1 :]]) for length in lengths]


def _equal_parts(size: Dim, count: int) -> list[Dim]:
    if not isinstance(size, int):
        return [_dims.quotient(size, count)] * count
    part = -(-size // count)
    return [max(0, min(part, size - i * part)) for i in range(count)]


def _slice(node: ir.Node, data: ShapeData) -> Fact:
    x, dtype = dims(node.inputs[0]), dtype_of(node.inputs[0])
    if x is None:
        return dtype, None
    starts, ends = _operand(node, data, 1, "starts")[1], _operand(node, data, 2, "ends")[1]
    has_axes, axes = _ints(node, data, 3, "axes")
    has_steps, steps = _ints(node, data, 4, "steps")
    bound = starts if starts is not None else ends
    if axes is None and (has_axes or bound is None):
        return dtype, [UNKNOWN] * len(x)
    axes = tuple(range(len(bound or ()))) if axes is None else axes
    if bound is not None and len(axes) != len(bound):
        raise InvalidGraphError(f"{len(axes)} axes for {len(bound)} bounds")
    if not all(-len(x) <= axis < len(x) for axis in axes):
        raise InvalidGraphError(f"axes {axes} are out of range for {show(x)}")
    result = list(x)
    for i, axis in enumerate(axes):
        start = UNKNOWN if starts is None else starts[i]
        end = UNKNOWN if ends is None else ends[i]
        step: Dim = 1 if not has_steps else UNKNOWN if steps is None else steps[i]
        result[axis] = _sliced(x[axis], start, end, step)
    return dtype, result


def _sliced(size: Dim, start: Dim, end: Dim, step: Dim) -> Dim:
    """The length of a slice; unknown where clamping depends on a size that is not known."""
    if equals(step, 0):
        raise InvalidGraphError("a slice with step 0")
    if (
        isinstance(size, int)
        and isinstance(start, int)
        and isinstance(end, int)
        and isinstance(step, int)
    ):
        return len(slice_range(start, end, step, size))
    if equals(start, 0) and equals(step, 1) and (same(end, size) or _is_far(end)):
        return size
    if equals(start, -1) and equals(step, -1) and isinstance(end, int) and end <= -_FAR:
        return size
    return UNKNOWN


def _is_far(end: Dim) -> bool:
    """Whether a bound says "to the end" for every size there is."""
    return isinstance(end, int) and end >= _FAR


def _gather(node: ir.Node, _: ShapeData) -> Fact:
    x, indices, dtype = dims(node.inputs[0]), dims(node.inputs[1]), dtype_of(node.inputs[0])
    if x is None or indices is None:
        return dtype, None
    axis = axis_of(node, len(x), 0)
    return dtype, (*x[:axis], *indices, *x[axis + 1 :])


def _gather_elements(node: ir.Node, _: ShapeData) -> Fact:
    return dtype_of(node.inputs[0]), dims(node.inputs[1])


def _expand(node: ir.Node, data: ShapeData) -> Fact:
    x, target = dims(node.inputs[0]), data.of(node.inputs[1])
    dtype = dtype_of(node.inputs[0])
    if target is not None:
        # Exporters write -1 for "as it is", which the runtimes read as 1.
        target = tuple(1 if equals(d, -1) else d for d in target)
        return dtype, None if x is None else broadcast_shapes(x, target)
    length = (dims(node.inputs[1]) or (UNKNOWN,))[0]
    if x is None or not isinstance(length, int):
        return dtype, None
    return dtype, broadcast_shapes(x, [UNKNOWN] * length)


def _shape(node: ir.Node, _: ShapeData) -> Fact:
    x = dims(node.inputs[0])
    if x is None:
        return _INT64, (UNKNOWN,)
    return _INT64, (len(x[attribute(node, "start", 0) : attribute(node, "end")]),)


def _size(_: ir.Node, __: ShapeData) -> Fact:
    return _INT64, ()


def _range(node: ir.Node, data: ShapeData) -> Fact:
    dtype = dtype_of(node.inputs[0])
    bounds = [data.of(v) for v in node.inputs]
    if any(b is None or len(b) != 1 for b in bounds):
        return dtype, (UNKNOWN,)
    start, limit, step = [b[0] for b in bounds if b is not None]
    if isinstance(start, int) and isinstance(limit, int) and isinstance(step, int) and step:
        return dtype, (len(range(start, limit, step)),)
    length = _dims.subtract(limit, start)
    return dtype, (length if equals(step, 1) and is_size(length) else UNKNOWN,)


def _constant_of_shape(node: ir.Node, data: ShapeData) -> Fact:
    tensor = attribute(node, "value")
    dtype = ir.DataType.FLOAT if tensor is None else tensor.dtype
    target = data.of(node.inputs[0])
    if target is not None:
        return dtype, target
    rank = (dims(node.inputs[0]) or (UNKNOWN,))[0]
    return dtype, [UNKNOWN] * rank if isinstance(rank, int) else None


def _constant(node: ir.Node, _: ShapeData) -> Fact | None:
    tensor = constant_tensor(node.outputs[0])
    return None if tensor is None else (tensor.dtype, tuple(tensor.shape))  # type: ignore[arg-type]


def _tile(node: ir.Node, data: ShapeData) -> Fact:
    x, repeats = dims(node.inputs[0]), data.of(node.inputs[1])
    dtype = dtype_of(node.inputs[0])
    if x is None or repeats is None:
        return dtype, None if x is None else [UNKNOWN] * len(x)
    if len(repeats) != len(x):
        raise InvalidGraphError(f"{len(repeats)} repeats for {show(x)}")
    return dtype, list(map(_dims.multiply, x, repeats))


def _pad(node: ir.Node, data: ShapeData) -> Fact:
    x, dtype = dims(node.inputs[0]), dtype_of(node.inputs[0])
    pads = _operand(node, data, 1, "pads")[1]
    has_axes, axes = _ints(node, data, 3, "axes")
    if x is None:
        return dtype, None
    if pads is None or (has_axes and axes is None):
        return dtype, [UNKNOWN] * len(x)
    axes = tuple(range(len(x))) if axes is None else axes
    if len(pads) != 2 * len(axes):
        raise InvalidGraphError(f"expected {2 * len(axes)} pads for {show(x)}, got {len(pads)}")
    result = list(x)
    for i, axis in enumerate(axes):
        result[axis] = _dims.add(x[axis], _dims.add(pads[i], pads[i + len(axes)]))
    return dtype, result


RULES: dict[str, Rule] = {
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
