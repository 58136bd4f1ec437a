"""Dropping what no output needs."""

from collections.abc import Iterator

import onnx_ir as ir

from addax.ir._scopes import scopes

_GRAPH, _GRAPHS = ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS


def prune(model: ir.Model) -> None:
    """Remove the nodes and initializers that no output needs, in every scope; inputs stay."""
    for scope in reversed(list(scopes(model))):
        graph = scope.graph if isinstance(scope, ir.Function) else scope
        for node in reversed(list(graph)):
            if not any(v.uses() or v.is_graph_output() for v in node.outputs):
                _release(node)
                graph.remove(node, safe=True)
        for name, value in list(graph.initializers.items()):
            if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
                del graph.initializers[name]


def _release(node: ir.Node) -> None:
    """Let the subgraphs of a node that goes read nothing any more."""
    for inner in _inside(node):
        for place in range(len(inner.inputs)):
            inner.replace_input_with(place, None)


def _inside(node: ir.Node) -> Iterator[ir.Node]:
    """The nodes of the subgraphs of a node, at any depth."""
    for attribute in node.attributes.values():
        if attribute.is_ref() or attribute.type not in {_GRAPH, _GRAPHS}:
            continue
        for graph in [attribute.value] if attribute.type == _GRAPH else attribute.value:
            for inner in graph:
                yield inner
                yield from _inside(inner)
