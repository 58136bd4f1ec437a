"""ONNX for ONNX Runtime: the model with a portable body for every op of the dialect.

A node of the domain `addax` carries its meaning with it, as a model-local function in standard
ops. ONNX Runtime takes a registered kernel where there is one and the body where there is none.
A runtime that has a kernel for an op takes it for every node of that op, so the nodes that the
kernel cannot compute must not look like that op: they become calls of the same body in the domain
`addax.body`, which no library claims.
"""

from collections.abc import Callable, Iterator

import onnx_ir as ir

from addax.errors import UnsupportedOpError
from addax.ir.dialect import DOMAIN, VERSION, install, operators
from addax.ir.model import clone

BODY_DOMAIN = "addax.body"
LIBRARY_KEY = "addax.library"  # of the metadata: the digest of the library saved with a model


def to_ort(model: ir.Model, *, has_kernel: Callable[[ir.Node], bool] = lambda _: True) -> ir.Model:
    """A copy of `model` that any ONNX Runtime can run.

    Every dialect op used gets its body, stamped with the opset that the model imports; bodies
    that are no longer used go. Functions of the user's own stay.

    Args:
        model: The model.
        has_kernel: Whether a node may meet a kernel for its op; the others run through their
            bodies whatever is registered.

    Raises:
        UnsupportedOpError: If the model has an op of the domain `addax` that is not ours.
    """
    made = clone(model)
    made.metadata_props.pop(LIBRARY_KEY, None)  # that of the file that it was read from
    nodes = [node for node in _nodes(made) if node.domain == DOMAIN]
    used = {node.op_type for node in nodes}
    for name in list(made.functions):
        if name[0] == DOMAIN and name[1] not in used:
            del made.functions[name]
    known = operators()
    for op_type in sorted(used):
        if op_type not in known:
            raise UnsupportedOpError(
                f"expected an op of the dialect ({', '.join(known)}), but the model has "
                f"{DOMAIN}:{op_type}; rename that domain, or remove the node"
            )
        install(made, known[op_type])
    if not used:
        made.opset_imports.pop(DOMAIN, None)
    for node in nodes:
        if not has_kernel(node):
            _run_body(made, node)
    for op_type in used - {node.op_type for node in nodes if node.domain == DOMAIN}:
        del made.functions[DOMAIN, op_type, ""]
    return made


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    """The nodes of the graph and of the user's functions, whose own nodes may be of the dialect."""
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        if function.domain != DOMAIN:
            yield from function.all_nodes()


def _run_body(model: ir.Model, node: ir.Node) -> None:
    """Make a node a call of its body under a name that no kernel has."""
    identifier = (BODY_DOMAIN, node.op_type, "")
    if identifier not in model.functions:
        body = model.functions[DOMAIN, node.op_type, ""].clone()
        body.domain = BODY_DOMAIN
        model.functions[identifier] = body
    owners: list[ir.Model | ir.Function] = [model, *model.functions.values()]
    for root in owners:
        if BODY_DOMAIN not in root.opset_imports and DOMAIN in root.opset_imports:
            root.opset_imports[BODY_DOMAIN] = VERSION
    node.domain = BODY_DOMAIN
