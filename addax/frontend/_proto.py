"""Bytes to a message: what an ONNX file must be, and what it often is instead."""

import difflib
import logging
import os
from collections import Counter

import onnx
from google.protobuf.message import DecodeError  # no stubs

from addax.errors import InvalidGraphError, ModelFileError, UnsupportedOpError

logger = logging.getLogger(__name__)

_PROTOBUF_LIMIT = (1 << 31) - 1

# How other files begin, what they are, and what to do.
_OTHERS = (
    (b"PK", "a zip archive, as torch.save writes: load it with torch and pass the module"),
    (b"\x80\x02", "a pickle: load it with torch and pass the module"),
    (b"\x80\x04", "a pickle: load it with torch and pass the module"),
    (b"\x1f\x8b", "compressed: unpack it first"),
    (b"version https://git-lfs", "a pointer of Git LFS: fetch the file with `git lfs pull`"),
    (b"<", "a web page or XML, so the download went wrong"),
    (b"\x89HDF", "an HDF5 file: export the model to ONNX first"),
    (b"GGUF", "a GGUF file: export the model to ONNX first"),
    (b"....TFL3", "a TensorFlow Lite model: convert it to ONNX first"),
    (b"....ORTM", "a model in ORT format: pass the ONNX file that it was made from"),
)


def read_file(path: str) -> onnx.ModelProto:
    """The message in a file; weights in other files stay there.

    Raises:
        ModelFileError: If there is no such file, or it is not an ONNX model.
    """
    if not os.path.exists(path):
        raise ModelFileError(f"there is no file {path}{_nearest(path)}")
    if not os.path.isfile(path):
        raise ModelFileError(f"{path} is a folder; pass the path of the .onnx file in it")
    try:
        size = os.path.getsize(path)
        if size > _PROTOBUF_LIMIT:
            raise ModelFileError(
                f"{path} has {size} bytes, and an ONNX file cannot have more than "
                f"{_PROTOBUF_LIMIT}: save the model with its weights as external data"
            )
        with open(path, "rb") as file:
            data = file.read()
    except ModelFileError:
        raise
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error
    return parse(data, path)


def parse(data: bytes, where: str) -> onnx.ModelProto:
    """The message in the bytes of a file; `where` says for people what they are.

    Raises:
        ModelFileError: If they are not an ONNX model.
    """
    if not data:
        raise ModelFileError(f"{where} is empty; expected an ONNX model")
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelFileError(f"{where} is not a whole ONNX model: it is {_guess(data)}") from error
    if not proto.HasField("graph"):
        raise ModelFileError(f"{where} holds no graph: it is {_guess(data)}")
    return proto


def _guess(data: bytes) -> str:
    """What data that is not an ONNX model may be."""
    for start, meaning in _OTHERS:
        skip = len(start) - len(start.lstrip(b"."))
        if data[skip : len(start)] == start[skip:]:
            return meaning
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        return "a safetensors file, which holds weights and no graph"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in data[:512]):
        return f"text, beginning with {data[:40].decode('ascii')!r}"
    return "truncated, damaged, or something else"


def _nearest(path: str) -> str:
    """A hint at a file of a similar name beside the missing one."""
    folder, name = os.path.split(path)
    try:
        near = difflib.get_close_matches(name, os.listdir(folder or "."), 1)
    except OSError:
        return f"; its folder {folder} does not exist either"
    return f"; did you mean {os.path.join(folder, near[0])}?" if near else ""


def check(proto: onnx.ModelProto) -> None:
    """Refuse what would be lost or misread when a message becomes a graph.

    Raises:
        InvalidGraphError: If inputs or operator sets are declared twice, or none are.
        UnsupportedOpError: If the format is newer than the installed onnx, or uses what no
            part of addax has a meaning for.
    """
    if proto.ir_version < 1:
        raise InvalidGraphError("the model has no IR version: it is damaged or was never finished")
    if proto.ir_version > onnx.IR_VERSION:
        raise UnsupportedOpError(
            f"the model has IR version {proto.ir_version}, and onnx {onnx.__version__} knows "
            f"versions up to {onnx.IR_VERSION}: install a newer onnx"
        )
    _check_imports(proto)
    for kind, names in (
        ("graph input", [value.name for value in proto.graph.input]),
        ("initializer", [tensor.name for tensor in proto.graph.initializer]),
    ):
        if "" in names:
            raise InvalidGraphError(f"{kind} number {names.index('')} has no name")
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice and kind == "graph input":
            raise InvalidGraphError(f"{kind} {twice[0]!r} is declared twice: rename one of them")
        if twice:
            logger.warning("initializer %r is given twice; the last one counts", twice[0])
    if proto.graph.sparse_initializer:
        name = proto.graph.sparse_initializer[0].values.name
        raise UnsupportedOpError(f"initializer {name!r} is sparse: store it as a dense tensor")


def _check_imports(proto: onnx.ModelProto) -> None:
    versions: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if entry.version >= 1 and versions.setdefault(domain, entry.version) != entry.version:
            raise InvalidGraphError(
                f"operator set {domain or 'ai.onnx'!r} is imported at versions "
                f"{versions[domain]} and {entry.version}: keep one"
            )
    if not versions:
        raise InvalidGraphError(
            "the model imports no operator set, so its operators have no meaning: it is "
            "truncated, or its writer left opset_import out"
        )


def without_repeated_constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a message in which each Constant node has its output to itself.

    Some exporters define a constant again after its uses. ONNX Runtime takes the last one.
    """
    last = {n.output[0]: n for n in proto.graph.node if n.op_type == "Constant" and n.output}
    copied, seen, repeated = onnx.ModelProto(), set(), []
    copied.CopyFrom(proto)
    copied.graph.ClearField("node")
    for node in proto.graph.node:
        name = node.output[0] if node.output else ""
        if node.op_type != "Constant" or name not in seen:
            chosen = last[name] if node.op_type == "Constant" else node
            copied.graph.node.add().CopyFrom(chosen)
            seen.add(name)
        else:
            repeated.append(name)
    if repeated:
        logger.warning("constants %s are given twice; the last one counts", repeated)
    return copied
