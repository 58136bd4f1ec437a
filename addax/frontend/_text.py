"""What a message may hold and a graph cannot: names that are no text, attributes of no type."""

from typing import Any

import onnx_ir as ir

from addax.errors import InvalidGraphError
from addax.ir.model import roots, scopes
from addax.ir.origin import describe

_DOUBTFUL = (ir.AttributeType.UNDEFINED, ir.AttributeType.STRING)


def check_text(model: ir.Model) -> None:
    """Refuse damaged names and attributes.

    Protobuf hands out text that is not UTF-8 as bytes.

    Raises:
        InvalidGraphError: If there are any; names the place.
    """
    for root in roots(model):
        for domain in root.opset_imports:
            _check_name(domain, "an operator set")
    for scope in scopes(model):
        for value in (*scope.inputs, *scope.outputs):
            _check_name(value.name, "an input or output")
        for node in scope:
            names = [node.op_type, node.domain, node.name]
            names += [value.name for value in node.outputs]
            if bytes in map(type, names):
                raise InvalidGraphError(f"the name of a node or a value is not UTF-8: {names}")
            for attr in node.attributes.data.values():
                if attr.type in _DOUBTFUL:
                    _check_attribute(node, attr)


def _check_name(name: Any, what: str) -> None:
    if isinstance(name, bytes):
        raise InvalidGraphError(f"the name of {what} is not UTF-8: {name!r}")


def _check_attribute(node: ir.Node, attr: ir.Attr) -> None:
    if attr.is_ref():
        return
    if attr.type == ir.AttributeType.UNDEFINED:
        raise InvalidGraphError(f"attribute {attr.name!r} of {describe(node)} has no type")
    if isinstance(attr.value, bytes) and not node.domain:
        raise InvalidGraphError(
            f"attribute {attr.name!r} of {describe(node)} is not UTF-8: {attr.value!r}"
        )
