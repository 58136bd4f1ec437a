"""Two experts side by side: the same computation twice, but for the weights of linear layers.

f(a W0 + b0) for expert 0, f(a W1 + b1) for expert 1  ->  f(linear layer of both, a)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from addax.ir import constant, decline, producer, require, same_shape, scalar
from addax.ir.query import constant_tensor
from addax.passes._linear_layers import Linear, linear
from addax.passes._row_local import why_not_row_local

_DEPTH = 32  # nodes of an expert, one after another


@dataclass(frozen=True, eq=False)
class Pair:
    """A linear layer of each expert, on rows that `x` chooses."""

    x: "Plan"
    experts: tuple[Linear, Linear]


@dataclass(frozen=True, eq=False)
class Same:
    """An operator that is the same for both experts."""

    node: ir.Node
    inputs: tuple["Plan | None", ...]


Plan = ir.Value | Pair | Same


@dataclass
class Pairing:
    """Reads the results of two experts as one plan; declines, with the reason, if it cannot.

    What both experts read is read further where it comes from an earlier choice between them, by
    the same `choice`, and where nothing else reads what is on the way.
    """

    choice: ir.Value | None = None
    known: dict[tuple[ir.Value, ir.Value], Plan] = field(default_factory=dict)
    nodes: set[ir.Node] = field(default_factory=set)

    def pairs(self) -> Iterator[Pair]:
        """The linear layers found so far."""
        yield from (plan for plan in self.known.values() if isinstance(plan, Pair))

    def read(self, one: ir.Value | None, other: ir.Value | None, depth: int = _DEPTH) -> Plan:
        """The plan of two values, of which each token takes one."""
        if one is None or other is None or not depth:
            decline("the experts are no chains of operators", one, other)
        if (one, other) not in self.known:
            made = self._both(one, depth) if one is other else self._read(one, other, depth)
            self.known[one, other] = made
        return self.known[one, other]

    def _both(self, value: ir.Value, depth: int) -> Plan:
        """What both experts read: a value, or operators behind a choice between the same two."""
        node = value.producer()
        own = not value.is_graph_output() and self.nodes.issuperset(value.consumers())
        if node is None or not own or not self._is_behind(node, depth):
            return value
        self.nodes.add(node)
        if self._is_choice(node):
            _, first, second = node.inputs
            return self.read(first, second, depth - 1)
        return Same(node, tuple(self._operand(v, v, depth - 1) for v in node.inputs))

    def _is_behind(self, node: ir.Node, depth: int) -> bool:
        """Whether a node is a choice by the same experts, or computes each token of one alone."""
        while depth and not self._is_choice(node):
            before = next((v for v in node.inputs if v is not None and v.producer()), None)
            maker = None if before is None else before.producer()
            if maker is None or why_not_row_local(node) or len(node.outputs) != 1:
                return False
            if linear(node.outputs[0]) is not None or before is None or len(before.uses()) != 1:
                return False
            node, depth = maker, depth - 1
        return bool(depth)

    def _is_choice(self, node: ir.Node) -> bool:
        if self.choice is None or node.op_type not in ("Where", "MoeSelect"):
            return False
        return _chooser(node.inputs[0]) == _chooser(self.choice)

    def _read(self, one: ir.Value, other: ir.Value, depth: int) -> Plan:
        first, second = linear(one), linear(other)
        if first is not None and second is not None:
            require(first.size == second.size, "the experts have other sizes", one, other)
            self.nodes.update(first.nodes, second.nodes)
            return Pair(self.read(first.x, second.x, depth - 1), (first, second))
        left, right = one.producer(), other.producer()
        for node in (left, right):
            if node is not None and linear(node.outputs[0]) is None:
                reason = why_not_row_local(node)
                require(not reason, f"an expert does not compute each token alone: {reason}", one)
        if left is None or right is None or not _is_same(left, right):
            decline("the experts are not the same but for their weights", one, other)
        require(same_shape(one, other), "the experts have other sizes", one, other)
        self.nodes.update((left, right))
        inputs = zip(left.inputs, right.inputs, strict=True)
        return Same(left, tuple(self._operand(a, b, depth - 1) for a, b in inputs))

    def _operand(self, a: ir.Value | None, b: ir.Value | None, depth: int) -> Plan | None:
        return a if a is None or constant_tensor(a) is not None else self.read(a, b, depth)


def _chooser(choice: ir.Value | None) -> tuple[ir.Value | None, bool]:
    """What a choice looks at, and whether it compares that with 0."""
    node = producer(choice, "Unsqueeze")
    if node is not None:
        choice = node.inputs[0]
    same = producer(choice, "Equal")
    if same is not None and scalar(same.inputs[1]) == 0:
        return same.inputs[0], True
    return choice, False


def _is_same(left: ir.Node, right: ir.Node) -> bool:
    """Whether two nodes are one operator, with the same attributes and constants."""
    if left.op_identifier() != right.op_identifier() or len(left.inputs) != len(right.inputs):
        return False
    if len(left.outputs) != 1 or len(right.outputs) != 1:
        return False
    if left.attributes.keys() != right.attributes.keys():
        return False
    if any(left.attributes[name] != right.attributes[name] for name in left.attributes):
        return False
    return all(_is_same_operand(a, b) for a, b in zip(left.inputs, right.inputs, strict=True))


def _is_same_operand(a: ir.Value | None, b: ir.Value | None) -> bool:
    if a is b:
        return True
    one, other = constant(a), constant(b)
    if one is None or other is None:
        return one is other and a is not None and b is not None
    return one.dtype == other.dtype and np.array_equal(one, other)
