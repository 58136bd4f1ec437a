"""Shape arithmetic in Python: what ONNX computes with small integer tensors, on sizes themselves.

`Reshape(x, Concat(Gather(Shape(x), 0), [-1]))` becomes `x.reshape(x.size(0), -1)`. Sizes that the
model does not fix stay symbolic for torch's compilers, which tensors would not.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.values import Entry, Integers, from_array, from_number
from addax.ir.query import attribute

_LONGEST = 64
_TYPES = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)
_PLAIN = (*_TYPES, ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)

Operands = list[Integers | None]
Result = Integers | Entry | tuple[Integers, ...] | None


def compute(site: Site, entries: Sequence[Entry | None]) -> Result:
    """The node's outputs as integers in Python; None where it is none of this arithmetic."""
    if site.node.domain not in ("", "ai.onnx"):
        return None
    measure = _MEASURES.get(site.node.op_type)
    if measure is not None and entries and entries[0] is not None:
        return measure(site, entries[0])
    if site.node.op_type in ("Cast", "CastLike") and entries and entries[0] is not None:
        folded = _cast_constant(site, entries[0])
        if folded is not None:
            return folded
    evaluate = _EVALUATE.get(site.node.op_type)
    if evaluate is None:
        return None
    operands = [None if entry is None else entry.integers for entry in entries]
    if any(o is None and e is not None for o, e in zip(operands, entries, strict=True)):
        return None
    return evaluate(site, operands)


def quotient(a: int, b: int) -> int:
    """`a / b` rounded towards zero, as ONNX divides integers."""
    size = abs(a) // abs(b)
    return size if (a < 0) == (b < 0) else -size


# Measures: a node that asks for the shape of a tensor.


def _shape(site: Site, entry: Entry) -> Result:
    shape = site.shape(0)
    if shape is None:
        return None
    window = slice(attribute(site.node, "start", 0), attribute(site.node, "end"))
    wanted = range(len(shape))[window]
    return Integers(tuple(_size(site, entry, shape[k], k) for k in wanted), scalar=False)


def _size_of(site: Site, entry: Entry) -> Result:
    shape = site.shape(0)
    if shape is None:
        return None
    if not all(isinstance(d, int) for d in shape):
        count = entry.tensor.numel()
        return Integers((site.as_size(count),), scalar=True)
    return Integers((math.prod(d for d in shape if isinstance(d, int)),), scalar=True)


def _size(site: Site, entry: Entry, dim: int | str | None, axis: int) -> Any:
    return dim if isinstance(dim, int) else site.as_size(entry.tensor.size(axis), dim)


# Evaluators: operands are all known.


def _type(site: Site, operands: Operands) -> ir.DataType:
    declared = site.node.outputs[0].dtype
    return declared or next((o.dtype for o in operands if o is not None), ir.DataType.INT64)


def _elementwise(
    function: Callable[[Site, Any, Any], Any], dtype: ir.DataType | None = None
) -> Callable[[Site, Operands], Result]:
    def evaluate(site: Site, operands: Operands) -> Result:
        known = [o for o in operands if o is not None]
        result = known[0]
        for other in known[1:]:
            aligned = _align(result, other)
            if aligned is None:
                return None
            items = tuple(function(site, a, b) for a, b in zip(*aligned, strict=True))
            result = Integers(items, result.scalar and other.scalar, result.dtype)
        return Integers(result.items, result.scalar, dtype or _type(site, operands))

    return evaluate


def _align(*operands: Integers) -> list[tuple[Any, ...]] | None:
    """The items of operands, single ones repeated; None where their numbers do not broadcast."""
    length = next((len(o.items) for o in operands if len(o.items) != 1), 1)
    aligned = [o.items * length if len(o.items) == 1 else o.items for o in operands]
    return aligned if all(len(items) == length for items in aligned) else None


def _map(function: Callable[[Site, Any], Any]) -> Callable[[Site, Operands], Result]:
    def evaluate(site: Site, operands: Operands) -> Result:
        x = operands[0]
        if x is None:
            return None
        items = tuple(function(site, item) for item in x.items)
        return Integers(items, x.scalar, _type(site, operands))

    return evaluate


def _keeping_size(function: Callable[[Any, Any], Any]) -> Callable[[Site, Any, Any], Any]:
    """The function; its result is a size where both operands are."""

    def apply(site: Site, a: Any, b: Any) -> Any:
        result = function(a, b)
        return site.as_size(result) if site.is_size(a) and site.is_size(b) else result

    return apply


