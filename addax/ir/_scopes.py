"""Every graph and function that a model is made of."""

from collections.abc import Iterable, Iterator

import onnx_ir as ir

_GRAPH, _GRAPHS = ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS


def roots(model: ir.Model) -> list[ir.Graph | ir.Function]:
    """What stands on its own and imports operator sets: the main graph and each function."""
    return [model.graph, *model.functions.values()]


def scopes(model: ir.Model) -> Iterator[ir.Graph | ir.Function]:
    """Every graph and function of a model, each once: an outer one before what it holds.

    First the main graph and its subgraphs, then each function and its subgraphs, in the order
    of their nodes and attributes. The nodes of a scope are read when the next one is asked
    for, so a caller may change the scope that it holds.
    """
    for root in roots(model):
        yield from _within(root)


def _within(scope: ir.Graph | ir.Function) -> Iterator[ir.Graph | ir.Function]:
    yield scope
    for node in scope:
        for graph in _bodies(node):
            yield from _within(graph)


def _bodies(node: ir.Node) -> Iterable[ir.Graph]:
    """The graphs among a node's attributes."""
    for attr in node.attributes.data.values():
        if attr.type == _GRAPH and not attr.is_ref():
            yield attr.value
        elif attr.type == _GRAPHS and not attr.is_ref():
            yield from attr.value
