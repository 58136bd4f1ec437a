"""Is this model well formed? All faults at once, each with its place.

Kinds of faults:
    order, cycle            a value is read before it is defined, or depends on itself
    foreign-value           a value of another graph, of a removed node, or of nowhere
    duplicate-value, duplicate-node, shadowing, unnamed
                            names that do not tell things apart
    dangling-output         a graph returns what it does not produce
    use-list                a value's list of users is not what the nodes read
    initializer             filed under another name, or without a tensor
    constant-type, constant-shape
                            a tensor is not what its value is declared to be
    opset                   a domain is used but not imported
    operator, deprecated    no such operator at the imported version
    arity, attribute        a node does not fit its schema, or a call its function
    call, recursion         a missing function, or one that calls itself

One value may be returned by several outputs, and a subgraph's inputs and initializers may take
names of the enclosing graph: ONNX's checker allows both.
"""

import onnx_ir as ir

from addax.errors import InvalidGraphError
from addax.ir._fault import Fault
from addax.ir._verify_operators import Operators, recursion
from addax.ir._verify_scopes import Scopes

__all__ = ["Fault", "faults", "verify"]


def verify(model: ir.Model) -> None:
    """Check that a model is well formed, in time linear in its size.

    Raises:
        InvalidGraphError: If it is not: one line for each fault.
    """
    found = faults(model)
    if found:
        lines = "\n".join(f"  {fault}" for fault in found)
        count = "1 fault" if len(found) == 1 else f"{len(found)} faults"
        raise InvalidGraphError(f"the model is not well formed, {count}:\n{lines}")


def faults(model: ir.Model) -> list[Fault]:
    """Every fault of a model: of the main graph, its subgraphs, and the functions."""
    found = _scope(model, model.graph, "main graph", None)
    for key, function in model.functions.items():
        where = f"function {function.domain}::{function.name}"
        if key != function.identifier():
            found.append(Fault("call", where, f"the function is filed under {key}"))
        found += _scope(model, function.graph, where, function)
    found += recursion(model.functions)
    return found


def _scope(
    model: ir.Model, graph: ir.Graph, where: str, function: ir.Function | None
) -> list[Fault]:
    scopes = Scopes(where)
    found = scopes.run(graph)
    opsets = model.opset_imports if function is None else function.opset_imports
    operators = Operators(opsets, model.functions, in_function=function is not None)
    for inner, place in scopes.graphs.items():
        operators.check(inner, place)
    return found + operators.faults
