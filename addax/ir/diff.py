"""Structural comparison of two models, and the first place where they part.

Names of values and nodes inside graphs do not count, nor the order of nodes, nor attributes that
say what holds anyway, nor noted types. What counts: the interface, operators, attributes, which
value goes where (a value used twice is not the same as two equal values), constants bit for bit.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from addax.ir._flow import Flow
from addax.ir._literals import (
    attribute_key,
    attribute_text,
    attributes_of,
    elements_text,
    same_bits,
    shape_key,
    tensor_key,
    tensor_type,
    type_text,
)
from addax.ir.origin import describe

__all__ = ["Difference", "structural_diff", "structurally_equal"]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference: where, of what, and how each side has it."""

    where: str
    what: str
    left: str
    right: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: {self.left} on the left, {self.right} on the right"


def structurally_equal(left: ir.Model, right: ir.Model) -> bool:
    """Whether two models are the same but for names inside and the order of nodes."""
    return structural_diff(left, right) is None


def structural_diff(left: ir.Model, right: ir.Model) -> Difference | None:
    """The first difference of two models, walking back from the outputs; None if there is none.

    Linear in the size of the models; shared values are visited once.
    """
    return next(_differences(left, right), None)


def _differences(left: ir.Model, right: ir.Model) -> Iterator[Difference]:
    imports = left.opset_imports, right.opset_imports
    yield from _imports("the model", left.graph, right.graph, *imports)
    yield from _Pair(*imports).interface(left.graph, right.graph)
    yield from _unequal("the model", "functions", _titles(left), _titles(right))
    for key, function in sorted(left.functions.items()):
        other, where = right.functions[key], f"function {function.domain}::{function.name}"
        imports = function.opset_imports, other.opset_imports
        yield from _imports(where, function.graph, other.graph, *imports)
        yield from _unequal(where, "attributes", _formals(function), _formals(other))
        yield from _Pair(*imports).scope(function.graph, other.graph, where)


def _unequal(where: str, what: str, left: str, right: str) -> Iterator[Difference]:
    if left != right:
        yield Difference(where, what, left or "none", right or "none")


def _titles(model: ir.Model) -> str:
    return ", ".join("::".join(filter(None, key)) for key in sorted(model.functions))


def _formals(function: ir.Function) -> str:
    return ", ".join(
        name if attribute.value is None else attribute_text(attribute)
        for name, attribute in sorted(function.attributes.items())
    )


def _imports(
    where: str,
    left: ir.Graph,
    right: ir.Graph,
    imports: Mapping[str, int],
    others: Mapping[str, int],
) -> Iterator[Difference]:
    """Versions of the domains that both sides use; a domain of one side alone shows in its node."""
    domains = {node.domain for node in left.all_nodes()} & {n.domain for n in right.all_nodes()}
    for domain in sorted(domains):
        name = f"opset of {domain or 'ai.onnx'}"
        yield from _unequal(where, name, str(imports.get(domain)), str(others.get(domain)))


