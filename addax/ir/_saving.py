"""A model's file and the data file beside it, written without holding the weights.

The weights of a copy of the model are replaced by stubs that say where their bytes will be;
the copy is serialized, and the bytes are carried over from where they are.
"""

import copy
import os
from collections.abc import Iterator
from typing import BinaryIO, TypeAlias

import onnx
import onnx_ir as ir

from addax.errors import ModelFileError
from addax.ir._copying import Copier, ShareTensor, share
from addax.ir._scopes import scopes
from addax.ir._staging import staged
from addax.ir._wire import write_streamed
from addax.ir.external import Folders, MappedTensor, chunks

INLINE_LIMIT = 1_500_000_000  # bytes of weights in one file; protobuf's own limit is 2 GiB
_SMALL = 1024  # bytes; readers need the values of small tensors to compute shapes
_STREAMED = 1 << 16  # bytes; below, a copy costs less than an entry of its own
_PAGED = 1 << 20  # bytes; from here on a tensor starts on a page, so that it can be mapped alone
_PAGE, _LINE = 4096, 64

_Identity: TypeAlias = tuple[int, ...]


class _Stub(ir.ExternalTensor):
    """Stands for a tensor whose bytes are written elsewhere."""

    __slots__ = ()


def write_model(model: ir.Model, path: str, external_data: bool | None) -> None:
    """Write `model` to `path`; see `addax.ir.model.save`."""
    if external_data is None:
        external_data = sum(_bytes(tensor) for tensor in _all_tensors(model)) > INLINE_LIMIT
    opened = _Opened()
    if external_data:
        data_path = f"{path}.data"
        layout = _Layout(os.path.basename(data_path), opened)
        proto = _skeleton(model, layout.place, layout.place)
        with staged(data_path, path) as (data_file, file):
            layout.write(data_file)
            file.write(proto.SerializeToString())
    else:
        data_path = path
        streamed: dict[str, ir.TensorProtocol] = {}
        proto = _skeleton(model, _streams(opened, streamed), opened.in_memory)
        with staged(path) as (file,):
            write_streamed(proto, streamed, file)
    opened.invalidate(data_path)


