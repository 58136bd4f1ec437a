"""Faults of scopes: what is defined where, under which name, and who uses it."""

from collections.abc import Iterable, Iterator

import networkx as nx
import onnx_ir as ir

from addax.ir._fault import Fault
from addax.ir.origin import describe


class Scopes:
    """Walks a graph and its subgraphs once; what it finds is in `faults`.

    A use is good if the name means that very value at that place. This one lookup covers
    order, scope, shadowing and foreign values; what fails it is looked into.
    """

    def __init__(self, where: str) -> None:
        self.faults: list[Fault] = []
        self.graphs: dict[ir.Graph, str] = {}
        self._where = where
        self._visible: dict[str, ir.Value] = {}
        self._covered: list[tuple[str, ir.Value | None]] = []  # what names meant outside
        self._defined: set[ir.Value] = set()
        self._uses: dict[ir.Value, int] = {}
        self._path: list[tuple[ir.Graph, ir.Node]] = []
        self._late: dict[ir.Graph, list[tuple[ir.Node, ir.Node, str]]] = {}

    def run(self, graph: ir.Graph) -> list[Fault]:
        """All faults of a graph that stands in no other."""
        self._graph(graph, self._where)
        for owner, late in self._late.items():
            self._explain_order(owner, late)
        self._check_uses()
        return self.faults

    def _add(self, kind: str, where: str, message: str) -> None:
        self.faults.append(Fault(kind, where, message))

    def _graph(self, graph: ir.Graph, where: str) -> None:
        self.graphs[graph] = where
        here: dict[str, ir.Value] = {}
        covered = self._covered
        self._covered = []
        self._interface(graph, here, where)
        names: set[str] = set()
        for node in graph:
            if node.name:
                if node.name in names:
                    self._add("duplicate-node", where, f"two nodes are named {node.name!r}")
                names.add(node.name)
            self._node(node, graph, here, where)
        for value in graph.outputs:
            self._output(value, here, where)
        self._defined.difference_update(here.values())
        for name, meant in reversed(self._covered):
            if meant is None:
                del self._visible[name]
            else:
                self._visible[name] = meant
        self._covered = covered

    def _interface(self, graph: ir.Graph, here: dict[str, ir.Value], where: str) -> None:
        for value in graph.inputs:
            self._define(value, here, where)
        for key, value in graph.initializers.items():
            if key != value.name:
                self._add(
                    "initializer", where, f"initializer {value.name!r} is filed under {key!r}"
                )
            if not value.is_graph_input():
                self._define(value, here, where)

    def _define(self, value: ir.Value, here: dict[str, ir.Value], where: str) -> None:
        self._uses.setdefault(value, 0)
        name = value.name
        if not name:
            self._add("unnamed", where, f"{_role(value)} has no name")
        elif name in here:
            self._add("duplicate-value", where, f"the name {name!r} is defined twice")
        else:
            if self._path:
                self._covered.append((name, self._visible.get(name)))
            here[name] = self._visible[name] = value
        self._defined.add(value)

    def _node(
        self,
        node: ir.Node,
        graph: ir.Graph,
        here: dict[str, ir.Value],
        where: str,
    ) -> None:
        visible, uses = self._visible, self._uses
        for value in node.inputs:
            if value is None:
                continue
            uses[value] = uses.get(value, 0) + 1
            if visible.get(value.name or "") is not value:
                self._explain_use(value, node, graph, where)
        for name, attribute in node.attributes.data.items():
            if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
                self._path.append((graph, node))
                for body in _bodies(attribute):
                    self._graph(body, f"{where} > {node.op_type} {node.name!r} {name}")
                self._path.pop()
        for value in node.outputs:
            if value.name == "" and not value.uses() and not value.is_graph_output():
                continue  # how onnx_ir spells an output that is left out
            if self._path and value.name in visible and value.name not in here:
                self._add(
                    "shadowing",
                    where,
                    f"{describe(node)} defines {value.name!r}, a name of an enclosing graph",
                )
            self._define(value, here, where)

    def _output(self, value: ir.Value, here: dict[str, ir.Value], where: str) -> None:
        if here.get(value.name or "") is value:
            return
        if value in self._defined and self._path:
            detail = "belongs to an enclosing graph: return it through an Identity"
        else:
            detail = "is not produced in this graph"
        self._add("dangling-output", where, f"the output {value.name!r} {detail}")

    def _explain_use(self, value: ir.Value, node: ir.Node, graph: ir.Graph, where: str) -> None:
        reader = f"{describe(node)} reads {value.name!r}"
        if value in self._defined:
            what = "which has no name" if not value.name else "a name that means another value here"
            self._add("shadowing" if value.name else "unnamed", where, f"{reader}, {what}")
            return
        producer = value.producer()
        if producer is None:
            owner = "of another graph" if value.graph is not None else "of no graph"
            self._add("foreign-value", where, f"{reader}, {_role(value)} {owner}")
        elif producer.graph is None:
            self._add(
                "foreign-value",
                where,
                f"{reader}, the output of {describe(producer)}, which is in no graph",
            )
        else:
            self._explain_producer(reader, producer, [*self._path, (graph, node)], where)

    def _explain_producer(
        self,
        reader: str,
        producer: ir.Node,
        path: list[tuple[ir.Graph, ir.Node]],
        where: str,
    ) -> None:
        for graph, node in path:
            if graph is producer.graph:
                self._late.setdefault(graph, []).append((node, producer, reader))
                return
        self._add(
            "foreign-value", where, f"{reader}, the output of {describe(producer)} in another graph"
        )

    def _explain_order(self, graph: ir.Graph, late: list[tuple[ir.Node, ir.Node, str]]) -> None:
        """Tell cycles from nodes that merely stand in the wrong order."""
        where = self.graphs[graph]
        flow: nx.DiGraph[ir.Node] = nx.DiGraph()
        for node in graph:
            flow.add_edges_from((source, node) for source in _sources(node, graph))
        ring = {
            node: number
            for number, nodes in enumerate(nx.strongly_connected_components(flow))
            for node in nodes
        }
        told: set[int] = set()
        for node, producer, reader in late:
            number = ring.get(node, -1)
            if number != ring.get(producer, -2):
                self._add(
                    "order",
                    where,
                    f"{reader} before {describe(producer)} defines it: sort the graph",
                )
            elif number not in told:
                told.add(number)
                members = [other for other in graph if ring.get(other) == number]
                self._add("cycle", where, f"a cycle through {', '.join(map(describe, members))}")

    def _check_uses(self) -> None:
        """Compare each value's list of users with what the nodes read."""
        graphs = self.graphs
        for value, count in self._uses.items():
            uses = value.uses()
            stale = [
                use
                for use in uses
                if use.node.graph not in graphs
                or use.idx >= len(use.node.inputs)
                or use.node.inputs[use.idx] is not value
            ]
            if stale:
                self._add(
                    "use-list",
                    self._where,
                    f"{value.name!r} lists {describe(stale[0].node)} as a user, "
                    "which is not in the model or does not read it",
                )
            elif len(uses) != count:
                self._add(
                    "use-list",
                    self._where,
                    f"{value.name!r} is read {count} times but lists {len(uses)} uses",
                )


def _bodies(attribute: ir.Attr) -> Iterable[ir.Graph]:
    if attribute.is_ref():
        return ()
    if attribute.type == ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return attribute.as_graphs()


def _sources(node: ir.Node, graph: ir.Graph) -> Iterator[ir.Node]:
    """The nodes of `graph` that `node` reads, also from inside its subgraphs."""
    stack = [node]
    while stack:
        top = stack.pop()
        for value in top.inputs:
            producer = None if value is None else value.producer()
            if producer is not None and producer.graph is graph:
                yield producer
        for attribute in top.attributes.data.values():
            if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
                stack += [inner for body in _bodies(attribute) for inner in body]


def _role(value: ir.Value) -> str:
    if value.is_graph_input():
        return "an input"
    if value.is_initializer():
        return "an initializer"
    producer = value.producer()
    return "a value" if producer is None else f"output {value.index()} of {describe(producer)}"
