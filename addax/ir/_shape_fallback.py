"""Type and shape inference of the operators without a rule of our own.

ONNX's own C++ inference of one node never guesses. The package onnx-shape-inference knows
arithmetic on names and the operators of ONNX Runtime, and is asked for what ONNX leaves open.
Errors of either mean "nothing known": both reject some valid models.
"""

import functools
import logging
from typing import Any

import onnx
import onnx.defs
import onnx.shape_inference
import onnx_ir as ir
import onnx_shape_inference  # type: ignore[import-untyped]

from addax.ir._dims import UNKNOWN, Dim, NameMint, is_invented
from addax.ir._shape_data import ShapeData, dims
from addax.ir.query import attribute, constant_tensor

logger = logging.getLogger(__name__)

Found = tuple[ir.TypeProtocol | None, list[Dim] | None]

# Where the package assumes what need not hold (that a slice is in range, that names which meet
# in a broadcast are equal, that a loop runs to its trip count, that no pooling window lies in the
# padding), its answer is not taken.
_GUESSED = {
    *("AveragePool", "LpPool", "MaxPool"),
    *("Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Dropout"),
    *("Equal", "Expand", "Greater", "GreaterOrEqual", "If", "Less", "LessOrEqual", "Loop"),
    *("MatMul", "MatMulInteger", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "PRelu"),
    *("QLinearMatMul", "Scan", "Slice", "Sub", "Sum", "Where", "Xor"),
}
# Attributes of ONNX Runtime's operators that move axes and that the package does not read.
_OVERLOOKED = ("transBatchA", "transBatchB")


@functools.lru_cache(maxsize=1 << 12)
def _schema(domain: str, op_type: str, version: int) -> Any:
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None


def by_onnx(node: ir.Node, opsets: dict[str, int]) -> list[Found] | None:
    """What ONNX knows of the node's outputs; None for an operator it has no schema for."""
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
    found = [_from_proto(result.get(f"o{i}")) for i in range(len(node.outputs))]
    if all(all(isinstance(d, int) for d in dims(v) or ("",)) for v in node.inputs if v is not None):
        return found
    # onnx 1.23 reads a size without a number as 0 in some rules (Attention): no zero is believed.
    return [(kind, shape and [UNKNOWN if d == 0 else d for d in shape]) for kind, shape in found]


def _type_proto(value: ir.Value) -> onnx.TypeProto:
    known = dims(value)
    if value.type is None:
        return onnx.TypeProto()
    if known is not None and isinstance(value.type, ir.SequenceType):
        # One name stands there for the sizes of all elements, which onnx's own tests let differ.
        known = tuple(d if isinstance(d, int) else UNKNOWN for d in known)
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
        return is_invented(ir.SymbolicDim(name))

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


def by_package(
    node: ir.Node, data: ShapeData, opsets: dict[str, int], mint: NameMint
) -> list[Found] | None:
    """What onnx-shape-inference knows of the node's outputs; None where it would guess."""
    if node.op_type in _GUESSED and not node.domain:
        return None
    if any(attribute(node, name, 0) for name in _OVERLOOKED):
        return None
    if any(v is not None and isinstance(v.type, ir.SequenceType) for v in node.inputs):
        return None
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
        known = context.shapes.get(value)
        found.append((context.types.get(value), None if known is None else list(known.dims)))
    return found


def _name_unknowns(node: ir.Node, mint: NameMint) -> dict[ir.Value, ir.Shape]:
    """Name the unknown dimensions of the inputs for a while: the package takes None for a name."""
    before: dict[ir.Value, ir.Shape] = {}
    for value in node.inputs:
        if value is not None and value.shape is not None and value.shape.has_unknown_dim():
            before[value] = value.shape
            value.shape = ir.Shape([mint.fresh() if d == UNKNOWN else d for d in value.shape])
    return before