class _Opened:
    """Opens the tensors that a model built in memory keeps in files, and remembers them."""

    def __init__(self) -> None:
        self._folders = Folders()
        self._plain: list[ir.ExternalTensor] = []

    def open(self, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        """The tensor, mapped if it lies in a file."""
        if not isinstance(tensor, ir.ExternalTensor) or isinstance(tensor, MappedTensor | _Stub):
            return tensor
        self._plain.append(tensor)
        return self._folders.open(tensor)

    def in_memory(self, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        """A tensor that is written with the message that holds it."""
        tensor = self.open(tensor)
        if isinstance(tensor, MappedTensor):
            return ir.tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
        return share(tensor)

    def invalidate(self, path: str) -> None:
        """Make unmapped tensors that read from the file at `path` say that it has changed."""
        for tensor in self._plain:
            if os.path.realpath(tensor.path) == os.path.realpath(path):
                tensor.invalidate()


class _Layout:
    """Where each tensor goes in the data file; the same bytes go there once."""

    def __init__(self, location: str, opened: _Opened) -> None:
        self._location, self._opened = location, opened
        self._places: dict[_Identity, tuple[int, ir.TensorProtocol]] = {}
        self._end = 0

    def place(self, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        """A stub that says where the tensor will be, or the tensor itself if it is small."""
        if isinstance(tensor, _Stub):
            return tensor
        if _bytes(tensor) < _SMALL:
            return self._opened.in_memory(tensor)
        tensor = self._opened.open(tensor)
        identity = _identity(tensor)
        if identity not in self._places:
            step = _PAGE if tensor.nbytes >= _PAGED else _LINE
            start = -(-self._end // step) * step
            self._places[identity] = start, tensor
            self._end = start + tensor.nbytes
        return _stub(tensor, self._location, self._places[identity][0])

    def write(self, file: BinaryIO) -> None:
        """Write every tensor to its place; gaps read as zeros."""
        for start, tensor in self._places.values():
            file.seek(start)
            for chunk in chunks(tensor):
                file.write(chunk)


def _stub(tensor: ir.TensorProtocol, location: str, start: int) -> _Stub:
    return _Stub(
        location,
        start,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "",
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def _identity(tensor: ir.TensorProtocol) -> _Identity:
    """Equal for two tensors over the same bytes."""
    if isinstance(tensor, MappedTensor):
        return id(tensor.file), tensor.start, tensor.nbytes
    if isinstance(tensor, ir.Tensor):
        return (id(tensor.raw),)
    return (id(tensor),)


def _bytes(tensor: ir.TensorProtocol) -> int:
    """The bytes that a tensor takes in a file; strings stay in the message and count as none."""
    return 0 if tensor.dtype == ir.DataType.STRING else tensor.nbytes


def _streams(opened: _Opened, streamed: dict[str, ir.TensorProtocol]) -> ShareTensor:
    """Replaces large tensors by stubs, and notes them by name in `streamed`."""

    def replace(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if _bytes(tensor) < _STREAMED:
            return opened.in_memory(tensor)
        key = str(len(streamed))
        streamed[key] = opened.open(tensor)
        return _stub(tensor, key, 0)

    return replace


def _skeleton(model: ir.Model, initializer: ShareTensor, nested: ShareTensor) -> onnx.ModelProto:
    """The message of a model whose tensors have been replaced; the model stays as it is.

    `initializer` replaces those of the main graph, `nested` those of attributes and subgraphs.
    """
    inner = {id(t): t for t in _nested_tensors(model) if _bytes(t) >= _SMALL or _is_external(t)}
    if inner:
        # External tensors of the graph itself are opened below, from the original objects.
        copier = Copier(
            lambda t: nested(t) if id(t) in inner else t if _is_external(t) else share(t)
        )
        model = copier.model(model)
    graph = model.graph
    shown = copy.copy(model)
    shown.graph = ir.GraphView(  # type: ignore[assignment]  # serialization reads either kind
        graph.inputs,
        graph.outputs,
        nodes=graph,
        initializers=[_initializer(value, initializer) for value in graph.initializers.values()],
        doc_string=graph.doc_string,
        opset_imports=graph.opset_imports,
        name=graph.name,
        metadata_props=graph.metadata_props,
    )
    return ir.serde.serialize_model(shown)


def _initializer(value: ir.Value, replace: ShareTensor) -> ir.Value:
    """A value that is written like `value`, with its tensor replaced."""
    if value.const_value is None:
        raise ModelFileError(
            f"initializer {value.name!r} has no data: give it a const_value, or make it an input"
        )
    shown = ir.Value(
        name=value.name,
        shape=value.shape,
        type=value.type,
        doc_string=value.doc_string,
        const_value=replace(value.const_value),
        metadata_props=value.metadata_props,
    )
    shown.meta.update(value.meta)  # quantization annotations are kept there
    return shown


def _is_external(tensor: ir.TensorProtocol) -> bool:
    return isinstance(tensor, ir.ExternalTensor)


def _all_tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            yield value.const_value
    yield from _nested_tensors(model)


def _nested_tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """The tensors of attributes and of subgraphs, anywhere in a model."""
    for scope in scopes(model):
        if isinstance(scope, ir.Graph) and scope is not model.graph:
            for value in scope.initializers.values():
                if value.const_value is not None:
                    yield value.const_value
        for node in scope:
            for attr in node.attributes.data.values():
                if attr.type == ir.AttributeType.TENSOR and not attr.is_ref():
                    yield attr.value
                elif attr.type == ir.AttributeType.TENSORS and not attr.is_ref():
                    yield from attr.value
