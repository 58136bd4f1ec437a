"""The slow matcher: walks a pattern beside a graph and says what matched, or why it did not.

The compiled matchers (`addax.ir.match`) decide; this one explains: which nodes a match covers,
and for a node that does not match, the nearest miss.
"""

from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from addax.ir.match import Matcher, compile_rule, is_array, is_number
from addax.ir.origin import describe
from addax.ir.pattern import PatternNode, Sym, default_attribute
from addax.ir.query import attribute, constant_tensor
from addax.ir.rule import Rule


@dataclass
class Walk:
    """One walk of a pattern over a graph.

    `nodes` are the graph's nodes that the pattern covers, root first; `values` what its names
    are bound to; `miss` is empty for a match, else the first place where the graph differs.
    """

    nodes: list[ir.Node] = field(default_factory=list)
    values: dict[str, ir.Value] = field(default_factory=dict)
    miss: str = ""

    def fail(self, reason: str) -> bool:
        """Record the miss; always False."""
        self.miss = self.miss or reason
        return False


def walk(matcher: Matcher, root: ir.Node) -> Walk:
    """Walk one spelling of a rule's pattern from `root` upstream."""
    result = Walk()
    if matcher.pattern is None:
        result.nodes.append(root)
        if matcher.find(root) is None:
            result.fail(f"the rule's condition does not hold at {describe(root)}")
        return result
    seen: dict[int, ir.Node] = {}
    if _node(matcher.pattern, root, result, seen):
        _uses(result, seen, matcher.pattern)
    return result


def nearest(rule: Rule, root: ir.Node) -> Walk:
    """The walk of the rule's spelling that gets furthest from `root`: a match if there is one."""
    walks = [walk(matcher, root) for matcher in compile_rule(rule)]
    return max(walks, key=lambda w: (not w.miss, len(w.nodes), len(w.values)))


def _node(pattern: PatternNode, node: ir.Node, result: Walk, seen: dict[int, ir.Node]) -> bool:
    if (node.domain, node.op_type) != (pattern.domain, pattern.op_type):
        return result.fail(f"expected {pattern.op_type}, found {describe(node)}")
    seen[pattern.key] = node
    result.nodes.append(node)
    count = len(pattern.inputs)
    if len(node.inputs) < count or (len(node.inputs) > count and not pattern.is_open):
        return result.fail(f"expected {count} inputs at {describe(node)}, found {len(node.inputs)}")
    for name, wanted in pattern.attributes:
        default = default_attribute(pattern.domain, pattern.op_type, name)
        found = attribute(node, name, default)
        if found != wanted:
            return result.fail(f"expected {name}={wanted!r} at {describe(node)}, found {found!r}")
    for name in pattern.names:
        result.values[name] = node.outputs[0]
    pairs = zip(pattern.inputs, node.inputs, strict=False)
    return all(_value(wanted, value, node, result, seen) for wanted, value in pairs)


def _value(
    wanted: Any, value: ir.Value | None, user: ir.Node, result: Walk, seen: dict[int, ir.Node]
) -> bool:
    where = f"an input of {describe(user)}"
    if wanted is None or value is None:
        return (wanted is None and value is None) or result.fail(
            f"expected {'no input' if wanted is None else 'an input'} at {describe(user)}"
        )
    if isinstance(wanted, Sym):
        return _symbol(wanted, value, user, result, seen)
    is_vector = isinstance(wanted, list | tuple)
    matches = is_array(value, tuple(wanted)) if is_vector else is_number(value, wanted, user)
    found = "another constant" if constant_tensor(value) is not None else f"{value.name!r}"
    return matches or result.fail(f"expected the constant {wanted!r} as {where}, found {found}")


def _symbol(
    wanted: Sym, value: ir.Value, user: ir.Node, result: Walk, seen: dict[int, ir.Node]
) -> bool:
    if wanted.node is None:
        bound = result.values.setdefault(wanted.name, value)
        return bound is value or result.fail(
            f"expected {bound.name!r} again as {wanted.name!r} at {describe(user)}, "
            f"found {value.name!r}"
        )
    node = value.producer()
    if node is None or node.graph is not user.graph:
        return result.fail(
            f"expected the output of {wanted.node.op_type} at {describe(user)}, "
            f"found {value.name!r}"
        )
    if value.index() != wanted.index:
        return result.fail(
            f"expected output {wanted.index} of {describe(node)}, found output {value.index()}"
        )
    if wanted.node.key in seen:
        return seen[wanted.node.key] is node or result.fail(
            f"expected the same {wanted.node.op_type} twice, found {describe(node)}"
        )
    return _node(wanted.node, node, result, seen)


def _uses(result: Walk, seen: dict[int, ir.Node], root: PatternNode) -> None:
    """An interior node must be read by the match alone, unless the pattern shares it."""
    covered = set(seen.values())
    shared = {id(seen[p.key]) for p in _below(root) if p.shared}
    for node in result.nodes[1:]:
        if id(node) in shared:
            continue
        for value in node.outputs:
            outside = [use.node for use in value.uses() if use.node not in covered]
            if outside or value.is_graph_output():
                who = describe(outside[0]) if outside else "the graph's outputs"
                result.fail(f"{describe(node)} is also used by {who}")


def _below(node: PatternNode) -> list[PatternNode]:
    nodes = [node]
    for value in node.inputs:
        if isinstance(value, Sym) and value.node is not None:
            nodes += _below(value.node)
    return nodes
