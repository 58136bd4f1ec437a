"""The protobuf message of a model, written with the data of its weights straight from elsewhere.

Fields of a message may come in any order, and a message is its fields one after another: all
but the large initializers is serialized as usual, and they are appended to the graph's message
entry by entry.
"""

from collections.abc import Mapping
from typing import BinaryIO

import onnx
import onnx_ir as ir

from addax.errors import ModelFileError
from addax.ir.external import chunks

_PROTOBUF_LIMIT = (1 << 31) - 1

# Protobuf tags, field << 3 | 2 (length-delimited), of the fields in onnx.proto.
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = b"\x3a", b"\x2a", b"\x4a"


def write_streamed(
    proto: onnx.ModelProto, streamed: Mapping[str, ir.TensorProtocol], file: BinaryIO
) -> None:
    """Write a model's message with the data of its external tensors in it.

    `streamed` holds the tensors by their location, which may be any word.

    Raises:
        ModelFileError: If the message becomes larger than protobuf allows.
    """
    headers = _take_stubs(proto.graph)
    entries = [(_entry(header, streamed[key]), streamed[key]) for key, header in headers]
    graph = proto.graph.SerializeToString()
    length = len(graph) + sum(len(head) + tensor.nbytes for head, tensor in entries)
    proto.ClearField("graph")
    head = proto.SerializeToString() + _MODEL_GRAPH + _varint(length)
    if len(head) + length > _PROTOBUF_LIMIT:
        raise ModelFileError(
            f"the model takes {len(head) + length} bytes in one file, and ONNX allows "
            f"{_PROTOBUF_LIMIT}: leave external_data out, or pass external_data=True"
        )
    file.write(head)
    file.write(graph)
    for start, tensor in entries:
        file.write(start)
        for chunk in chunks(tensor):
            file.write(chunk)


def _take_stubs(graph: onnx.GraphProto) -> list[tuple[str, onnx.TensorProto]]:
    """Remove external initializers from a graph: the location and the bare message of each."""
    kept, taken = [], []
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            key = next(entry.value for entry in tensor.external_data if entry.key == "location")
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            taken.append((key, tensor))
        else:
            kept.append(tensor)
    if taken:
        rest = onnx.GraphProto(initializer=kept)
        taken = [(key, onnx.TensorProto.FromString(t.SerializeToString())) for key, t in taken]
        graph.ClearField("initializer")
        graph.MergeFrom(rest)
    return taken


def _entry(header: onnx.TensorProto, tensor: ir.TensorProtocol) -> bytes:
    """Everything of an initializer's entry in a graph up to the tensor's bytes."""
    fields: bytes = header.SerializeToString()
    start = fields + _TENSOR_RAW_DATA + _varint(tensor.nbytes)
    return _GRAPH_INITIALIZER + _varint(len(start) + tensor.nbytes) + start


def _varint(number: int) -> bytes:
    """Protobuf's form of an unsigned integer: seven bits a byte, lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
