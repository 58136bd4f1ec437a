"""ONNX models, as files, bytes, messages or graphs, to a graph of our own."""

import logging
import os
import re
from collections import Counter
from typing import TypeAlias

import onnx
import onnx_ir as ir

from addax.errors import AddaxError, InvalidGraphError, ModelFileError, UnsupportedOpError
from addax.frontend import _proto
from addax.frontend._operators import check_operators
from addax.frontend._opset import TARGET, raise_opset
from addax.frontend._order import sort
from addax.frontend._sizes import forget_negative_sizes
from addax.frontend._text import check_text
from addax.frontend._weights import OpenTensor, own_weights
from addax.ir import collector
from addax.ir.external import Folder, Folders, MappedTensor
from addax.ir.model import clone

logger = logging.getLogger(__name__)

Bytes: TypeAlias = bytes | bytearray | memoryview
OnnxSource: TypeAlias = str | os.PathLike[str] | Bytes | onnx.ModelProto | ir.Model

_DAMAGE = (ir.serde.SerdeError, TypeError, ValueError)  # what damaged messages lead to
_OVERRIDABLE = 4  # the IR version since which an initializer that is an input is only a default


def from_onnx(source: OnnxSource) -> ir.Model:
    """Read an ONNX model. `source` is never changed, and later changes to it do not matter.

    Weights in other files stay there, memory-mapped. Models of operator set 6 to 19 are raised
    to 20 where every operator's meaning is known in both; others keep theirs. Operators of
    custom domains are kept as they are.

    Args:
        source: A path, the bytes of a file, a `ModelProto`, or an `onnx_ir.Model`.

    Raises:
        ModelFileError: If a file is missing, damaged, or outside the model's folder.
        InvalidGraphError: If the model breaks the rules of ONNX.
        UnsupportedOpError: If an operator, a version or a kind of value is unknown.
    """
    with collector.paused():
        if isinstance(source, ir.Model):
            model, open_external = clone(source), Folders().open
        elif isinstance(source, onnx.ModelProto):
            model, open_external = _deserialize(source), _nowhere
        elif isinstance(source, bytes | bytearray | memoryview):
            model = _deserialize(_proto.parse(bytes(source), "the given data"))
            open_external = _nowhere
        else:
            path = os.fspath(source)
            model = _deserialize(_proto.read_file(path))
            folder = os.path.dirname(path) or "."
            # Links may lead to where the model itself is: download caches are built so.
            open_external = Folder(folder, os.path.dirname(os.path.realpath(path))).open
        _complete(model, open_external)
    return model


def _complete(model: ir.Model, open_external: OpenTensor) -> None:
    """Check a model that has just been read, and bring it to the form that addax works on."""
    check_text(model)
    own_weights(model, open_external)
    check_operators(model)
    forget_negative_sizes(model)
    sort(model)
    _fix_inputs(model)
    raise_opset(model)
    model.opset_imports.setdefault("", TARGET)
    model.graph.name = model.graph.name or "main"


def _deserialize(proto: onnx.ModelProto) -> ir.Model:
    _proto.check(proto)
    try:
        return ir.serde.deserialize_model(proto)
    except _DAMAGE as error:
        if "redeclared" not in str(_root_cause(error)):
            raise _explain(error) from error
    try:
        return ir.serde.deserialize_model(_proto.without_repeated_constants(proto))
    except _DAMAGE as error:
        raise _explain(error) from error


def _explain(error: BaseException) -> AddaxError:
    """What a failure of deserialization means, with the node or graph where it happened."""
    cause = _root_cause(error)
    places = []
    step: BaseException | None = error
    while step is not None and step is not cause:
        named = re.search(r'_deserialize_node with: .*?name: "([^"]*)"', str(step), re.DOTALL)
        places += [f"in node {named[1]!r}"] if named else []
        step = step.__cause__
    text = " ".join([str(cause).split("Please contribute")[0].strip(), *places])
    if isinstance(cause, NotImplementedError):
        return UnsupportedOpError(
            f"the model holds something that addax has no meaning for: {text}"
        )
    return InvalidGraphError(f"the model cannot be understood: {text}")


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _nowhere(tensor: ir.ExternalTensor) -> MappedTensor:
    """Refuse external data of a model that came without a folder."""
    raise ModelFileError(
        f"tensor {tensor.name!r} keeps its data in the file {os.fspath(tensor.location)!r}, and "
        "bytes and messages have no folder: pass the model's path"
    )


def _fix_inputs(model: ir.Model) -> None:
    """Make initializers of old IR versions constant: there, each had to be an input as well."""
    names = Counter(value.name for value in model.graph.inputs)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InvalidGraphError(f"graph input {twice[0]!r} is declared twice: rename one of them")
    if model.ir_version >= _OVERRIDABLE:
        return
    given = [value for value in model.graph.inputs if not value.is_initializer()]
    if len(given) < len(names):
        model.graph.inputs[:] = given
        logger.info("initializers of IR version %d are no longer inputs", model.ir_version)
    model.ir_version = _OVERRIDABLE
