"""The same model in another dress: other names, another order of nodes and constants."""

import random
from collections.abc import Iterable

import onnx_ir as ir

from addax.ir.model import clone, scopes


def disguise(model: ir.Model, seed: int) -> ir.Model:
    """A copy whose nodes are shuffled as data flow allows and whose inner names are new."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    copy = clone(model)
    interface = {*copy.graph.inputs, *copy.graph.outputs}
    counter = iter(range(10**9))
    for scope in scopes(copy):
        graph = scope.graph if isinstance(scope, ir.Function) else scope
        _shuffle(graph, dice)
        values = [*graph.inputs, *graph.initializers.values(), *graph.outputs]
        values += [value for node in graph for value in node.outputs]
        dice.shuffle(values)
        for value in dict.fromkeys(values):
            if value.name and value not in interface:
                value.name = f"value{next(counter)}_{seed}"
        for node in graph:
            node.name = f"node{next(counter)}"
            _shuffle_dict(node.attributes, dice)
        graph.name = f"graph{next(counter)}"
        _shuffle_dict(graph.initializers, dice)
    return copy


def _shuffle_dict(mapping: object, dice: random.Random) -> None:
    items = list(mapping.data.items())
    dice.shuffle(items)
    mapping.data.clear()
    mapping.data.update(items)


def _shuffle(graph: ir.Graph, dice: random.Random) -> None:
    waiting = list(graph)
    dice.shuffle(waiting)
    needs = {node: {s for s in sources(node) if s.graph is graph} for node in waiting}
    graph.remove(waiting)
    placed: set[ir.Node] = set()
    while waiting:
        ready = [node for node in waiting if needs[node] <= placed]
        node = dice.choice(ready)
        waiting.remove(node)
        placed.add(node)
        graph.append(node)


def sources(node: ir.Node) -> Iterable[ir.Node]:
    """The producers of what a node and its subgraphs read."""
    inner = [n for _, a in node.attributes.items() for g in _bodies(a) for n in g.all_nodes()]
    for reader in (node, *inner):
        for value in reader.inputs:
            if value is not None and value.producer() is not None:
                yield value.producer()


def _bodies(attribute: ir.Attr) -> Iterable[ir.Graph]:
    if attribute.is_ref():
        return ()
    if attribute.type == ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else ()
