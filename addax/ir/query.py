"""Questions about values: constants, scalars, shapes, attributes, uses.

A *constant* is an initializer that no caller can override, or the output of a Constant node.
Decoded small constants are remembered, since decoding at each question is slow.
"""

import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir import _dims
from addax.ir.rule import decline

_LARGE = 1 << 20  # bytes of constants that no rule stores a second time
_REMEMBER = 1 << 16  # bytes; larger arrays stay in their files until someone computes with them

_arrays: weakref.WeakKeyDictionary[ir.Value, tuple[ir.TensorProtocol, np.ndarray]] = (
    weakref.WeakKeyDictionary()
)
_numbers: weakref.WeakKeyDictionary[ir.Value, tuple[ir.TensorProtocol, Any]] = (
    weakref.WeakKeyDictionary()
)
_CONSTANT_FIELDS = {
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}


def constant_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor behind a constant, still undecoded; None if `value` is not constant."""
    if value is None or value.is_graph_input():
        return None
    node = value.producer()
    if node is None:
        return value.const_value
    if node.op_type != "Constant" or node.domain != "":
        return None
    if value.const_value is None:
        value.const_value = _tensor_of_constant_node(node)
    return value.const_value


def _tensor_of_constant_node(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor of a Constant node; None for strings, sparse tensors and references."""
    attribute = next(iter(node.attributes.values()), None)
    if attribute is None or attribute.is_ref():
        return None
    if attribute.name == "value":
        tensor: ir.TensorProtocol = attribute.value
        return tensor
    if attribute.name in _CONSTANT_FIELDS:
        return ir.Tensor(np.asarray(attribute.value, _CONSTANT_FIELDS[attribute.name]))
    return None


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of a constant, read-only; None if `value` is not a constant."""
    tensor = constant_tensor(value)
    if tensor is None or value is None or tensor.dtype == ir.DataType.STRING:
        return None
    known = _arrays.get(value)
    if known is not None and known[0] is tensor:
        return known[1]
    array = np.asarray(tensor.numpy()).view()
    array.flags.writeable = False
    if array.nbytes <= _REMEMBER:
        _arrays[value] = (tensor, array)
    return array


def scalar(value: ir.Value | None) -> Any:
    """The one number of a constant of size 1 and any rank, as a NumPy scalar; else None."""
    tensor = constant_tensor(value)
    if tensor is None or value is None:
        return None
    known = _numbers.get(value)
    if known is not None and known[0] is tensor:
        return known[1]
    number = None
    if tensor.size == 1:
        array = constant(value)
        number = None if array is None else array.reshape(-1)[0]
    _numbers[value] = (tensor, number)
    return number


def is_constant_number(value: ir.Value | None) -> bool:
    """Whether a value is one constant floating number without axes."""
    return scalar(value) is not None and is_float(value) and rank(value) == 0


def is_near(value: ir.Value | None, number: float, beside: ir.Value | None = None) -> bool:
    """Whether `value` is a constant within two units in the last place of `number`.

    For constants such as 1 / sqrt(2), which exporters round at different places. A constant of
    rank 1 or more can raise the rank of what it is combined with: it counts only if `beside`,
    the value that it is combined with, is known to have that rank.
    """
    found, tensor = scalar(value), constant_tensor(value)
    if found is None or tensor is None or not tensor.dtype.is_floating_point():
        return False
    size = tensor.shape.rank()
    if size and (rank(beside) or 0) < size:
        return False
    scale = max(2.0 ** np.floor(np.log2(abs(number))), float(tensor.dtype.tiny))
    return bool(abs(float(found) - number) <= 2 * scale * float(tensor.dtype.eps))


def const(value: ir.Value | None, what: str = "operand") -> np.ndarray:
    """The array of a constant; declines the rule if `value` is not one."""
    array = constant(value)
    if array is None:
        decline(f"{what} is not constant", value)
    return array


def const_ints(value: ir.Value | None, what: str = "operand") -> tuple[int, ...]:
    """The integers of a constant, flattened; declines the rule if `value` is not one."""
    return tuple(int(i) for i in const(value, what).reshape(-1))


def store_once(*values: ir.Value | None) -> None:
    """Declines a rule that makes constants of `values` if these are large and read elsewhere too.

    What else reads them keeps them, so that the model would hold them twice.
    """
    tensors = [constant_tensor(value) for value in values]
    large = sum(tensor.nbytes for tensor in tensors if tensor is not None) >= _LARGE
    if large and any(value is not None and len(value.uses()) > 1 for value in values):
        decline("the weights are large and shared: they would be stored twice", *values)


def shape(value: ir.Value | None) -> tuple[int | str | None, ...] | None:
    """Dimensions as integers, names, or None where nothing is known; None without a rank."""
    if value is None or value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


def known_shape(value: ir.Value | None) -> tuple[int | str, ...]:
    """Dimensions as integers or names; declines if a dimension is unknown."""
    dims = shape(value)
    if dims is None:
        decline("shape unknown", value)
    known = [d for d in dims if d is not None]
    if len(known) != len(dims):
        decline("a dimension is unknown", value)
    return tuple(known)


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape if every dimension is an integer, else None."""
    dims = shape(value)
    if dims is None or not all(isinstance(d, int) for d in dims):
        return None
    return dims  # type: ignore[return-value]  # the line above made every element an int


def rank(value: ir.Value | None) -> int | None:
    """The number of dimensions, if known."""
    return None if value is None or value.shape is None else value.shape.rank()


def known_rank(value: ir.Value | None) -> int:
    """The number of dimensions; declines if unknown."""
    known = rank(value)
    if known is None:
        decline("rank unknown", value)
    return known


def elements(dims: Iterable[int | str | None]) -> int | str | None:
    """The number of elements of a shape: a number, an expression of names, or None."""
    count = _dims.product(d if isinstance(d, int) else ir.SymbolicDim(d) for d in dims)
    return count if isinstance(count, int) else count.value


def known_dtype(value: ir.Value | None) -> ir.DataType:
    """The element type; declines if unknown."""
    if value is None or value.dtype is None:
        decline("element type unknown", value)
    return value.dtype


def same_shape(a: ir.Value | None, b: ir.Value | None) -> bool:
    """Whether both shapes are known and equal for every binding of the symbolic dimensions."""
    left, right = shape(a), shape(b)
    return left is not None and left == right and None not in left


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The Python value of an attribute, or `default` where absent; strings are `str`.

    A number is the float32 that ONNX stores: 1e-5 is 9.99999974e-06, given or by default.
    """
    found = node.attributes.data.get(name)  # `attributes.get` itself takes several times as long
    value = default if found is None or found.is_ref() else found.value
    return float(np.float32(value)) if type(value) is float else value


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The standard-domain node that makes `value`, if its operator is one of `op_types`."""
    node = None if value is None else value.producer()
    return node if node is not None and not node.domain and node.op_type in op_types else None


def producing(value: ir.Value | None) -> ir.Node:
    """The node that makes `value`; for values that a pattern has bound to a node's output."""
    node = None if value is None else value.producer()
    if node is None:
        decline("not the output of a node", value)
    return node


def single_use(value: ir.Value) -> bool:
    """Whether exactly one input slot reads `value` and no graph returns it."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def is_float(value: ir.Value | None) -> bool:
    """Whether the element type is a floating-point format."""
    return value is not None and value.dtype is not None and value.dtype.is_floating_point()
