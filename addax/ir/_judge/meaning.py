"""Which NumPy code a node means: its function's body, our kernel, or onnx's reference class."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import InvalidGraphError, UnsupportedOpError
from addax.ir._judge import reference
from addax.ir._judge.arrays import decode
from addax.ir._judge.ops import find
from addax.ir._judge.program import label
from addax.ir._judge.table import Kernel, Site

_log = logging.getLogger(__name__)

_RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)


@dataclass(frozen=True, slots=True)
class Body:
    """The node is a call of this function."""

    function: ir.Function


def meaning(
    node: ir.Node,
    attributes: Mapping[str, ir.Attr],
    site: Site,
    functions: Mapping[ir.OperatorIdentifier, ir.Function],
) -> Callable[..., Any] | Body:
    """What to call on the node's inputs, or the body to run.

    A function of the model goes before everything else: it is what the model says the op means.

    Raises:
        UnsupportedOpError: the op is random, or nothing here knows it or one of its attributes.
        InvalidGraphError: a required attribute is missing.
    """
    function = functions.get((node.domain, node.op_type, node.overload))
    if function is not None:
        return Body(function)
    domain = "" if node.domain == "ai.onnx" else node.domain
    if not domain and node.op_type in _RANDOM:
        raise UnsupportedOpError(
            f"{label(node)} is random: its result is not a function of the inputs, so it has no "
            "value to judge by; replace it by a graph input"
        )
    reference.check_opset(node, domain, site.opset)
    kernel = find(domain, node.op_type, site.opset)
    if kernel is not None:
        _check_attributes(node, domain, attributes, kernel)
        values = {
            name: attribute_value(attr, site)
            for name, attr in attributes.items()
            if name in kernel.attributes
        }
        if kernel.sited:
            values["site"] = site
        return partial(kernel.call, **values) if values else kernel.call
    found = reference.call_of(node, domain, attributes, site)
    if found is not None:
        return found
    body = reference.schema_body(domain, node.op_type, site.opset)
    if body is not None:
        return Body(body)
    raise UnsupportedOpError(
        f"{label(node)}: no NumPy meaning is known for op {node.op_type!r} of domain {domain!r} "
        f"at opset {site.opset}; give the model a function of that name, or evaluate it elsewhere"
    )


def attribute_value(attr: ir.Attr, site: Site) -> Any:
    """An attribute as a kernel takes it: numbers as ONNX stores them, tensors as arrays."""
    match attr.type:
        case ir.AttributeType.FLOAT:
            return float(np.float32(attr.value))
        case ir.AttributeType.FLOATS:
            return tuple(float(np.float32(v)) for v in attr.value)
        case ir.AttributeType.TENSOR:
            return decode(attr.value, site.precision)
        case _:
            return attr.value


def _check_attributes(
    node: ir.Node, domain: str, attributes: Mapping[str, ir.Attr], kernel: Kernel
) -> None:
    for name in attributes:
        if name in kernel.attributes:
            continue
        if not reference.is_attribute(domain, node.op_type, name):
            # Runtimes accept models with misspelt attributes, and compute as if they were absent.
            _log.warning("%s: attribute %r is none of the op's and is ignored", label(node), name)
            continue
        raise UnsupportedOpError(
            f"{label(node)}: attribute {name!r} has no meaning here; "
            f"known for this op: {', '.join(sorted(kernel.attributes)) or 'none'}"
        )
    missing = sorted(kernel.required - attributes.keys())
    if missing:
        raise InvalidGraphError(f"{label(node)}: required attribute {missing[0]!r} is missing")
