"""The copier behind `addax.ir.model.clone`: new structure, shared weights."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import onnx_ir as ir

ShareTensor = Callable[[ir.TensorProtocol], ir.TensorProtocol]

_GRAPH, _GRAPHS = ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS
_TENSOR, _TENSORS = ir.AttributeType.TENSOR, ir.AttributeType.TENSORS


def share(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """Another tensor over the same data, with a name of its own.

    Renaming a value renames its tensor, so a copy that shared the object itself would rename
    the original's. A tensor that wraps a protobuf message is decoded at most once, when used.
    """
    if isinstance(tensor, ir.serde.TensorProtoTensor):
        return ir.LazyTensor(
            lambda: ir.tensor(tensor.numpy(), dtype=tensor.dtype),
            tensor.dtype,
            tensor.shape,
            cache=True,
            name=tensor.name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props),
        )
    return copy.copy(tensor)


class Copier:
    """Copies graphs, functions and models; each value, tensor and graph of the original once.

    Values are made when first met, by a producer or by a user, so the order of nodes does not
    matter and captures of subgraphs resolve in both directions.
    """

    def __init__(self, share_tensor: ShareTensor = share) -> None:
        self._share = share_tensor
        self._values: dict[ir.Value, ir.Value] = {}
        self._tensors: dict[int, tuple[ir.TensorProtocol, ir.TensorProtocol]] = {}

    def model(self, model: ir.Model) -> ir.Model:
        """A copy of a whole model."""
        copied = ir.Model(
            self.graph(model.graph),
            ir_version=model.ir_version,
            producer_name=model.producer_name,
            producer_version=model.producer_version,
            domain=model.domain,
            model_version=model.model_version,
            doc_string=model.doc_string,
            functions=[self.function(function) for function in model.functions.values()],
            metadata_props=dict(model.metadata_props),
            device_configurations=model.device_configurations,
        )
        _copy_meta(model, copied)
        return copied

    def function(self, function: ir.Function) -> ir.Function:
        """A copy of a function."""
        return ir.Function(
            function.domain,
            function.name,
            function.overload,
            graph=self.graph(function.graph),
            attributes=[self._attribute(attr) for attr in function.attributes.values()],
        )

    def graph(self, graph: ir.Graph) -> ir.Graph:
        """A copy of a graph and everything in it; values of outer graphs map to their copies."""
        copied = ir.Graph(
            [self._value(value) for value in graph.inputs],
            [self._value(value) for value in graph.outputs],
            nodes=[self._node(node) for node in graph],
            initializers=[self._value(value) for value in graph.initializers.values()],
            doc_string=graph.doc_string,
            opset_imports=dict(graph.opset_imports),
            name=graph.name,
            metadata_props=dict(graph.metadata_props),
        )
        _copy_meta(graph, copied)
        return copied

    def _node(self, node: ir.Node) -> ir.Node:
        copied = ir.Node(
            node.domain,
            node.op_type,
            [None if value is None else self._value(value) for value in node.inputs],
            [self._attribute(attr) for attr in node.attributes.data.values()],
            overload=node.overload,
            outputs=[self._value(value) for value in node.outputs],
            version=node.version,
            name=node.name,
            doc_string=node.doc_string,
            metadata_props=dict(node.metadata_props) if node.metadata_props else None,
            device_configurations=tuple(map(self._device, node.device_configurations)),
        )
        _copy_meta(node, copied)
        return copied

    def _value(self, value: ir.Value) -> ir.Value:
        copied = self._values.get(value)
        if copied is not None:
            return copied
        shape, tensor = value.shape, value.const_value
        copied = self._values[value] = ir.Value(
            name=value.name,
            shape=shape if shape is None or shape.frozen else shape.copy(),
            type=_copy_type(value.type),
            doc_string=value.doc_string,
            const_value=None if tensor is None else self._tensor(tensor),
            metadata_props=dict(value.metadata_props) if value.metadata_props else None,
        )
        _copy_meta(value, copied)
        return copied

    def _attribute(self, attr: ir.Attr) -> ir.Attr:
        if attr.is_ref() or attr.type not in (_GRAPH, _GRAPHS, _TENSOR, _TENSORS):
            return attr
        value: Any
        if attr.type == _GRAPH:
            value = self.graph(attr.value)
        elif attr.type == _GRAPHS:
            value = [self.graph(graph) for graph in attr.value]
        elif attr.type == _TENSOR:
            value = self._tensor(attr.value)
        else:
            value = [self._tensor(tensor) for tensor in attr.value]
        return ir.Attr(attr.name, attr.type, value, doc_string=attr.doc_string)

    def _tensor(self, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        """One copy for each tensor, so that tied weights stay tied."""
        known = self._tensors.get(id(tensor))
        if known is None:
            known = self._tensors[id(tensor)] = (tensor, self._share(tensor))
        return known[1]

    def _device(self, placement: Any) -> Any:
        """A node's placement on devices, about the copies of its values."""
        specs = tuple(
            spec if spec.value is None else dataclasses.replace(spec, value=self._value(spec.value))
            for spec in placement.sharding_specs
        )
        return dataclasses.replace(placement, sharding_specs=specs)


def _copy_type(type_: ir.TypeProtocol | None) -> ir.TypeProtocol | None:
    """A type of its own: setting a value's dtype changes its type object in place."""
    if isinstance(type_, ir.TensorType | ir.SparseTensorType):
        return type(type_)(type_.dtype, denotation=type_.denotation)
    if isinstance(type_, ir.SequenceType | ir.OptionalType):
        element = _copy_type(type_.elem_type)
        return type(type_)(element, denotation=type_.denotation)  # type: ignore[arg-type]
    return copy.copy(type_)


def _copy_meta(source: Any, target: Any) -> None:
    """Carry over what analyses have noted, and which of it they have declared stale."""
    notes = source.meta
    if not notes:
        return
    target.meta.update(notes)
    for key in notes:
        if not notes.is_valid(key):
            target.meta.invalidate(key)
