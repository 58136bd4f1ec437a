"""The op set `addax`: the papers' primitives, each with a body in standard ops.

`operators()` finds the ops of this folder by name; a file is an op, nothing is registered.
"""

import functools
import importlib
import pkgutil
from collections.abc import Iterable

import onnx_ir as ir

from addax.ir.dialect._op import DOMAIN, VERSION, DialectOp, install

__all__ = ["DOMAIN", "VERSION", "DialectOp", "install", "install_bodies", "operators"]


@functools.cache
def operators() -> dict[str, DialectOp]:
    """Every op of the dialect by its operator type."""
    found = [
        importlib.import_module(f"{__name__}.{info.name}").OP
        for info in pkgutil.iter_modules(__path__)
        if not info.name.startswith("_")
    ]
    return {op.name: op for op in found}


def install_bodies(model: ir.Model, nodes: Iterable[ir.Node]) -> None:
    """Make the ops of the dialect among `nodes` usable in `model`.

    Raises:
        InvalidGraphError: If the model has another function of such a name.
    """
    for op_type in sorted({node.op_type for node in nodes if node.domain == DOMAIN}):
        install(model, operators()[op_type])
