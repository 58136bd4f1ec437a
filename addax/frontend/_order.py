"""Whether a graph reads values only after they are made; if not, it is sorted."""

import logging
from collections.abc import Iterator

import onnx_ir as ir

from addax.errors import InvalidGraphError
from addax.ir.model import roots
from addax.ir.origin import describe

logger = logging.getLogger(__name__)


def sort(model: ir.Model) -> None:
    """Sort the graphs and functions that are not sorted, each as a whole with its subgraphs.

    Raises:
        InvalidGraphError: If a value comes from nowhere, or a node depends on itself.
    """
    for root in roots(model):
        _check_outputs(root)
        late = _first_late(root)
        if late is None:
            continue
        try:
            root.sort()
        except ValueError:
            raise InvalidGraphError(
                f"the graph is not acyclic: {' -> '.join(map(describe, _cycle(root)))}"
            ) from None
        logger.warning("the graph was not sorted: %s came before what it reads", describe(late))


def _check_outputs(root: ir.Graph | ir.Function) -> None:
    for graph in (root, *root.subgraphs()):
        for value in graph.outputs:
            if not _has_source(value):
                raise InvalidGraphError(
                    f"graph output {value.name!r} is not made by any node, and is neither an "
                    "input nor an initializer"
                )


def _has_source(value: ir.Value) -> bool:
    return value.producer() is not None or value.is_graph_input() or value.is_initializer()


def _first_late(root: ir.Graph | ir.Function) -> ir.Node | None:
    """The first node that reads a value before it is made."""
    late: ir.Node | None = None
    made: set[ir.Value] = set()
    for node in _in_order(root):
        for value in node.inputs:
            if value is None or value in made:
                continue
            if value.producer() is not None:
                late = late or node
            elif not _has_source(value):
                raise InvalidGraphError(
                    f"{describe(node)} reads {value.name!r}, which no node makes and which is "
                    "neither an input nor an initializer"
                )
        made.update(node.outputs)
    return late


def _in_order(scope: ir.Graph | ir.Function) -> Iterator[ir.Node]:
    """Nodes as they run: those of a body before the node that has it returns its outputs."""
    for node in scope:
        for graph in _bodies(node):
            yield from _in_order(graph)
        yield node


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    for attr in node.attributes.data.values():
        if attr.type == ir.AttributeType.GRAPH and not attr.is_ref():
            yield attr.value
        elif attr.type == ir.AttributeType.GRAPHS and not attr.is_ref():
            yield from attr.value


def _cycle(root: ir.Graph | ir.Function) -> list[ir.Node]:
    """Nodes that depend on each other in a circle, the first one again at the end."""
    import networkx as nx  # only a broken model needs it

    depends: nx.DiGraph = nx.DiGraph()
    for node in _in_order(root):
        for value in node.inputs:
            producer = None if value is None else value.producer()
            if producer is not None:
                depends.add_edge(producer, node)
        depends.add_edges_from((inner, node) for graph in _bodies(node) for inner in graph)
    edges = nx.find_cycle(depends)
    return [start for start, _ in edges] + [edges[-1][1]]
