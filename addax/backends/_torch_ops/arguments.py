"""A node's inputs and attributes as a converter's arguments."""

import functools
import logging
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from addax.backends._torch_ops.site import Unsupported
from addax.backends._torch_ops.table import Converter, Form
from addax.backends._torch_ops.values import Entry

_log = logging.getLogger(__name__)


def arguments(
    node: ir.Node, converter: Converter, entries: list[Entry | None]
) -> tuple[list[Any], dict[str, Any]]:
    """The positional arguments (inputs) and the named ones (attributes).

    Raises:
        Unsupported: an input or attribute is missing, superfluous, or not in the form asked for.
    """
    while entries and entries[-1] is None:
        entries = entries[:-1]
    forms = [converter.form(index) for index in range(len(entries))]
    if None in forms:
        raise Unsupported(f"it has {len(entries)} inputs, {len(converter.forms)} were expected")
    missing = [k for k in converter.needed if k >= len(entries) or entries[k] is None]
    if missing:
        raise Unsupported(f"input {missing[0]} is missing")
    keep = _index_of_tensor(entries, forms)
    inputs = [
        None if entry is None else _argument(entry, Form.TENSOR if k == keep else form, k, node)
        for k, (entry, form) in enumerate(zip(entries, forms, strict=True))
    ]
    return inputs, _attributes(node, converter)


def _index_of_tensor(entries: list[Entry | None], forms: list[Form | None]) -> int | None:
    """Which input must stay a tensor lest Python compute alone, in another precision."""
    given = [(k, e) for k, (e, f) in enumerate(zip(entries, forms, strict=True)) if e is not None]
    if all(forms[k] is Form.NUMBER and entry.number is not None for k, entry in given):
        return given[0][0] if given else None
    return None


def _argument(entry: Entry, form: Form | None, index: int, node: ir.Node) -> Any:
    value = node.inputs[index]
    if form is Form.NUMBER:
        return entry.tensor if entry.number is None else entry.number
    if form is Form.SCALAR:
        return _scalar(entry)
    if form in (Form.INTS, Form.FLOATS, Form.SIZES):
        return _numbers(entry, value, index, form)
    if form is Form.CONSTANT:
        if entry.constant is None:
            name = None if value is None else value.name
            raise Unsupported(f"input {index} ({name!r}) is computed; it must be a constant here")
        return np.asarray(entry.constant.numpy())
    return entry.tensor


def _scalar(entry: Entry) -> Any:
    if entry.integers is not None and len(entry.integers.items) == 1:
        return entry.integers.items[0]
    if entry.number is not None:
        return entry.number
    if entry.constant is not None and entry.constant.size == 1 and not entry.trainable:
        return np.asarray(entry.constant.numpy()).reshape(-1)[0].item()
    return entry.tensor.item()


def _numbers(entry: Entry, value: ir.Value | None, index: int, form: Form) -> Any:
    if entry.integers is not None:
        return entry.integers.items
    if entry.constant is not None:
        return tuple(np.asarray(entry.constant.numpy()).reshape(-1).tolist())
    shape = None if value is None else value.shape
    if shape is not None and shape.rank() == 0:
        return (entry.tensor.item(),)
    if shape is not None and isinstance(shape[0], int):
        numbers = entry.tensor.tolist()
        return tuple(numbers[k] for k in range(shape[0]))
    if form is Form.SIZES:
        return entry.tensor.tolist()
    name = None if value is None else value.name
    raise Unsupported(
        f"how many numbers input {index} ({name!r}) has is unknown; declare its shape"
    )


def _attributes(node: ir.Node, converter: Converter) -> dict[str, Any]:
    values = {}
    for name, attribute in node.attributes.items():
        if name in converter.attributes:
            values[name] = attribute_value(attribute)
        elif _is_attribute(node, name):
            known = ", ".join(sorted(converter.attributes)) or "none"
            raise Unsupported(f"attribute {name!r} has no meaning here; known are: {known}")
        else:
            # Runtimes accept models with misspelt attributes, and compute as if they were absent.
            _log.warning("node %r: %s has no attribute %r", node.name, node.op_type, name)
    missing = sorted(converter.required - values.keys())
    if missing:
        raise Unsupported(f"attribute {missing[0]!r} is missing")
    return {**converter.defaults, **values}


def _is_attribute(node: ir.Node, name: str) -> bool:
    """Whether any version of the op has such an attribute; yes for ops that ONNX does not know."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        onnx.defs.get_schema(node.op_type, domain=domain)
    except onnx.defs.SchemaError:
        return True
    return name in _attribute_names(node.op_type, domain)


@functools.cache
def _attribute_names(op_type: str, domain: str) -> frozenset[str]:
    """The attributes of an op in any of its versions, found by going back from the newest."""
    names: set[str] = set()
    opset: int | None = onnx.defs.onnx_opset_version()
    while opset:
        try:
            schema = onnx.defs.get_schema(op_type, opset, domain)
        except onnx.defs.SchemaError:
            break
        names.update(schema.attributes)
        opset = schema.since_version - 1
    return frozenset(names)


def attribute_value(attribute: ir.Attr) -> Any:
    """An attribute's value as ONNX stores it: floats are rounded to 32 bits."""
    match attribute.type:
        case ir.AttributeType.FLOAT:
            return float(np.float32(attribute.value))
        case ir.AttributeType.FLOATS:
            return tuple(float(np.float32(v)) for v in attribute.value)
        case ir.AttributeType.INTS | ir.AttributeType.STRINGS:
            return tuple(attribute.value)
        case _:
            return attribute.value