class _Pair:
    """Walks two top-level scopes side by side, matching graph to graph and value to value."""

    def __init__(self, left: Mapping[str, int], right: Mapping[str, int]) -> None:
        self._opsets = left, right
        self._flows = Flow(left), Flow(right)
        self._there: dict[ir.Value, ir.Value] = {}
        self._here: dict[ir.Value, ir.Value] = {}
        self._nodes: dict[ir.Node, ir.Node] = {}
        self._seen: set[ir.Node] = set()
        self._graphs: dict[ir.Graph | None, ir.Graph] = {}

    def interface(self, left: ir.Graph, right: ir.Graph) -> Iterator[Difference]:
        """Compare two main graphs, of which the names and types of inputs and outputs count."""
        for what, ours, theirs in (
            ("inputs", left.inputs, right.inputs),
            ("outputs", left.outputs, right.outputs),
        ):
            yield from _unequal("main graph", what, _declared(ours), _declared(theirs))
        defaults = [
            ", ".join(sorted(v.name or "" for v in graph.inputs if v.is_initializer()))
            for graph in (left, right)
        ]
        yield from _unequal("main graph", "inputs with a default", *defaults)
        yield from self.scope(left, right, "main graph")

    def scope(self, left: ir.Graph, right: ir.Graph, where: str) -> Iterator[Difference]:
        """Compare two graphs: what their outputs depend on, then what nothing depends on."""
        self._graphs[left] = right
        for what, ours, theirs in (
            ("number of inputs", left.inputs, right.inputs),
            ("number of outputs", left.outputs, right.outputs),
        ):
            yield from _unequal(where, what, str(len(ours)), str(len(theirs)))
        for a, b in zip(left.inputs, right.inputs, strict=True):
            if a not in self._there:
                yield from self._match(a, b, where)
        for position, (a, b) in enumerate(zip(left.outputs, right.outputs, strict=True)):
            yield from self._walk(a, b, f"{where}, output {position}")
        yield from _unequal(where, "number of nodes", str(len(left)), str(len(right)))
        if any(node not in self._nodes for node in left):
            orders = self._flows[0].order(left), self._flows[1].order(right)
            for a_node, b_node in zip(orders[0].dead, orders[1].dead, strict=False):
                yield from self._walk_nodes([(a_node, b_node)], f"{where}, unused nodes")
        yield from self._unused(left, right, where)

    def _unused(self, left: ir.Graph, right: ir.Graph, where: str) -> Iterator[Difference]:
        ours = [v for v in left.initializers.values() if v not in self._there]
        theirs = [v for v in right.initializers.values() if v not in self._here]
        yield from _unequal(where, "unused constants", _contents(ours), _contents(theirs))

    def _match(self, a: ir.Value, b: ir.Value, where: str) -> Iterator[Difference]:
        """Note that two values correspond, and compare what they hold if they are constants."""
        self._there[a], self._here[b] = b, a
        mine = a.const_value if a.is_initializer() else None
        other = b.const_value if b.is_initializer() else None
        if mine is None and other is None:
            return
        if mine is None or other is None or not same_bits(mine, other):
            yield Difference(where, "constants differ", _show(mine, a), _show(other, b))

    def _walk(self, a: ir.Value, b: ir.Value, where: str) -> Iterator[Difference]:
        found, nodes = self._compare(a, b, where)
        if found is not None:
            yield found
        elif nodes is not None:
            yield from self._walk_nodes([nodes], where)

    def _walk_nodes(self, stack: list[tuple[ir.Node, ir.Node]], where: str) -> Iterator[Difference]:
        """Depth first, a node before what it reads. A loop: graphs are deeper than the stack."""
        while stack:
            a, b = stack.pop()
            if self._nodes.get(a) is b:
                continue
            place = f"{where}: {describe(a)} and {describe(b)}"
            if a in self._nodes or b in self._seen:
                mine_met, other_met = _met(a in self._nodes), _met(b in self._seen)
                yield Difference(place, "the node", a.op_type + mine_met, b.op_type + other_met)
            yield from self._heads(a, b, place)
            self._nodes[a] = b
            self._seen.add(b)
            for mine, other in zip(a.outputs, b.outputs, strict=True):
                yield from self._match(mine, other, place)
            sources: list[tuple[ir.Node, ir.Node]] = []
            for position, (x, y) in enumerate(zip(_operands(a), _operands(b), strict=True)):
                if x is None or y is None:
                    continue
                found, nodes = self._compare(x, y, f"{place}, input {position}")
                if found is not None:
                    yield found
                if nodes is not None:
                    sources.append(nodes)
            stack += reversed(sources)
            yield from self._bodies(a, b, place)

    def _compare(
        self, a: ir.Value, b: ir.Value, where: str
    ) -> tuple[Difference | None, tuple[ir.Node, ir.Node] | None]:
        """A difference of two values, or the nodes that make them if these are yet to be seen."""
        if a in self._there or b in self._here:
            if self._there.get(a) is b:
                return None, None
            mine, other = _met(a in self._there), _met(b in self._here)
            return Difference(where, "the value", _origin(a) + mine, _origin(b) + other), None
        producers = a.producer(), b.producer()
        if producers[0] is None and producers[1] is None:
            if a.is_graph_input() != b.is_graph_input():
                return Difference(where, "the value", _origin(a), _origin(b)), None
            return next(self._match(a, b, where), None), None
        if producers[0] is None or producers[1] is None or a.index() != b.index():
            return Difference(where, "the value", _origin(a), _origin(b)), None
        return None, (producers[0], producers[1])

    def _heads(self, a: ir.Node, b: ir.Node, where: str) -> Iterator[Difference]:
        """Compare two nodes but for what they read."""
        yield from _unequal(where, "the operator", _operator(a), _operator(b))
        if self._graphs.get(a.graph) is not b.graph:
            yield Difference(where, "the scope", _place(a), _place(b))
        yield from _unequal(where, "given inputs", _given(_operands(a)), _given(_operands(b)))
        yield from _unequal(where, "outputs", _named(a), _named(b))
        mine, other = attributes_of(a, self._opsets[0]), attributes_of(b, self._opsets[1])
        for name in sorted({*mine, *other}):
            x, y = mine.get(name), other.get(name)
            if x is None or y is None or attribute_key(x) != attribute_key(y):
                yield Difference(where, f"attribute {name!r}", _attribute(x), _attribute(y))

    def _bodies(self, a: ir.Node, b: ir.Node, where: str) -> Iterator[Difference]:
        for name, attribute in sorted(a.attributes.items()):
            if attribute.is_ref():
                continue
            mine, other = _graphs(attribute), _graphs(b.attributes[name])
            for x, y in zip(mine, other, strict=True):
                yield from self.scope(x, y, f"{where}, {name}")


