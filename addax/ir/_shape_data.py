"""Contents of the small integer tensors that shapes are computed with.

`Reshape(x, Concat(Gather(Shape(x), 0), -1))` has a known shape although its target is no
constant: the elements of the target are dimensions. They are computed on demand, remembered,
and `UNKNOWN` where nothing is known of an element.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from addax.ir import _dims
from addax.ir._dims import UNKNOWN, Dim
from addax.ir.query import constant, constant_tensor

Data = tuple[Dim, ...]

_LARGEST = 512
_RANGES = {
    ir.DataType.BOOL: (0, 1),
    ir.DataType.INT8: (-(2**7), 2**7 - 1),
    ir.DataType.INT16: (-(2**15), 2**15 - 1),
    ir.DataType.INT32: (-(2**31), 2**31 - 1),
    ir.DataType.INT64: (-(2**63), 2**63 - 1),
    ir.DataType.UINT8: (0, 2**8 - 1),
    ir.DataType.UINT16: (0, 2**16 - 1),
    ir.DataType.UINT32: (0, 2**32 - 1),
    ir.DataType.UINT64: (0, 2**64 - 1),
}


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The value of an attribute, or `default`; like `query.attribute`, in a third of its time."""
    found = node.attributes.data.get(name)
    return default if found is None else found.value


def dims(value: ir.Value | None) -> tuple[Dim, ...] | None:
    """The dimensions of a value; those of its constant where nobody noted them."""
    if value is None:
        return None
    shape = value.shape
    if shape is None:
        tensor = constant_tensor(value)
        return None if tensor is None else tuple(tensor.shape)  # type: ignore[arg-type]  # ints
    return shape.dims


class ShapeData:
    """Known contents of integer tensors of rank 0 or 1, by value."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[ir.Value, Data | None] = weakref.WeakKeyDictionary()

    def set(self, value: ir.Value, data: Data | None) -> None:
        """Declare the contents of a value, such as the formal input of a called function."""
        self._known[value] = data

    def of(self, value: ir.Value | None) -> Data | None:
        """The elements of a tensor of rank 0 or 1; None if nothing is known of it."""
        if value is None:
            return None
        if value in self._known:
            return self._known[value]
        if value.producer() is None:
            self._known[value] = data = _constant_data(value)
            return data
        # A loop, not a recursion: chains of integer arithmetic can be thousands of nodes long.
        stack = [value]
        while stack:
            top = stack[-1]
            waiting = [] if top in self._known else self._sources(top)
            if waiting:
                stack += waiting
                continue
            stack.pop()
            if top not in self._known:
                self._known[top] = self._compute(top)
        return self._known[value]

    def ints(self, value: ir.Value | None) -> tuple[int, ...] | None:
        """The elements, if every one of them is a number."""
        data = self.of(value)
        if data is None or not all(isinstance(d, int) for d in data):
            return None
        return data  # type: ignore[return-value]  # the line above made every element an int

    def _sources(self, value: ir.Value) -> list[ir.Value]:
        """The values whose contents are needed first."""
        node = value.producer()
        if node is None or node.domain or node.op_type not in _EVALUATE or not _is_small(value):
            return []
        return [v for v in node.inputs if v is not None and v not in self._known]

    def _compute(self, value: ir.Value) -> Data | None:
        node = value.producer()
        if node is None or (node.op_type == "Constant" and not node.domain):
            return _constant_data(value)
        evaluate = _EVALUATE.get(node.op_type)
        if evaluate is None or node.domain or not _is_small(value):
            return None
        if has_reference(node):
            return None
        inputs = [self._known.get(v) if v is not None else None for v in node.inputs]
        split = node.op_type == "Split"
        result = _split(value, node, inputs[0]) if split else evaluate(node, inputs)
        if result is None or len(result) > _LARGEST:
            return None
        low, high = _RANGES.get(value.dtype or ir.DataType.INT64, (0, 0))
        return tuple(d if not isinstance(d, int) or low <= d <= high else UNKNOWN for d in result)


def _is_small(value: ir.Value) -> bool:
    """Whether the value can be a list of dimensions: an integer tensor of rank 0 or 1."""
    shape, dtype = value.shape, value.dtype
    if dtype not in _RANGES or shape is None or shape.rank() > 1:
        return False
    return shape.rank() == 0 or not isinstance(shape[0], int) or shape[0] <= _LARGEST


def has_reference(node: ir.Node) -> bool:
    """Whether an attribute stands for one of the enclosing function's."""
    for found in node.attributes.data.values():  # noqa: SIM110 - asked of every node
        if found.ref_attr_name is not None:
            return True
    return False


