"""Type and shape inference of the operators without a rule of our own.

First ONNX's own C++ inference of one node, which never guesses; then, for what it leaves open
and for the operators of ONNX Runtime, the package onnx-shape-inference, which knows arithmetic
on names. Errors of either mean "nothing known": both reject some valid models.
"""

import functools
import logging
from typing import Any

import onnx
import onnx.defs
import onnx.shape_inference
import onnx_ir as ir
import onnx_shape_inference  # type: ignore[import-untyped]

from addax.ir._dims import UNKNOWN, Dim, NameMint
from addax.ir._shape_data import ShapeData, dims
from addax.ir.query import constant_tensor

logger = logging.getLogger(__name__)

Found = tuple[ir.TypeProtocol | None, list[Dim] | None]

# Where the package assumes what need not hold (that a slice is in range, that names which meet
# in a broadcast are equal, that a loop runs to its trip count), its answer is not taken.
_GUESSED = {
    *("Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Dropout"),
    *("Equal", "Expand", "Greater", "GreaterOrEqual", "If", "Less", "LessOrEqual", "Loop"),
    *("MatMul", "MatMulInteger", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "PRelu"),
    *("QLinearMatMul", "Scan", "Slice", "Sub", "Sum", "Where", "Xor"),
}


def infer(
    node: ir.Node, data: ShapeData, opsets: dict[str, int], mint: NameMint
) -> list[Found] | None:
    """Types and dimensions of the node's outputs, or None if neither engine knows the node."""
    found = _by_onnx(node, opsets)
    if found is not None and all(
        kind is not None and shape is not None and UNKNOWN not in shape for kind, shape in found
    ):
        return found
    if node.op_type in _GUESSED and not node.domain:
        return found
    more = _by_package(node, data, opsets, mint)
    if found is None or more is None:
        return found or more
    return [_better(first, second) for first, second in zip(found, more, strict=True)]


def _better(first: Found, second: Found) -> Found:
    kind = first[0] if first[0] is not None else second[0]
    if first[1] is None or second[1] is None or len(first[1]) != len(second[1]):
        return kind, first[1] if first[1] is not None else second[1]
    return kind, [b if a == UNKNOWN else a for a, b in zip(first[1], second[1], strict=True)]


@functools.lru_cache(maxsize=1 << 12)
def _schema(domain: str, op_type: str, version: int) -> Any:
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None


def _by_onnx(node: ir.Node, opsets: dict[str, int]) -> list[Found] | None:
    schema = _schema(node.domain, node.op_type, opsets.get(node.domain, 1))
    if schema is None or any(
        a.is_ref() or a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        for a in node.attributes.values()
    ):
        return None
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
    types: dict[str, onnx.TypeProto] = {}
    tensors: dict[str, onnx.TensorProto] = {}
    for position, value in enumerate(node.inputs):
        name = "" if value is None else f"i{position}"
        proto.input.append(name)
        if value is None:
            continue
        types[name] = _type_proto(value)
        tensor = constant_tensor(value)
        if tensor is not None and tensor.size <= 1024:
            tensors[name] = ir.serde.serialize_tensor(tensor)
    proto.output.extend(f"o{i}" if v.name != "" else "" for i, v in enumerate(node.outputs))
    proto.attribute.extend(ir.serde.serialize_attribute(a) for a in node.attributes.values())
    imports = [onnx.OperatorSetIdProto(domain=d, version=v) for d, v in opsets.items()]
    try:
        result = onnx.shape_inference.infer_node_outputs(
            schema, proto, types, tensors, opset_imports=imports
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        logger.debug("onnx cannot infer %s: %s", node.op_type, error)
        return None
    return [_from_proto(result.get(f"o{i}")) for i in range(len(node.outputs))]


def _type_proto(value: ir.Value) -> onnx.TypeProto:
    known = dims(value)
    if value.type is None:
        return onnx.TypeProto()
    copy = ir.Value(name="v", type=value.type, shape=None if known is None else ir.Shape(known))
    proto: onnx.TypeProto = ir.serde.serialize_value(copy).type
    return proto


def _from_proto(proto: onnx.TypeProto | None) -> Found:
    if proto is None or proto.WhichOneof("value") is None:
        return None, None
    shape = ir.serde.deserialize_type_proto_for_shape(proto)
    return (
        ir.serde.deserialize_type_proto_for_type(proto),
        None if shape is None else list(shape.dims),
    )


class _Context(onnx_shape_inference.ShapeInferenceContext):  # type: ignore[misc]
    """The package's view of one node: collects what it finds, and writes nothing to the graph."""

    def __init__(self, data: ShapeData, opsets: dict[str, int], mint: NameMint) -> None:
        super().__init__(opsets)
        self._data, self._mint = data, mint
        self.types: dict[ir.Value, ir.TypeProtocol] = {}
        self.shapes: dict[ir.Value, ir.Shape] = {}

    def new_symbolic_dim(self) -> ir.SymbolicDim:
        return self._mint.fresh()

    def is_generated_symbol(self, name: str) -> bool:
        return name in self._mint.made

    def set_shape(self, value: ir.Value, shape: ir.Shape) -> bool:
        self.shapes[value] = shape
        return True

    def set_dtype(self, value: ir.Value, dtype: ir.DataType) -> bool:
        return self.set_type(value, ir.TensorType(dtype))

    def set_type(self, value: ir.Value, type_: ir.TypeProtocol) -> bool:
        self.types[value] = type_
        return True

    def set_symbolic_value(self, value: ir.Value, data: list[Dim]) -> None:
        pass  # contents of shape tensors are computed by ShapeData

    def get_symbolic_value(self, value: ir.Value) -> list[Dim] | None:
        known = self._data.of(value)
        return None if known is None else list(known)


@functools.cache
def _registry() -> Any:
    onnx_shape_inference.registry.collect()
    return onnx_shape_inference.registry


def _by_package(
    node: ir.Node, data: ShapeData, opsets: dict[str, int], mint: NameMint
) -> list[Found] | None:
    function = _registry().get(node.domain, node.op_type, opsets.get(node.domain, 1))
    if function is None:
        return None
    context = _Context(data, opsets, mint)
    named = _name_unknowns(node, mint)
    try:
        function(context, node)
    except Exception as error:  # a fault in the package must not stop the compiler
        logger.debug("onnx-shape-inference cannot infer %s: %s", node.op_type, error)
        return None
    finally:
        for value, shape in named.items():
            value.shape = shape
    found: list[Found] = []
    for value in node.outputs:
        shape = context.shapes.get(value)
        found.append((context.types.get(value), None if shape is None else list(shape.dims)))
    return found


def _name_unknowns(node: ir.Node, mint: NameMint) -> dict[ir.Value, ir.Shape]:
    """Name the unknown dimensions of the inputs for a while: the package takes None for a name."""
    before: dict[ir.Value, ir.Shape] = {}
    for value in node.inputs:
        if value is not None and value.shape is not None and value.shape.has_unknown_dim():
            before[value] = value.shape
            value.shape = ir.Shape([mint.fresh() if d == UNKNOWN else d for d in value.shape])
    return before
