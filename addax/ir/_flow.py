"""The order that data flow gives the nodes of a graph, whatever order they are listed in.

Nodes that an output depends on come in the order in which a walk from the outputs, inputs
first, leaves them. Nodes that nothing depends on have no such place: they are sorted by a
digest of all that they compute.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from addax.ir._literals import attribute_keys, tensor_digest


@dataclass(frozen=True, slots=True)
class Order:
    """The nodes of one graph: those that outputs depend on, and the others."""

    live: tuple[ir.Node, ...]
    dead: tuple[ir.Node, ...]


class Flow:
    """Orders of graphs, and the outer values that they read; computed once for each graph."""

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self._opsets = opsets
        self._orders: dict[ir.Graph, Order] = {}
        self._captures: dict[ir.Graph, tuple[ir.Value, ...]] = {}

    def order(self, graph: ir.Graph) -> Order:
        """The nodes of `graph` in the order of its data flow."""
        known = self._orders.get(graph)
        if known is None:
            live = tuple(self._walk(graph, _producers(graph.outputs, graph), set()))
            dead = self._dead(graph, live) if len(live) < len(graph) else ()
            known = self._orders[graph] = Order(live, dead)
        return known

    def captures(self, graph: ir.Graph) -> tuple[ir.Value, ...]:
        """The values of enclosing graphs that `graph` reads, in the order of first use."""
        known = self._captures.get(graph)
        if known is None:
            order = self.order(graph)
            own = {*graph.inputs, *graph.initializers.values()}
            read: dict[ir.Value, None] = {}
            for node in (*order.live, *order.dead):
                for value in self.reads(node):
                    producer = value.producer()
                    outer = value not in own if producer is None else producer.graph is not graph
                    if outer:
                        read[value] = None
            known = self._captures[graph] = tuple(read)
        return known

    def reads(self, node: ir.Node) -> Iterator[ir.Value]:
        """What a node depends on: its inputs, then what its subgraphs take from outside."""
        for value in node.inputs:
            if value is not None:
                yield value
        for body in bodies(node):
            yield from self.captures(body)

    def _walk(
        self, graph: ir.Graph, roots: Iterable[ir.Node], seen: set[ir.Node]
    ) -> Iterator[ir.Node]:
        """Nodes in postorder, each once. A loop, since graphs are deeper than Python's stack."""
        for root in roots:
            if root in seen:
                continue
            seen.add(root)
            stack = [(root, _producers(self.reads(root), graph))]
            while stack:
                node, sources = stack[-1]
                for source in sources:
                    if source not in seen:
                        seen.add(source)
                        stack.append((source, _producers(self.reads(source), graph)))
                        break
                else:
                    stack.pop()
                    yield node

    def _dead(self, graph: ir.Graph, live: tuple[ir.Node, ...]) -> tuple[ir.Node, ...]:
        """The remaining nodes: from each one that nobody reads, in the order of their digests."""
        seen = set(live)
        rest = [node for node in graph if node not in seen]
        digests = Digests(self, self._opsets)
        for node in (*live, *self._walk(graph, rest, seen)):
            digests.note(node)
        read = {source for node in rest for source in _producers(self.reads(node), graph)}
        ends = [node for node in rest if node not in read]
        ends.sort(key=lambda node: digests.known[node])
        return tuple(self._walk(graph, (*ends, *rest), set(live)))


class Digests:
    """Digests of what nodes compute: equal for equal computations, whatever they are called."""

    def __init__(self, flow: Flow, opsets: Mapping[str, int]) -> None:
        self.known: dict[ir.Node, bytes] = {}
        self._flow, self._opsets = flow, opsets
        self._inputs: dict[ir.Value, str] = {}

    def note(self, node: ir.Node) -> None:
        """Compute the digest of a node; those of the nodes it depends on are known."""
        parts = [node.domain, node.op_type, node.overload, str(len(node.outputs))]
        parts += ["" if value is None else self._value(value) for value in node.inputs]
        parts += [f"{name} {key}" for name, key in attribute_keys(node, self._opsets)]
        for body in bodies(node):
            parts += self._body(body)
        self.known[node] = hashlib.sha256("\0".join(parts).encode()).digest()

    def _body(self, body: ir.Graph) -> list[str]:
        self._inputs.update((value, f"input {i}") for i, value in enumerate(body.inputs))
        order = self._flow.order(body)
        for node in (*order.live, *order.dead):
            self.note(node)
        return [
            str(len(body.inputs)),
            *map(self._value, body.outputs),
            *(self.known[node].hex() for node in order.dead),
        ]

    def _value(self, value: ir.Value) -> str:
        node = value.producer()
        if node is not None:
            known = self.known.get(node)
            # A value from outside a subgraph: its own digest is not needed to tell nodes apart.
            return f"{node.op_type if known is None else known.hex()} {value.index()}"
        tensor = value.const_value if value.is_initializer() else None
        return self._inputs.get(value) or (
            (value.name or "") if tensor is None else tensor_digest(tensor)
        )


def bodies(node: ir.Node) -> list[ir.Graph]:
    """The subgraphs among a node's attributes, in the order of their names."""
    found: list[ir.Graph] = []
    attributes = node.attributes.data
    for name in sorted(attributes):
        attribute = attributes[name]
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def _producers(values: Iterable[ir.Value], graph: ir.Graph) -> Iterator[ir.Node]:
    """The nodes of `graph` that make the values."""
    for value in values:
        node = value.producer()
        if node is not None and node.graph is graph:
            yield node
