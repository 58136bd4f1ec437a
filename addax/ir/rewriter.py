"""The only code that changes a graph: commit a replacement, erase what died, keep names unique."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import onnx_ir as ir

from addax.errors import InvalidGraphError
from addax.ir import origin
from addax.ir.builder import Builder, Replacement
from addax.ir.model import scopes
from addax.ir.query import constant_tensor, shape
from addax.ir.rule import decline
from addax.ir.shapes import ShapeInference


class Rewriter:
    """Prepares, commits and erases on one model. Names stay unique over all its scopes."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.opset = model.opset_imports.get("", 1)
        self._shapes = ShapeInference(model)
        values, nodes = Counter(_value_names(model)), Counter(_node_names(model))
        self._names = {*values, *nodes}
        # Scopes that do not see each other may share names.
        self._repeated = {n for counts in (values, nodes) for n, k in counts.items() if k > 1}
        self._suffix: dict[str, int] = {}
        self._function_graphs = {id(function.graph) for function in model.functions.values()}
        self._dead: dict[ir.Graph, dict[ir.Node, None]] = {}

    def fresh_name(self, hint: str) -> str:
        """`hint`, or the first of `hint_1`, `hint_2`, ... that nothing in the model is called."""
        name, count = hint, self._suffix.get(hint, 0)
        while name in self._names:
            count += 1
            name = f"{hint}_{count}"
        self._suffix[hint] = count
        self._names.add(name)
        return name

    def prepare(
        self, root: ir.Node, build: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Replacement:
        """Run a build function beside the graph. A decline or an error leaves no trace."""
        replacement = Replacement(root, id(root.graph) in self._function_graphs)
        try:
            result = build(Builder(replacement, self._shapes, self.opset), *arguments)
            if result is None:
                decline("nothing to do")
            replacement.outputs = result if isinstance(result, tuple) else (result,)
            _check_interface(root, replacement.outputs)
        except BaseException:
            self.drop(replacement)
            raise
        return replacement

    def learn(self, node: ir.Node) -> bool:
        """Infer types and shapes again that were not known; whether more is known now."""
        return self._shapes.learn(node)

    def drop(self, replacement: Replacement) -> None:
        """Forget a replacement that will not be committed."""
        for node in replacement.nodes:
            detach(node)

    def commit(self, replacement: Replacement, rule: str) -> list[ir.Node]:
        """Put a replacement in the place of its root's outputs; returns the nodes that came.

        The root itself stays, unused, until `erase` takes it.
        """
        root, graph = replacement.root, _graph_of(replacement.root)
        moved = [n for body in replacement.bodies for n in self._unpack(body, root, rule)]
        arrivals = self._arrivals(replacement, graph)
        # Where one value takes the place of several, it is called like the first of them.
        successors = {
            new: old
            for old, new in reversed([*zip(root.outputs, replacement.outputs, strict=False)])
            if new.producer() in arrivals
        }
        for node in arrivals:
            self._adopt(node, root, rule, successors)
        for old, new in zip(root.outputs, replacement.outputs, strict=False):
            arrivals += self._substitute(old, new, rule)
        return moved + arrivals

    def _unpack(self, body: ir.Graph, root: ir.Node, rule: str) -> list[ir.Node]:
        """Move the nodes and constants of a subgraph of the root to a place before it."""
        graph = _graph_of(root)
        body.outputs.clear()
        constants = list(body.initializers.values())
        body.initializers.clear()
        nodes = list(body)
        body.remove(nodes)
        named: list[Any] = [*constants, *nodes, *(v for node in nodes for v in node.outputs)]
        for item in named:
            if item.name in self._repeated:
                item.name = self.fresh_name(item.name)
        if id(graph) in self._function_graphs:
            nodes = [_constant_node(value) for value in constants] + nodes
        else:
            for value in constants:
                graph.register_initializer(value)
        for node in nodes:
            origin.inherit(node, (node,), rule)
        graph.insert_before(root, nodes)
        return nodes

    def _adopt(
        self, node: ir.Node, root: ir.Node, rule: str, successors: dict[ir.Value, ir.Value]
    ) -> None:
        """Insert a new node before the root, with its history and with names.

        A value that takes the place of an old one takes its name too.
        """
        origin.inherit(node, (root,), rule)
        node.name = self.fresh_name(root.name or node.op_type)
        for value in node.outputs:
            old = successors.get(value)
            if old is None or not old.name:  # ONNX leaves an output that nobody reads unnamed
                value.name = self.fresh_name(root.outputs[0].name or node.op_type)
            else:
                old.name, value.name = None, old.name
        _graph_of(root).insert_before(root, node)

    def _arrivals(self, replacement: Replacement, graph: ir.Graph) -> list[ir.Node]:
        """The new nodes that the outputs need; the constants that they read are put in place."""
        outputs = set(replacement.outputs)
        live: list[ir.Node] = []
        for node in reversed(replacement.nodes):
            if any(v in outputs or v.uses() for v in node.outputs):
                live.append(node)
            else:
                detach(node)
        live.reverse()
        read = [v for v in replacement.constants if v in outputs or v.uses()]
        if replacement.in_function:
            return [_constant_node(value) for value in read] + live
        for value in read:
            value.name = self._constant_name(value, replacement)
            graph.register_initializer(value)
        return live

    def _constant_name(self, value: ir.Value, replacement: Replacement) -> str:
        """The name of the value that a constant replaces, if that is free to give, or a new one."""
        for old, new in zip(replacement.root.outputs, replacement.outputs, strict=False):
            if new is value and old.name and not old.is_graph_output():
                name, old.name = old.name, None
                return name
        return self.fresh_name(replacement.constants[value])

    def _substitute(self, old: ir.Value, new: ir.Value, rule: str) -> list[ir.Node]:
        """Let every reader of `old` read `new`. An interface keeps its names."""
        root = old.producer()
        made: list[ir.Node] = []
        if old.is_graph_output() and _is_pinned(new, old) and root is not None:
            node = ir.Node("", "Identity", [new], num_outputs=1)
            self._adopt(node, root, rule, {node.outputs[0]: old})
            made, new = [node], node.outputs[0]
        if new.type is None:
            new.type = old.type
        is_declared = old.is_graph_output()
        if old.shape is not None and (is_declared or _knows_more(old.shape, new.shape)):
            new.shape = old.shape
        if old.is_graph_output() and old.name is not None:
            old.name, new.name = None, old.name
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        return made

    def share(self, old: ir.Value, new: ir.Value) -> None:
        """Let every reader of the initializer `old` read the equal value `new`.

        If `old` is an output of a graph it stays that.
        """
        for use in tuple(old.uses()):
            use.node.replace_input_with(use.idx, new)

    def erase(self, node: ir.Node) -> list[ir.Node]:
        """Remove a node that nobody reads; returns the producers that it may have left unread."""
        sources = [v.producer() for v in reads(node)]
        for body in list(_bodies(node)):
            for inner in body:
                detach(inner)
            # Nobody who still holds one of these nodes may take it for part of the model.
            body.outputs.clear()
            body.remove(list(body))
        detach(node)
        graph = _graph_of(node)
        # `Graph.remove` hashes all outputs of the graph at each call: wait until that is paid for.
        dead = self._dead.setdefault(graph, {})
        dead[node] = None
        if len(dead) >= len(graph.outputs):
            self.flush()
        return [source for source in dict.fromkeys(sources) if source is not None]

    def lift_constants(self) -> int:
        """Make every Constant node an initializer, except in functions; returns how many.

        The one spelling of constants that rules see. Not a rule of its own: there are as many
        Constant nodes as others in what exporters write, and this takes microseconds for each.
        """
        lifted = 0
        for graph in self.model.graphs():
            if id(graph) in self._function_graphs:
                continue
            constants = [n for n in graph if n.op_type == "Constant" and not n.domain]
            for node in constants:
                lifted += self._lift_constant(node, graph)
        self.flush()
        return lifted

    def _lift_constant(self, node: ir.Node, graph: ir.Graph) -> bool:
        old = node.outputs[0]
        tensor = constant_tensor(old)
        if tensor is None or old.is_graph_output():
            return False
        name, old.name = old.name, None
        shape = ir.Shape(tensor.shape.numpy())
        new = ir.Value(name=name, type=old.type, shape=shape, const_value=tensor)
        if new.type is None:
            new.type = ir.TensorType(tensor.dtype)
        graph.register_initializer(new)
        old.replace_all_uses_with(new)
        self.erase(node)
        return True

    def prune(self) -> None:
        """Remove initializers that nobody reads. Inputs and outputs of graphs stay."""
        self.flush()
        for graph in self.model.graphs():
            for name, value in list(graph.initializers.items()):
                if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
                    del graph.initializers[name]

    def flush(self) -> None:
        """Take erased nodes out of their graphs now."""
        for graph, nodes in self._dead.items():
            graph.remove(nodes)
            for node in nodes:
                gone = {v.name for v in node.outputs if v.name}
                self._names -= gone - self._repeated
        self._dead.clear()

    def is_erased(self, node: ir.Node) -> bool:
        """Whether `node` is in no graph any more, or about to be."""
        return node.graph is None or node in self._dead.get(node.graph, ())


def detach(node: ir.Node) -> None:
    """Make a node read nothing; input by input would rebuild the tuple each time."""
    for position, value in enumerate(node.inputs):
        if value is not None:
            value._remove_usage(node, position)  # noqa: SLF001 - no public linear way exists
    node._inputs = ()  # noqa: SLF001


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """Every value that a node or its subgraphs read, those made inside included."""
    yield from (v for v in node.inputs if v is not None)
    for body in _bodies(node):
        for inner in body:
            yield from (v for v in inner.inputs if v is not None)


def is_read(node: ir.Node) -> bool:
    """Whether anybody reads an output of `node`, or a graph returns one."""
    for value in node.outputs:  # noqa: SIM110 - asked at every visit, and `any` takes twice as long
        if value.uses() or value.is_graph_output():
            return True
    return False


def _check_interface(root: ir.Node, outputs: tuple[ir.Value, ...]) -> None:
    """Decline a replacement whose outputs cannot stand for the root's."""
    for old in root.outputs[len(outputs) :]:
        if old.uses() or old.is_graph_output():
            decline("an output of the root without a replacement is used", old)
    for old, new in zip(root.outputs, outputs, strict=False):
        if old is new:
            decline("nothing to do")
        if old.is_graph_output() and root.op_type == "Identity" and _is_pinned(new, old):
            decline("the Identity gives an output of the graph its name", old)
        if None not in (old.dtype, new.dtype) and old.dtype != new.dtype:
            decline(f"the replacement has type {new.dtype}, not {old.dtype}", old)
        before, after = shape(old), shape(new)
        if before is not None and after is not None and not _compatible(before, after):
            decline(f"the replacement has shape {list(after)}, not {list(before)}", old)


def _compatible(a: tuple[int | str | None, ...], b: tuple[int | str | None, ...]) -> bool:
    return len(a) == len(b) and all(
        i == j for i, j in zip(a, b, strict=True) if isinstance(i, int) and isinstance(j, int)
    )


def _knows_more(a: ir.Shape, b: ir.Shape | None) -> bool:
    return b is None or sum(isinstance(d, int) for d in a) > sum(isinstance(d, int) for d in b)


def _is_pinned(new: ir.Value, old: ir.Value) -> bool:
    """Whether `new` cannot take the name of the graph output `old`.

    An input, an initializer, another output and a value of an outer scope keep their own.
    """
    made, replaced = new.producer(), old.producer()
    return (
        new.is_graph_output()
        or made is None
        or replaced is None
        or made.graph is not replaced.graph
    )


def _constant_node(value: ir.Value) -> ir.Node:
    tensor = value.const_value
    if tensor is None:
        raise InvalidGraphError("a constant of a replacement has no tensor")
    return ir.Node("", "Constant", (), [ir.AttrTensor("value", tensor)], outputs=[value])


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    """The subgraphs of a node, at any depth."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        graphs: Iterable[Any] = ()
        if attribute.type == ir.AttributeType.GRAPH:
            graphs = (attribute.value,)
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs = attribute.value
        for graph in graphs:
            yield graph
            for inner in graph:
                yield from _bodies(inner)


def _graph_of(node: ir.Node) -> ir.Graph:
    if node.graph is None:
        raise InvalidGraphError(f"node {node.name!r} is in no graph")
    return node.graph


def _value_names(model: ir.Model) -> Iterator[str]:
    for scope in scopes(model):
        values = [*scope.inputs, *getattr(scope, "initializers", {}).values()]
        for node in scope:
            values += node.outputs
        yield from {v.name for v in values if v.name}


def _node_names(model: ir.Model) -> Iterator[str]:
    for scope in scopes(model):
        yield from {node.name for node in scope if node.name}
