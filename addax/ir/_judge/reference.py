"""The ops that onnx's own reference implementation computes for us.

It is fed promoted tensors and mostly stays in their type; AffineGrid, LinearAttention and the
activation of CausalConvWithState it computes in float32 always, whatever the evaluation asks for.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from addax.errors import UnsupportedOpError
from addax.ir._judge.arrays import promoted, promoted_type
from addax.ir._judge.program import label
from addax.ir._judge.table import Site

_LOADERS = {
    "": "onnx.reference.ops",
    "ai.onnx.ml": "onnx.reference.ops.aionnxml",
    "ai.onnx.preview": "onnx.reference.ops.aionnx_preview",
    "ai.onnx.preview.training": "onnx.reference.ops.aionnx_preview_training",
}

_WORKING_TYPES = frozenset({"output_datatype", "softmax_precision"})


def check_opset(node: ir.Node, domain: str, opset: int) -> None:
    """Refuses opsets that the installed onnx does not know: an op may mean something else there.

    Raises:
        UnsupportedOpError: `opset` of a standard domain is newer than onnx's.
    """
    newest = _newest().get(domain)
    if newest is not None and opset > newest:
        raise UnsupportedOpError(
            f"{label(node)}: opset {opset} of domain {domain!r} is newer than {newest}, the newest "
            f"that onnx {onnx.__version__} knows; upgrade onnx or export with an older opset"
        )


@cache
def _newest() -> dict[str, int]:
    newest = {"": onnx.defs.onnx_opset_version()}
    for schema in onnx.defs.get_all_schemas():
        if schema.domain in _LOADERS:
            newest[schema.domain] = max(newest.get(schema.domain, 0), schema.since_version)
    return newest


@cache
def is_attribute(domain: str, op_type: str, name: str) -> bool:
    """Whether an op may have an attribute of that name; unknown ops may have any."""
    if not onnx.defs.has(op_type, domain):
        return True
    return name in onnx.defs.get_schema(op_type, domain).attributes


def call_of(
    node: ir.Node,
    domain: str,
    attributes: Mapping[str, ir.Attr],
    site: Site,
) -> Callable[..., Any] | None:
    """The class that onnx has for the op, ready to call on arrays; `None` where onnx has none."""
    if domain not in _LOADERS or node.op_type not in _classes(domain):
        return None
    if site.precision is not None and any(
        a.type == ir.AttributeType.GRAPH for a in attributes.values()
    ):
        raise UnsupportedOpError(
            f"{label(node)}: onnx's reference runs its subgraph, in the model's own types alone; "
            "evaluate it with precision=None"
        )
    module = import_module(_LOADERS[domain])
    try:
        run = module.load_op(domain, node.op_type, site.opset)(
            _proto(node, [_in_precision(a, site.precision) for a in attributes.values()]),
            {
                "evaluator_cls": ReferenceEvaluator,
                "existing_functions": {},
                "log": _silent,
                "new_ops": None,
                "opsets": dict(site.opsets),
                "verbose": 0,
            },
        ).run
    except Exception as error:
        raise UnsupportedOpError(
            f"{label(node)}: onnx's reference does not take it at opset {site.opset}: {error}"
        ) from error
    precision = site.precision

    def call(*inputs: Any) -> Any:
        return tuple(_promoted(value, precision) for value in run(*inputs))

    return call


def schema_body(domain: str, op_type: str, opset: int) -> ir.Function | None:
    """The function that onnx's schema gives as the meaning of an op; `None` without one."""
    try:
        schema: Any = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    return _body(domain, op_type, schema.since_version) if schema.has_function else None


@cache
def _body(domain: str, op_type: str, version: int) -> ir.Function:
    schema = onnx.defs.get_schema(op_type, version, domain)
    body = ir.serde.deserialize_function(schema.function_body)
    for name, attribute in schema.attributes.items():
        if name in body.attributes and attribute.default_value.type:
            # The body only names its attributes; their defaults stand in the schema.
            body.attributes[name] = ir.serde.deserialize_attribute(attribute.default_value)
    return body


@cache
def _classes(domain: str) -> frozenset[str]:
    """The ops of a domain that onnx has a class for; a class may end with its first opset."""
    names = vars(import_module(f"{_LOADERS[domain]}._op_list"))
    return frozenset(re.sub(r"_\d+$", "", name) for name in names)


def _in_precision(attr: ir.Attr, precision: np.dtype[Any] | None) -> ir.Attr:
    """`attr`, or in a promoted evaluation the promoted type where it names what to compute in."""
    if precision is None or attr.name not in _WORKING_TYPES:
        return attr
    wanted = promoted_type(ir.DataType(attr.as_int()).numpy(), precision)
    return ir.AttrInt64(attr.name, int(ir.DataType.from_numpy(wanted)))


def _proto(node: ir.Node, attributes: Sequence[ir.Attr]) -> onnx.NodeProto:
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=node.name or "")
    proto.input.extend("" if v is None else f"i{k}" for k, v in enumerate(node.inputs))
    proto.output.extend(f"o{k}" if v.name else "" for k, v in enumerate(node.outputs))
    proto.attribute.extend(ir.serde.serialize_attribute(attr) for attr in attributes)
    return proto


def _promoted(value: Any, precision: Any) -> Any:
    if isinstance(value, list):
        return [_promoted(item, precision) for item in value]
    return promoted(value, precision) if hasattr(value, "dtype") else value


def _silent(pattern: str, *arguments: Any) -> None:
    del pattern, arguments