def _constant_data(value: ir.Value) -> Data | None:
    if value.shape is None or value.dtype is None:
        tensor = constant_tensor(value)
        if tensor is None or tensor.dtype not in _RANGES or len(tensor.shape) > 1:
            return None
        if tensor.size > _LARGEST:
            return None
    elif not _is_small(value):
        return None
    array = constant(value)
    if array is None:
        return None
    return tuple(map(int, array.reshape(-1).tolist()))


# Evaluators: the contents of a node's output from the contents of its inputs. The output is
# known to be an integer tensor of rank 0 or 1.

Inputs = Sequence[Data | None]
Evaluator = Callable[[ir.Node, Inputs], Sequence[Dim] | None]


def _shape(node: ir.Node, _: Inputs) -> Sequence[Dim] | None:
    known = dims(node.inputs[0])
    return None if known is None else known[attribute(node, "start", 0) : attribute(node, "end")]


def _size(node: ir.Node, _: Inputs) -> Sequence[Dim] | None:
    known = dims(node.inputs[0])
    return None if known is None else [_dims.product(known)]


def _first(_: ir.Node, inputs: Inputs) -> Sequence[Dim] | None:
    return inputs[0]


def _cast(node: ir.Node, inputs: Inputs) -> Sequence[Dim] | None:
    if inputs[0] is None or node.outputs[0].dtype != ir.DataType.BOOL:
        return inputs[0]
    return [int(d != 0) if isinstance(d, int) else UNKNOWN for d in inputs[0]]


def _gather(node: ir.Node, inputs: Inputs) -> Sequence[Dim] | None:
    data, indices = inputs
    if data is None or indices is None or (dims(node.inputs[0]) or ()) == ():
        return None
    if not all(isinstance(i, int) and -len(data) <= i < len(data) for i in indices):
        return None
    return [data[i] for i in indices if isinstance(i, int)]


def _concat(node: ir.Node, inputs: Inputs) -> Sequence[Dim] | None:
    result: list[Dim] = []
    for value, data in zip(node.inputs, inputs, strict=True):
        if data is not None:
            result += data
            continue
        known = dims(value)
        if known is None or len(known) != 1 or not isinstance(known[0], int) or known[0] > _LARGEST:
            return None
        result += [UNKNOWN] * known[0]
    return result


def _slice(node: ir.Node, inputs: Inputs) -> Sequence[Dim] | None:
    data, *bounds = inputs
    if data is None or len(bounds) < 2:
        return None
    numbers = []
    for position, default in enumerate((None, None, 0, 1)):
        given = bounds[position] if position < len(bounds) else None
        if given is None and (default is None or len(node.inputs) > position + 1):
            return None
        number = default if given is None else given[0] if len(given) == 1 else None
        if not isinstance(number, int):
            return None
        numbers.append(number)
    start, end, _, step = numbers
    return [data[i] for i in slice_range(start, end, step, len(data))]


def slice_range(start: int, end: int, step: int, size: int) -> range:
    """The indices that ONNX's Slice takes from an axis of `size` elements."""
    low, high = (0, size) if step > 0 else (-1, size - 1)
    first = start + size if start < 0 else start
    last = end + size if end < 0 else end
    return range(min(max(first, 0), high), min(max(last, low), high), step)


def _split(value: ir.Value, node: ir.Node, data: Data | None) -> Sequence[Dim] | None:
    """The part of `data` that one output of a Split holds."""
    lengths = [(dims(v) or (UNKNOWN,))[0] for v in node.outputs[: (value.index() or 0) + 1]]
    known = [length for length in lengths if isinstance(length, int)]
    if data is None or len(known) < len(lengths):
        return None
    return data[sum(known[:-1]) : sum(known)]


def _constant_of_shape(node: ir.Node, inputs: Inputs) -> Sequence[Dim] | None:
    count = inputs[0]
    tensor = attribute(node, "value")
    if count is None or tensor is None or len(count) > 1:
        return None
    length = count[0] if count else 1
    if not isinstance(length, int) or not 0 <= length <= _LARGEST:
        return None
    return [int(tensor.numpy().reshape(-1)[0])] * length


def _expand(node: ir.Node, inputs: Inputs) -> Sequence[Dim] | None:
    known = dims(node.outputs[0])
    if inputs[0] is None or len(inputs[0]) != 1 or known is None:
        return None
    length = known[0] if known else 1
    return [inputs[0][0]] * length if isinstance(length, int) and length <= _LARGEST else None