def _divide(site: Site, a: Any, b: Any) -> Any:
    if isinstance(b, int) and b == 0:
        site.decline("it divides by zero")
    if isinstance(a, int) and isinstance(b, int):
        return quotient(a, b)
    if site.is_size(a) and site.is_size(b):
        return site.as_size(a // b)
    return site.call(quotient, a, b)


def _modulo(site: Site, a: Any, b: Any) -> Any:
    if isinstance(b, int) and b == 0:
        site.decline("it divides by zero")
    return a % b


def _minimum(site: Site, a: Any, b: Any) -> Any:
    both = isinstance(a, int) and isinstance(b, int)
    return min(a, b) if both else _sized(site, site.call(torch.sym_min, a, b), a, b)


def _maximum(site: Site, a: Any, b: Any) -> Any:
    both = isinstance(a, int) and isinstance(b, int)
    return max(a, b) if both else _sized(site, site.call(torch.sym_max, a, b), a, b)


def _sized(site: Site, result: Any, a: Any, b: Any) -> Any:
    return site.as_size(result) if site.is_size(a) and site.is_size(b) else result


def _equal(site: Site, a: Any, b: Any) -> Any:
    for size, number in ((a, b), (b, a)):
        if isinstance(number, int) and number < 0 and site.is_size(size):
            return False
    return a == b


def _where(site: Site, operands: Operands) -> Result:
    condition, x, y = operands
    if condition is None or x is None or y is None:
        return None
    aligned = _align(condition, x, y)
    if aligned is None:
        return None
    items = tuple(_choose(site, c, a, b) for c, a, b in zip(*aligned, strict=True))
    return Integers(items, condition.scalar and x.scalar and y.scalar, x.dtype)


def _choose(site: Site, condition: Any, a: Any, b: Any) -> Any:
    if isinstance(condition, int):
        return a if condition else b
    return _sized(site, site.call(torch.sym_ite, condition, a, b), a, b)


def _not(site: Site, item: Any) -> Any:
    return not item if isinstance(item, int) else site.call(torch.sym_not, item)


def _cast(site: Site, operands: Operands) -> Result:
    x, to = operands[0], _target(site)
    if x is None or to is None or to not in _TYPES:
        return None
    items = x.items
    if to == ir.DataType.BOOL and x.dtype != to:
        items = tuple(bool(i) if isinstance(i, int) else i != 0 for i in items)
    elif x.dtype == ir.DataType.BOOL:
        if not x.is_static:
            return None
        items = tuple(int(i) for i in items)
    return Integers(items, x.scalar, ir.DataType(to))


def _target(site: Site) -> ir.DataType | None:
    """The type that a Cast or CastLike asks for, if it is known."""
    if site.node.op_type == "Cast":
        to = attribute(site.node, "to")
        return ir.DataType(to) if isinstance(to, int) else None
    like = site.value(1)
    return None if like is None else like.dtype


def _cast_constant(site: Site, entry: Entry) -> Entry | None:
    """A small constant in another type, as a constant; a size as a number of any type."""
    to = _target(site)
    if to not in _PLAIN:
        return None
    size = entry.integers
    if size is not None and size.scalar and not size.is_static and to not in _TYPES:
        return from_number(size.items[0], to, site.scope.recorder)
    tensor = entry.constant
    if tensor is None or entry.trainable or len(tensor.shape) > 1 or tensor.size > _LONGEST:
        return None
    if tensor.dtype not in _PLAIN:
        return None
    array = np.asarray(tensor.numpy())
    with np.errstate(over="ignore", invalid="ignore"):
        return from_array(array.astype(to.numpy()), site.scope.recorder)


def _range(_: Site, operands: Operands) -> Result:
    start, limit, delta = operands
    if start is None or limit is None or delta is None:
        return None
    bounds = (*start.items, *limit.items, *delta.items)
    if len(bounds) != 3 or not all(isinstance(i, int) for i in bounds) or bounds[2] == 0:
        return None
    numbers = range(*bounds)
    return Integers(tuple(numbers), False, start.dtype) if len(numbers) <= _LONGEST else None


def _gather(site: Site, operands: Operands) -> Result:
    data, indices = operands
    if data is None or indices is None or data.scalar or not indices.is_static:
        return None
    if not all(-len(data.items) <= i < len(data.items) for i in indices.items):
        site.decline(f"it gathers {list(indices.items)} from {len(data.items)} elements")
    return Integers(tuple(data.items[i] for i in indices.items), indices.scalar, data.dtype)


def _concat(_: Site, operands: Operands) -> Result:
    known = [o for o in operands if o is not None and not o.scalar]
    items = tuple(item for o in known for item in o.items)
    if len(known) < len(operands) or len(items) > _LONGEST:
        return None
    return Integers(items, False, known[0].dtype)


def _slice(site: Site, operands: Operands) -> Result:
    data, starts, ends, _, steps = (*operands, None, None, None, None)[:5]
    if starts is None or ends is None:
        return None
    bounds = (*starts.items, *ends.items, *((1,) if steps is None else steps.items))
    if data is None or len(bounds) != 3 or not all(isinstance(i, int) for i in bounds):
        return None
    return Integers(data.items[slice(*bounds)], False, data.dtype)


def _split(site: Site, operands: Operands) -> Result:
    data, sizes = (*operands, None)[:2]
    if data is None:
        return None
    given = sizes.items if sizes is not None else attribute(site.node, "split")
    count = len(site.node.outputs)
    chunk = -(-len(data.items) // count)
    lengths = tuple(given) if given is not None else (chunk,) * count
    if not all(isinstance(n, int) for n in lengths):
        return None
    parts, start = [], 0
    for length in lengths:
        parts.append(Integers(data.items[start : start + length], False, data.dtype))
        start += length
    return tuple(parts)


def _as_scalar_or_list(site: Site, operands: Operands) -> Result:
    """Squeeze, Unsqueeze, Reshape: the same items in a result of rank 0 or 1."""
    x, rank = operands[0], site.node.outputs[0].shape
    if x is None or rank is None or len(rank) > 1 or (len(rank) == 0 and len(x.items) != 1):
        return None
    return Integers(x.items, len(rank) == 0, x.dtype)


def _repeat(site: Site, operands: Operands) -> Result:
    """Expand of one item, ConstantOfShape: a static number of equal items."""
    shape = operands[-1]
    if shape is None or not shape.is_static or len(shape.items) != 1:
        return None
    length = shape.items[0]
    if not 0 <= length <= _LONGEST:
        return None
    if len(operands) == 2:
        x = operands[0]
        if x is None or (len(x.items) != 1 and length not in (1, len(x.items))):
            return None
        return Integers(x.items * (length if len(x.items) == 1 else 1), False, x.dtype)
    tensor = attribute(site.node, "value")
    if tensor is None or tensor.dtype not in _TYPES:
        return None
    return Integers((tensor.numpy().reshape(-1)[0].item(),) * length, False, tensor.dtype)


def _reduce(
    function: Callable[[Site, Any, Any], Any], start: int | None
) -> Callable[[Site, Operands], Result]:
    def evaluate(site: Site, operands: Operands) -> Result:
        x = operands[0]
        if x is None or x.scalar or attribute(site.node, "noop_with_empty_axes", 0):
            return None
        if start is None and not x.items:
            return None
        result, *rest = x.items if start is None else (start, *x.items)
        for item in rest:
            result = function(site, result, item)
        return Integers((result,), not attribute(site.node, "keepdims", 1), x.dtype)

    return evaluate


def _same(_: Site, operands: Operands) -> Result:
    return operands[0]


_add, _multiply = _keeping_size(operator.add), _keeping_size(operator.mul)

_MEASURES: dict[str, Callable[[Site, Entry], Result]] = {"Shape": _shape, "Size": _size_of}
_EVALUATE: dict[str, Callable[[Site, Operands], Result]] = {
    "Abs": _map(lambda _, a: abs(a)),
    "Add": _elementwise(_add),
    "And": _elementwise(lambda _, a, b: a & b, ir.DataType.BOOL),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _repeat,
    "Div": _elementwise(_divide),
    "Equal": _elementwise(_equal, ir.DataType.BOOL),
    "Expand": _repeat,
    "Gather": _gather,
    "Greater": _elementwise(lambda _, a, b: a > b, ir.DataType.BOOL),
    "GreaterOrEqual": _elementwise(lambda _, a, b: a >= b, ir.DataType.BOOL),
    "Identity": _same,
    "Less": _elementwise(lambda _, a, b: a < b, ir.DataType.BOOL),
    "LessOrEqual": _elementwise(lambda _, a, b: a <= b, ir.DataType.BOOL),
    "Max": _elementwise(_maximum),
    "Min": _elementwise(_minimum),
    "Mod": _elementwise(_modulo),
    "Mul": _elementwise(_multiply),
    "Neg": _map(lambda _, a: -a),
    "Not": _map(_not),
    "Or": _elementwise(lambda _, a, b: a | b, ir.DataType.BOOL),
    "Range": _range,
    "ReduceMax": _reduce(_maximum, None),
    "ReduceMin": _reduce(_minimum, None),
    "ReduceProd": _reduce(_multiply, 1),
    "ReduceSum": _reduce(_add, 0),
    "Reshape": _as_scalar_or_list,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _as_scalar_or_list,
    "Sub": _elementwise(lambda _, a, b: a - b),
    "Unsqueeze": _as_scalar_or_list,
    "Where": _where,
}
