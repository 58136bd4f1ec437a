"""A part of a graph as a model of its own: what it reads is an input, what is read of it an output.

Faults are shown and shrunk in excerpts: the values that cross the cut keep their names and types,
so that they can be fed with what they were in the whole.
"""

from collections.abc import Callable, Collection

import onnx_ir as ir

from addax.errors import InvalidGraphError
from addax.ir.model import clone
from addax.ir.rewriter import Rewriter, detach, reads

__all__ = ["excerpt"]


def excerpt(
    model: ir.Model,
    keep: Callable[[ir.Node], bool],
    *,
    outputs: Collection[str] | None = None,
) -> ir.Model:
    """A copy of `model` with only some nodes of its main graph; subgraphs stay with their node.

    Inputs that nothing reads any more and constants without a reader go.

    Args:
        model: Well formed, with inferred types; it is not changed.
        keep: Asked of each node of the main graph of `model`.
        outputs: Names of the values to return; by default the outputs that are still made, and
            what dropped nodes read of kept ones.

    Raises:
        InvalidGraphError: Nothing is kept, or a value at the cut has no known type.
    """
    made = clone(model)
    graph = made.graph
    pairs = list(zip(model.graph, list(graph), strict=True))
    kept = {new for old, new in pairs if keep(old)}
    dropped = [new for _, new in pairs if new not in kept]
    if not kept:
        raise InvalidGraphError("expected an excerpt of one node or more, got one of none")
    chosen = _chosen(graph, kept, dropped, outputs)
    graph.outputs.clear()
    needed = {value: None for node in graph if node in kept for value in reads(node)}
    for value in needed:
        producer = value.producer()
        if producer is not None and producer.graph is graph and producer not in kept:
            _open(graph, value)
    for node in dropped:
        detach(node)
    for node in dropped:
        for inner in _inner(node):
            detach(inner)
    graph.remove(dropped)
    graph.outputs.extend(chosen)
    for value in [v for v in graph.inputs if not v.uses() and not v.is_graph_output()]:
        graph.inputs.remove(value)
    Rewriter(made).prune()
    return made


def _chosen(
    graph: ir.Graph,
    kept: Collection[ir.Node],
    dropped: Collection[ir.Node],
    outputs: Collection[str] | None,
) -> list[ir.Value]:
    makes = [value for node in graph if node in kept for value in node.outputs if value.name]
    if outputs is not None:
        return [value for value in makes if value.name in outputs]
    wanted = dict.fromkeys(graph.outputs)
    wanted |= {value: None for node in dropped for value in reads(node)}
    found = [value for value in makes if value in wanted]
    return found or [value for value in makes if not value.uses()]


def _open(graph: ir.Graph, value: ir.Value) -> None:
    """Let the readers of a value that is no longer made read an input of its name."""
    if value.dtype is None:
        raise InvalidGraphError(
            f"value {value.name!r} has no known type, so it cannot be an input of an excerpt; "
            "infer shapes first"
        )
    fed = ir.Value(name=value.name, type=value.type, shape=value.shape)
    value.name = None
    value.replace_all_uses_with(fed, replace_graph_outputs=True)
    graph.inputs.append(fed)


def _inner(node: ir.Node) -> list[ir.Node]:
    """The nodes of a node's subgraphs, at any depth."""
    found = []
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        bodies: tuple[ir.Graph, ...] = ()
        if attribute.type == ir.AttributeType.GRAPH:
            bodies = (attribute.as_graph(),)
        elif attribute.type == ir.AttributeType.GRAPHS:
            bodies = tuple(attribute.as_graphs())
        for body in bodies:
            for inner in body:
                found += [inner, *_inner(inner)]
    return found
