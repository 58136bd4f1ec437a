"""Bodies of called functions, made ready to be recorded at one call."""

from collections.abc import Mapping
from typing import Any

import onnx
import onnx_ir as ir

from addax.backends._torch_ops.site import Unsupported


def instantiate(function: ir.Function, node: ir.Node) -> ir.Function:
    """A copy of a function's body in which the attributes of the call are filled in.

    The copy's formal inputs have the types and shapes of the call's inputs.
    """
    if len(node.inputs) > len(function.inputs):
        raise Unsupported(
            f"the function takes {len(function.inputs)} inputs, the node gives {len(node.inputs)}"
        )
    body = function.clone()
    given = {a.name: a for a in function.attributes.values() if a.value is not None}
    _fill(body.graph, {**given, **node.attributes})
    for formal, actual in zip(body.inputs, node.inputs, strict=False):
        if actual is not None:
            formal.type, formal.shape = actual.type, actual.shape
    return body


def _fill(graph: ir.Graph, attributes: Mapping[str, ir.Attr]) -> None:
    """Replace references to the function's attributes by their values, or drop them."""
    for node in graph:
        for name, attribute in list(node.attributes.items()):
            if attribute.is_ref():
                given = attributes.get(attribute.ref_attr_name or "")
                if given is None:
                    del node.attributes[name]
                else:
                    node.attributes[name] = ir.Attr(name, given.type, given.value)
            elif attribute.type == ir.AttributeType.GRAPH:
                _fill(attribute.value, attributes)


def standard_body(node: ir.Node, domain: str, opset: int) -> ir.Function | None:
    """The function that the ONNX standard gives as the meaning of an op; None without one."""
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    if schema.has_function:
        version = max((v for v in schema.function_opset_versions if v <= opset), default=opset)
        return _deserialized(schema.get_function_with_opset_version(version), schema)
    versions = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
    if not versions:
        return None
    types = [_type_of(value).SerializeToString() for value in node.inputs]
    proto = _proto(node).SerializeToString()
    text = schema.get_context_dependent_function_with_opset_version(max(versions), proto, types)
    return _deserialized(text, schema) if text else None


def _deserialized(text: bytes, schema: Any) -> ir.Function:
    """The function, with the defaults of the op's attributes, and with every output that it lists.

    Bodies that are made for one node leave out outputs that the node leaves out.
    """
    proto = onnx.FunctionProto.FromString(text)
    defaults = [a.default_value for a in schema.attributes.values() if a.default_value.name]
    del proto.attribute[:]
    proto.attribute_proto.extend(defaults)
    made = {*proto.input, *(name for node in proto.node for name in node.output)}
    for name in proto.output:
        if name not in made:
            proto.node.append(onnx.helper.make_node("Constant", [], [name], value_float=0.0))
    return ir.serde.deserialize_function(proto)


def _proto(node: ir.Node) -> onnx.NodeProto:
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=node.name or "")
    proto.input.extend("" if v is None else f"i{k}" for k, v in enumerate(node.inputs))
    proto.output.extend(f"o{k}" if v.name else "" for k, v in enumerate(node.outputs))
    proto.attribute.extend(ir.serde.serialize_attribute(a) for a in node.attributes.values())
    return proto


def _type_of(value: ir.Value | None) -> onnx.TypeProto:
    if value is None:
        return onnx.TypeProto()
    if value.type is None:
        raise Unsupported(
            f"the meaning of the op depends on the type of {value.name!r}, which is unknown: "
            "declare it in the model"
        )
    proto = onnx.TypeProto()
    ir.serde.serialize_type_into(proto, value.type)
    if value.shape is not None:
        ir.serde.serialize_shape_into(proto, value.shape)
    return proto
