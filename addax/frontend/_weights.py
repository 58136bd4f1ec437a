"""The tensors of a model that has just been read: checked, decoded once, its own."""

import math
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir

from addax.errors import InvalidGraphError
from addax.ir.external import MappedTensor
from addax.ir.model import scopes

OpenTensor = Callable[[ir.ExternalTensor], MappedTensor]

_ELEMENTS = {dtype.value for dtype in ir.DataType} - {ir.DataType.UNDEFINED.value}
_TENSORS = (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS)


def own_weights(model: ir.Model, open_external: OpenTensor) -> None:
    """Replace every tensor that wraps a message or lies in a file by one that was checked.

    Messages are decoded now: they are someone else's, and would be copied at each use.

    Raises:
        InvalidGraphError: If the data of a tensor does not fit its shape.
        ModelFileError: If a file does not hold what it should; raised by `open_external`.
    """
    known: dict[int, tuple[ir.TensorProtocol, ir.TensorProtocol]] = {}

    def own(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if id(tensor) not in known:
            known[id(tensor)] = tensor, _own(tensor, open_external)
        return known[id(tensor)][1]

    for scope in scopes(model):
        if isinstance(scope, ir.Graph):
            for value in scope.initializers.values():
                if value.const_value is not None:
                    value.const_value = own(value.const_value)
        for node in scope:
            for attr in tuple(node.attributes.data.values()):
                if attr.type in _TENSORS and not attr.is_ref():
                    node.attributes[attr.name] = _own_attribute(attr, own)


def _own_attribute(attr: ir.Attr, own: Callable[[ir.TensorProtocol], ir.TensorProtocol]) -> ir.Attr:
    if attr.type == ir.AttributeType.TENSOR:
        return ir.AttrTensor(attr.name, own(attr.value), attr.doc_string)
    return ir.AttrTensors(attr.name, [own(tensor) for tensor in attr.value], attr.doc_string)


def _own(tensor: ir.TensorProtocol, open_external: OpenTensor) -> ir.TensorProtocol:
    if isinstance(tensor, ir.ExternalTensor) and not isinstance(tensor, MappedTensor):
        return open_external(tensor)
    if isinstance(tensor, ir.serde.TensorProtoTensor):
        return _decode(tensor.raw)
    if isinstance(tensor, ir.StringTensor):
        _check_count(tensor.name, tensor.shape.numpy(), len(tensor.string_data()), "strings")
    return tensor


def _decode(proto: onnx.TensorProto) -> ir.TensorProtocol:
    """The tensor in a message."""
    name, dims = proto.name or None, tuple(proto.dims)
    if proto.data_type not in _ELEMENTS:
        raise InvalidGraphError(
            f"tensor {proto.name!r} has element type {proto.data_type}, which does not exist"
        )
    element = ir.DataType(proto.data_type)
    if min(dims, default=0) < 0:
        raise InvalidGraphError(f"tensor {proto.name!r} has a negative dimension: {list(dims)}")
    if proto.HasField("raw_data"):
        data = np.frombuffer(proto.raw_data, np.uint8)
        needed = -(-math.prod(dims) * element.bitwidth // 8)
        _check_count(proto.name, dims, len(data), f"bytes of {element}", needed)
        if element.bitwidth < 8:
            return ir.PackedTensor(data, element, shape=dims, name=name)
        array = data.view(element.numpy().newbyteorder("<")).reshape(dims)
    else:
        fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
        held = max(len(getattr(proto, field)) for field in fields)
        if math.prod(dims) and not held:
            _check_count(proto.name, dims, 0, "elements")
        try:
            array = ir.serde.TensorProtoTensor(proto).numpy()
        except (AssertionError, ValueError) as error:
            raise InvalidGraphError(
                f"tensor {proto.name!r} of shape {list(dims)} and type {element} is not what its "
                f"data is ({held} numbers): {error}"
            ) from error
    return ir.Tensor(array, element, shape=ir.Shape(dims), name=name)


def _check_count(
    name: str | None, dims: tuple[int, ...], held: int, unit: str, needed: int | None = None
) -> None:
    needed = math.prod(dims) if needed is None else needed
    if held != needed:
        raise InvalidGraphError(
            f"tensor {name!r} of shape {list(dims)} needs {needed} {unit}, and has {held}: the "
            "model is truncated or was written wrongly"
        )
