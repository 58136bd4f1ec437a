"""Nodes, attributes and constants as JSON, and back."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from addax.errors import InputError
from addax.ir._literals import tensor_key

Json = dict[str, Any]

_PLAIN = {
    ir.AttributeType.INT: int,
    ir.AttributeType.INTS: list,
    ir.AttributeType.STRING: str,
    ir.AttributeType.STRINGS: list,
}
_LARGEST = 1 << 12  # bytes of a constant that are written out; larger ones go by their digest


def encode_attributes(attributes: Mapping[str, ir.Attr]) -> Json:
    """Attributes by name: whole numbers and texts as they are, all else as protocol buffers."""
    return {name: _encode_attribute(attributes[name]) for name in sorted(attributes)}


def _encode_attribute(attr: ir.Attr) -> Any:
    if attr.type in _PLAIN and not attr.is_ref():
        plain = list(attr.value) if isinstance(attr.value, tuple | list) else attr.value
        return {"type": attr.type.name, "value": plain}
    return {"proto": _text(ir.serde.serialize_attribute(attr).SerializeToString())}


def decode_attributes(given: Json) -> list[ir.Attr]:
    """The attributes that were encoded.

    Raises:
        InputError: They are malformed.
    """
    return [_decode_attribute(name, item) for name, item in given.items()]


def _decode_attribute(name: str, item: Json) -> ir.Attr:
    if "proto" in item:
        proto = onnx.AttributeProto()
        proto.ParseFromString(_bytes(item["proto"]))
        return ir.serde.deserialize_attribute(proto)
    kind = ir.AttributeType[item["type"]]
    if kind not in _PLAIN or not isinstance(item["value"], _PLAIN[kind]):
        raise InputError(f"attribute {name!r} of a certificate is malformed: {item}")
    return ir.Attr(name, kind, item["value"])


def encode_tensor(tensor: ir.TensorProtocol) -> Json:
    """Type, shape, and the elements or, of what is large, their digest."""
    head = {"dtype": tensor.dtype.name, "shape": [int(d) for d in tensor.shape.numpy()]}
    if tensor.nbytes > _LARGEST:
        return {**head, "sha256": tensor_key(tensor).hex()}
    return {**head, "data": _text(tensor.tobytes())}


def decode_tensor(given: Json, large: Mapping[str, ir.TensorProtocol]) -> ir.TensorProtocol:
    """The tensor that was encoded; a large one is looked up by its digest.

    Raises:
        InputError: It is malformed, or nobody has it.
    """
    if "sha256" in given:
        found = large.get(given["sha256"])
        if found is None:
            raise InputError(f"no constant of the optimized model has digest {given['sha256']}")
        return found
    dtype = ir.DataType[given["dtype"]]
    raw, shape = _bytes(given["data"]), tuple(given["shape"])
    if dtype.bitwidth < _BYTE:
        return ir.PackedTensor(np.frombuffer(raw, np.uint8), dtype, shape=ir.Shape(shape))
    return ir.Tensor(np.frombuffer(raw, dtype.numpy()).reshape(shape), dtype=dtype)


_BYTE = 8


def digest(before: str, step: Json) -> str:
    """The digest of a step that follows the one with the digest `before`."""
    return hashlib.sha256(f"{before} {canonical(step)}".encode()).hexdigest()


def canonical(item: Any) -> str:
    """One spelling of a JSON value."""
    return json.dumps(item, sort_keys=True, separators=(",", ":"))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
