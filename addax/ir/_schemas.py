"""What ONNX's operator schemas say, read once for each operator and version."""

import functools
from dataclasses import dataclass

import onnx.defs
import onnx_ir as ir

_OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional
_VARIADIC = onnx.defs.OpSchema.FormalParameterOption.Variadic

_TYPES = {
    getattr(onnx.defs.OpSchema.AttrType, kind.name): kind
    for kind in ir.AttributeType
    if hasattr(onnx.defs.OpSchema.AttrType, kind.name)
}


@dataclass(frozen=True, slots=True)
class Schema:
    """The shape of an operator's calls.

    `inputs` and `outputs` are the least and largest number allowed, `operands` the positions
    that must not be left out, `attributes` the types by name, `defaults` the attributes that
    hold where a node gives none.
    """

    since: int
    deprecated: bool
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    operands: tuple[int, ...]
    attributes: dict[str, ir.AttributeType]
    required: tuple[str, ...]
    defaults: dict[str, ir.Attr]


@functools.lru_cache(maxsize=1 << 12)
def schema(domain: str, op_type: str, version: int) -> Schema | None:
    """The schema in force at a version of the operator's domain; None if there is none."""
    try:
        found = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None
    return Schema(
        since=found.since_version,
        deprecated=found.deprecated,
        inputs=(found.min_input, found.max_input),
        outputs=(found.min_output, found.max_output),
        operands=tuple(
            i for i, p in enumerate(found.inputs) if p.option not in (_OPTIONAL, _VARIADIC)
        ),
        attributes={name: _TYPES[attribute.type] for name, attribute in found.attributes.items()},
        required=tuple(name for name, a in found.attributes.items() if a.required),
        defaults={
            name: ir.serde.deserialize_attribute(a.default_value)
            for name, a in found.attributes.items()
            if a.default_value.name
        },
    )


@functools.cache
def operators(domain: str) -> dict[str, tuple[int, ...]]:
    """Every operator of a domain with the versions at which its schema changed."""
    versions: dict[str, list[int]] = {}
    for found in onnx.defs.get_all_schemas_with_history():
        if found.domain == domain:
            versions.setdefault(found.name, []).append(found.since_version)
    return {name: tuple(sorted(since)) for name, since in versions.items()}