def _graphs(attribute: ir.Attr) -> Iterable[ir.Graph]:
    if attribute.type == ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else ()


def _operands(node: ir.Node) -> list[ir.Value | None]:
    """The inputs without the ones left out at the end."""
    inputs = list(node.inputs)
    while inputs and inputs[-1] is None:
        inputs.pop()
    return inputs


def _given(values: Iterable[ir.Value | None]) -> str:
    return ", ".join("left out" if value is None else "given" for value in values)


def _named(node: ir.Node) -> str:
    return ", ".join("left out" if value.name == "" else "named" for value in node.outputs)


def _met(is_known: bool) -> str:
    """A remark on one of two things that are not each other's counterpart."""
    return " (met before, beside another)" if is_known else ""


def _place(node: ir.Node) -> str:
    return "no graph" if node.graph is None else f"graph {node.graph.name!r}"


def _operator(node: ir.Node) -> str:
    return "::".join(filter(None, (node.domain, node.op_type, node.overload)))


def _attribute(attribute: ir.Attr | None) -> str:
    if attribute is None:
        return "the default"
    if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return attribute.type.name.lower()
    return attribute_text(attribute)


def _declared(values: Iterable[ir.Value]) -> str:
    return ", ".join(f"{type_text(v.type, shape_key(v.shape))} {v.name}".strip() for v in values)


def _contents(values: Iterable[ir.Value]) -> str:
    return ", ".join(sorted(_show(value.const_value, value) for value in values))


def _show(tensor: ir.TensorProtocol | None, value: ir.Value) -> str:
    if tensor is None:
        return _origin(value)
    return f"{tensor_type(tensor)} {elements_text(tensor) or '#' + tensor_key(tensor).hex()[:8]}"


def _origin(value: ir.Value) -> str:
    producer = value.producer()
    if producer is not None:
        index = f"output {value.index()} of " if len(producer.outputs) > 1 else ""
        return f"{index}{describe(producer)}"
    return f"input {value.name!r}" if value.is_graph_input() else f"constant {value.name!r}"