def _range(_: ir.Node, inputs: Inputs) -> Sequence[Dim] | None:
    numbers = [data[0] for data in inputs if data is not None and len(data) == 1]
    if len(numbers) != 3 or not all(isinstance(n, int) for n in numbers) or numbers[2] == 0:
        return None
    counted = range(*numbers)  # type: ignore[arg-type]  # all are ints
    return counted if len(counted) <= _LARGEST else None


def _where(_: ir.Node, inputs: Inputs) -> Sequence[Dim] | None:
    aligned = _align(inputs)
    if aligned is None:
        return None
    return [
        (a if c else b) if isinstance(c, int) else a if _dims.same(a, b) else UNKNOWN
        for c, a, b in zip(*aligned, strict=True)
    ]


def _align(inputs: Inputs) -> list[Data] | None:
    """Repeat single elements so that all contents have one length."""
    known = [data for data in inputs if data is not None]
    if not known or len(known) < len(inputs):
        return None
    length = next((len(data) for data in known if len(data) != 1), 1)
    aligned = [data * length if len(data) == 1 else data for data in known]
    return aligned if all(len(data) == length for data in aligned) else None


def _elementwise(function: Callable[[Dim, Dim], Dim]) -> Evaluator:
    def evaluate(_: ir.Node, inputs: Inputs) -> Sequence[Dim] | None:
        aligned = _align(inputs)
        if aligned is None:
            return None
        result: Sequence[Dim] = aligned[0]
        for other in aligned[1:]:
            result = [function(a, b) for a, b in zip(result, other, strict=True)]
        return result

    return evaluate


def _on_ints(function: Callable[[int, int], int]) -> Evaluator:
    return _elementwise(
        lambda a, b: function(a, b) if isinstance(a, int) and isinstance(b, int) else UNKNOWN
    )


def is_size(dim: Dim) -> bool:
    """Whether the dimension is certainly not negative."""
    return dim >= 0 if isinstance(dim, int) else dim.value is not None and "-" not in dim.value


def _divide(a: Dim, b: Dim) -> Dim:
    """ONNX divides integers towards zero."""
    if _dims.equals(b, 0):
        return UNKNOWN
    if isinstance(a, int) and isinstance(b, int):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return _dims.floor_divide(a, b) if is_size(a) and is_size(b) else UNKNOWN


def _equal(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return int(a == b)
    if _dims.same(a, b):
        return 1
    number, name = (a, b) if isinstance(a, int) else (b, a)
    return 0 if isinstance(number, int) and number < 0 and is_size(name) else UNKNOWN


def _extreme(function: Callable[[int, int], int]) -> Evaluator:
    return _elementwise(
        lambda a, b: (
            function(a, b)
            if isinstance(a, int) and isinstance(b, int)
            else a
            if _dims.same(a, b)
            else UNKNOWN
        )
    )


def _reduce(function: Callable[[Sequence[Dim]], Dim]) -> Evaluator:
    def evaluate(node: ir.Node, inputs: Inputs) -> Sequence[Dim] | None:
        # An axes input that is absent, or names the only axis, reduces everything.
        if inputs[0] is None or attribute(node, "noop_with_empty_axes", 0):
            return None
        return [function(inputs[0])]

    return evaluate


_EVALUATE: dict[str, Evaluator] = {
    "Abs": lambda _, x: x[0] if x[0] is not None and all(map(is_size, x[0])) else None,
    "Add": _elementwise(_dims.add),
    "And": _on_ints(lambda a, b: a & b),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _elementwise(_divide),
    "Equal": _elementwise(_equal),
    "Expand": _expand,
    "Gather": _gather,
    "Greater": _on_ints(lambda a, b: int(a > b)),
    "GreaterOrEqual": _on_ints(lambda a, b: int(a >= b)),
    "Identity": _first,
    "Less": _on_ints(lambda a, b: int(a < b)),
    "LessOrEqual": _on_ints(lambda a, b: int(a <= b)),
    "Max": _extreme(max),
    "Min": _extreme(min),
    "Mul": _elementwise(_dims.multiply),
    "Neg": lambda _, x: None if x[0] is None else [_dims.subtract(0, d) for d in x[0]],
    "Not": lambda _, x: None if x[0] is None else [_dims.subtract(1, d) for d in x[0]],
    "Or": _on_ints(lambda a, b: a | b),
    "Range": _range,
    "ReduceProd": _reduce(_dims.product),
    "ReduceSum": _reduce(_dims.total),
    "Reshape": _first,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Split": _first,
    "Squeeze": _first,
    "Sub": _elementwise(_dims.subtract),
    "Unsqueeze": _first,
    "Where": _where,
}
