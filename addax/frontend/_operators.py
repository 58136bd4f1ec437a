"""Whether every operator of a model is one that has a meaning."""

import difflib
import functools
import logging

import onnx
import onnx_ir as ir

from addax.errors import InvalidGraphError, UnsupportedOpError
from addax.ir.model import roots, scopes
from addax.ir.origin import describe

logger = logging.getLogger(__name__)

# ONNX Runtime has these in the standard domain, and its optimizer writes them there.
_RUNTIME_OPERATORS = {
    "Affine",
    "Crop",
    "DynamicSlice",
    "GivenTensorFill",
    "ImageScaler",
    "LayerNormalization",
    "MeanVarianceNormalization",
    "ParametricSoftplus",
    "Scale",
    "ScaledTanh",
    "SimplifiedLayerNormalization",
    "ThresholdedRelu",
}


def check_operators(model: ir.Model) -> None:
    """Complete the imports of custom domains, and refuse operators that nobody can know.

    Operators of custom domains stay as they are: a runtime may serve them.

    Raises:
        InvalidGraphError: If the standard operators are used and not imported, or an attribute
            is not of the type that its operator has it.
        UnsupportedOpError: If a version or an operator does not exist.
    """
    for root in roots(model):
        _normalize_imports(root.opset_imports)
        for domain, version in root.opset_imports.items():
            _check_version(domain, version)
    known: dict[tuple[str, str, str, int], dict[str, int]] = {}
    imports = model.opset_imports
    for scope in scopes(model):
        if isinstance(scope, ir.Function):
            imports = scope.opset_imports
        for node in scope:
            version = imports.get(node.domain) or _import(node, imports)
            key = (node.domain, node.op_type, node.overload, version)
            types = known.get(key)
            if types is None:
                types = {}
                if node.op_identifier() not in model.functions:
                    _check_operator(node, version)
                    types = _attribute_types(node.domain, node.op_type, version)
                known[key] = types
            for name, attr in node.attributes.data.items():
                if types.get(name, attr.type) != attr.type:
                    raise InvalidGraphError(
                        f"attribute {name!r} of {describe(node)} is of type {attr.type.name}; "
                        f"expected {ir.AttributeType(types[name]).name}"
                    )


def _normalize_imports(imports: dict[str, int]) -> None:
    if "ai.onnx" in imports:
        imports[""] = imports.pop("ai.onnx")


def _check_version(domain: str, version: int) -> None:
    newest = max((v for d, v in _versions() if d == domain), default=version)
    if version > newest:
        raise UnsupportedOpError(
            f"the model imports version {version} of operator set {domain or 'ai.onnx'!r}, and "
            f"onnx {onnx.__version__} knows versions up to {newest}: install a newer onnx, or "
            "export the model at an older version"
        )


def _import(node: ir.Node, imports: dict[str, int]) -> int:
    """Import the operator set of a node that the model has forgotten, if it is a custom one."""
    if node.domain in ("", *_domains()):
        raise InvalidGraphError(
            f"{describe(node)} is in operator set {node.domain or 'ai.onnx'!r}, which the "
            f"model does not import (it imports {sorted(imports)})"
        )
    logger.info("the model does not import %r, which it uses: taken as 1", node.domain)
    imports[node.domain] = 1
    return 1


def _check_operator(node: ir.Node, version: int) -> None:
    domain, op_type = node.domain, node.op_type
    if domain not in _domains() or (not domain and op_type in _RUNTIME_OPERATORS):
        return
    schemas = _schemas(domain)
    since = max((v for v in schemas.get(op_type, {}) if v <= version), default=None)
    if since is not None and not schemas[op_type][since].deprecated:
        return
    if since is not None:
        advice = f"it was withdrawn in version {since}: export the model again"
    elif op_type in schemas:
        advice = f"it exists since version {min(schemas[op_type])}"
    else:
        near = difflib.get_close_matches(op_type, schemas, 1)
        advice = f"the nearest name is {near[0]!r}" if near else "nothing has a similar name"
    raise UnsupportedOpError(
        f"{describe(node)}: operator set {domain or 'ai.onnx'!r} version {version} has no "
        f"{op_type!r}; {advice}"
    )


@functools.cache
def _attribute_types(domain: str, op_type: str, version: int) -> dict[str, int]:
    """The type of each attribute of an operator, as a number of the protobuf enumeration."""
    schemas = _schemas(domain).get(op_type, {})
    since = max((v for v in schemas if v <= version), default=None)
    if since is None:
        return {}
    return {
        name: int(attr.type)  # type: ignore[call-overload]  # an enumeration; the stub forgot
        for name, attr in schemas[since].attributes.items()
    }


@functools.cache
def _domains() -> frozenset[str]:
    """The operator sets that the installed onnx defines."""
    return frozenset(schema.domain for schema in onnx.defs.get_all_schemas_with_history())


@functools.cache
def _schemas(domain: str) -> dict[str, dict[int, onnx.defs.OpSchema]]:
    """The schemas of each operator of a domain, by the version they came with."""
    found: dict[str, dict[int, onnx.defs.OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == domain:
            found.setdefault(schema.name, {})[schema.since_version] = schema
    return found


@functools.cache
def _versions() -> frozenset[tuple[str, int]]:
    """The newest version of each operator set of onnx."""
    newest = onnx.helper.VERSION_TABLE[-1]
    return frozenset({("", newest[2]), ("ai.onnx.ml", newest[3])})
