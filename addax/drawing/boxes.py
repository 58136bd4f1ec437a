"""A model as boxes and arrows: one box an operator, or a block of them where there are many."""

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import networkx as nx
import onnx_ir as ir

from addax.drawing.lineage import key_of
from addax.ir.origin import describe, origin
from addax.ir.query import constant_tensor
from addax.ir.rewriter import reads

_TOLD = 3  # kinds of operators named in a block's box
_WIDE = 34  # characters


@dataclass(frozen=True)
class Box:
    """What is drawn as one rectangle.

    `kind` is "op", "block", "input" or "output"; `rule` the rewrite that it is coloured by, or
    ""; `detail` what is shown on pointing at it; `ops` counts the operators in it by type.
    """

    label: str
    kind: str = "op"
    rule: str = ""
    detail: str = ""
    ops: Mapping[str, int] = field(default_factory=dict)


def boxes(model: ir.Model, rules: Mapping[str, str], limit: int) -> nx.DiGraph:
    """The main graph, its inputs and outputs: nodes with a `box` each; no cycles, no constants.

    Args:
        model: Well formed.
        rules: The rewrite to colour a node by, by `key_of` the node.
        limit: Boxes of operators at most; beyond, they are drawn by blocks.
    """
    graph = nx.DiGraph()
    for index, value in enumerate(model.graph.inputs):
        if value.name not in model.graph.initializers:
            _add(graph, ("input", index), Box(str(value.name), "input", detail=_typed(value)))
    names = {value: ("input", index) for index, value in enumerate(model.graph.inputs)}
    nodes = [node for node in model.graph if constant_tensor(node.outputs[0]) is None]
    for node in nodes:
        _add(graph, node, _box(node, rules))
    for node in nodes:
        for value in reads(node):
            source = names.get(value) or value.producer()
            if source in graph and source is not node:
                graph.add_edge(source, node)
    if len(nodes) > limit:
        graph = _blocks(graph, limit)
    for index, value in enumerate(model.graph.outputs):
        key = ("output", index)
        _add(graph, key, Box(str(value.name), "output", detail=_typed(value)))
        source = names.get(value) or value.producer()
        source = graph.graph.get("block", {}).get(source, source)
        if source in graph:
            graph.add_edge(source, key)
    return graph


def _add(graph: nx.DiGraph, key: Hashable, box: Box) -> None:
    graph.add_node(key, box=box)


def _box(node: ir.Node, rules: Mapping[str, str]) -> Box:
    inner = sum(len(a.value) for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH)
    label = f"{node.op_type} ({inner} inside)" if inner else node.op_type
    shape = node.outputs[0].shape
    if shape is not None:
        label += f" {_dims(shape)}"
    detail = "\n".join((describe(node), *(_typed(value) for value in node.outputs)))
    return Box(label[:_WIDE], "op", rules.get(key_of(node), ""), detail, {node.op_type: 1})


def _typed(value: ir.Value) -> str:
    shape = "?" if value.shape is None else _dims(value.shape)
    dtype = "?" if value.dtype is None else value.dtype.name.lower()
    return f"{value.name or '(unnamed)'}: {dtype}{shape}"


def _dims(shape: ir.Shape) -> str:
    texts = (str(d) if isinstance(d, int) else str(d.value or "?") for d in shape)
    return f"[{','.join(texts)}]"


def _blocks(graph: nx.DiGraph, limit: int) -> nx.DiGraph:
    """The same with fewer boxes: by modules as deep as fits, then chains of what is left."""
    depths = range(_depth(graph), 0, -1)
    for depth in depths:
        found = _grouped(graph, {node: _module(node, depth) for node in graph})
        if len(found) <= limit:
            return found
    if depths:
        graph = _grouped(graph, {node: _module(node, 1) for node in graph})
    found = _grouped(graph, _chains(graph))
    return found if len(found) <= limit else _sliced(found, limit)


def _module(node: Hashable, depth: int) -> Hashable:
    """The user's module that an operator came from, cut at a depth; a node of its own if none."""
    where = origin(node) if isinstance(node, ir.Node) else None
    if where is None or not where.module:
        return node
    return ".".join(where.module.split(".")[:depth])


def _depth(graph: nx.DiGraph) -> int:
    found = (origin(node) for node in graph if isinstance(node, ir.Node))
    return max((len(w.module.split(".")) for w in found if w is not None and w.module), default=0)


def _chains(graph: nx.DiGraph) -> dict[Hashable, Hashable]:
    """The first of its chain for each node: in a chain, each has one successor, which has it."""
    first: dict[Hashable, Hashable] = {}
    for node in nx.topological_sort(graph):
        before = list(graph.predecessors(node))
        joins = len(before) == 1 and graph.out_degree(before[0]) == 1
        joins = joins and "input" not in {_kind(graph, node), _kind(graph, before[0])}
        first[node] = first[before[0]] if joins else node
    return first


def _sliced(graph: nx.DiGraph, limit: int) -> nx.DiGraph:
    """The same in `limit` boxes at most, from the first layers to the last."""
    layers = list(nx.topological_generations(graph))
    step = -(-len(layers) // limit)
    part = {node: place // step for place, layer in enumerate(layers) for node in layer}
    keep = {n for n in graph if _kind(graph, n) == "input"}
    return _grouped(graph, {n: n if n in keep else f"part {part[n] + 1}" for n in graph})


def _kind(graph: nx.DiGraph, node: Hashable) -> str:
    kind: str = graph.nodes[node]["box"].kind
    return kind


def _grouped(graph: nx.DiGraph, group: Mapping[Hashable, Hashable]) -> nx.DiGraph:
    """One box for each group; groups that would make a circle become one."""
    quotient = nx.DiGraph()
    quotient.add_nodes_from(dict.fromkeys(group.values()))
    pairs = ((group[a], group[b]) for a, b in graph.edges)
    quotient.add_edges_from((a, b) for a, b in pairs if a != b)
    whole = nx.condensation(quotient)
    mapping = whole.graph["mapping"]
    members: dict[int, list[Hashable]] = {}
    for node in graph:
        members.setdefault(mapping[group[node]], []).append(node)
    found = nx.DiGraph(block={})
    for key, inside in members.items():
        first = inside[0]
        if len(inside) == 1:
            _add(found, first, graph.nodes[first]["box"])
        else:
            name = group[first] if isinstance(group[first], str) else ""
            _add(found, first, _block(str(name), [graph.nodes[n]["box"] for n in inside]))
        members[key] = [first, *inside]
    home = {node: inside[0] for inside in members.values() for node in inside}
    found.add_edges_from((home[a], home[b]) for a, b in graph.edges if home[a] != home[b])
    inner = graph.graph.get("block", {})
    found.graph["block"] = home | {node: home[place] for node, place in inner.items()}
    return found


def _block(name: str, inside: list[Box]) -> Box:
    """One box for several: what they are, and the rewrite that most of them went through."""
    kinds: Counter[str] = Counter()
    for box in inside:
        kinds.update(box.ops)
    rules = Counter(box.rule for box in inside if box.rule)
    told = ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in kinds.most_common(_TOLD))
    more = ", ..." if len(kinds) > _TOLD else ""
    label = f"{name}: {told}{more}" if name else f"{told}{more}"
    lines = [f"{sum(kinds.values())} operators", *(f"{n} {kind}" for kind, n in kinds.items())]
    lines += [f"{count} by {rule}" for rule, count in rules.most_common()]
    label = label if len(label) <= _WIDE else label[: _WIDE - 3] + "..."
    return Box(label, "block", rules.most_common(1)[0][0] if rules else "", "\n".join(lines), kinds)
