"""ONNX for ONNX Runtime: the model with a portable body for every op of the dialect.

A node of the domain `addax` carries its meaning with it, as a model-local function in standard
ops. ONNX Runtime takes a registered kernel where there is one and the body where there is none.
"""

import onnx_ir as ir

from addax.errors import UnsupportedOpError
from addax.ir.dialect import DOMAIN, install, operators
from addax.ir.model import clone


def to_ort(model: ir.Model) -> ir.Model:
    """A copy of `model` that any ONNX Runtime can run.

    Every dialect op used gets its body, stamped with the opset that the model imports; bodies
    that are no longer used go. Functions of the user's own stay.

    Raises:
        UnsupportedOpError: If the model has an op of the domain `addax` that is not ours.
    """
    made = clone(model)
    used = {node.op_type for node in made.graph.all_nodes() if node.domain == DOMAIN}
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
    return made
