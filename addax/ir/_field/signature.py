"""What a proof of a rewrite depends on: two rewrites with one signature have one proof."""

from collections.abc import Iterable, Mapping
from typing import Any

import onnx_ir as ir

from addax.ir._literals import attribute_key, tensor_key
from addax.ir.builder import Derivation, Replacement
from addax.ir.query import constant_tensor, shape

SMALL = 64
"""Elements up to which a constant is part of what is proved; larger ones are weights."""


def is_weight(tensor: ir.TensorProtocol) -> bool:
    """Whether a proof may hold for every value of a constant."""
    return tensor.size > SMALL and tensor.dtype.is_floating_point()


class Signature:
    """Numbers values as they are met, and lists what is known of each."""

    def __init__(
        self, model: ir.Model, history: Mapping[ir.Value, Derivation], *, any_weights: bool
    ) -> None:
        self._functions = model.functions
        self._history = history
        self._any_weights = any_weights
        self._numbers: dict[ir.Value, int] = {}
        self._facts: list[Any] = []
        self._is_known = True

    def of(
        self, replacement: Replacement, nodes: Iterable[ir.Node], outputs: Iterable[ir.Value]
    ) -> tuple[Any, ...] | None:
        """The signature of proving a replacement on these nodes; None where there is none."""
        folded = [self._derivation(v, d) for v, d in replacement.folded.items()]
        bodies = [node for body in replacement.bodies for node in body]
        listed = [self._node(node) for node in (*nodes, *bodies, *replacement.nodes)]
        ends = [self._number(value) for value in outputs]
        if not self._is_known:
            return None
        return (self._any_weights, tuple(folded), tuple(listed), tuple(ends), tuple(self._facts))

    def _node(self, node: ir.Node) -> tuple[Any, ...]:
        if (node.domain, node.op_type, node.overload) in self._functions:
            self._is_known = False
        return (
            node.domain,
            node.op_type,
            self._attributes(node.attributes),
            tuple(self._number(v) for v in node.inputs),
            tuple(self._number(v, made=True) for v in node.outputs),
        )

    def _derivation(self, value: ir.Value, derivation: Derivation) -> tuple[Any, ...]:
        return (*self._formula(derivation), self._number(value, made=True))

    def _formula(self, derivation: Derivation) -> tuple[Any, ...]:
        attributes = self._attributes(derivation.onnx_attributes)
        inputs = tuple(self._number(v) for v in derivation.inputs)
        return derivation.op_type, attributes, inputs, derivation.index

    def _attributes(self, attributes: Mapping[str, ir.Attr]) -> tuple[Any, ...]:
        if any(a.type in _GRAPHS or a.is_ref() for a in attributes.values()):
            self._is_known = False
            return ()
        return tuple((name, attribute_key(attributes[name])) for name in sorted(attributes))

    def _number(self, value: ir.Value | None, *, made: bool = False) -> int | None:
        if value is None or value.name == "":
            return None
        if value not in self._numbers:
            fact = None if made else self._fact(value)
            self._numbers[value] = len(self._numbers)
            self._facts.append(fact)
        return self._numbers[value]

    def _fact(self, value: ir.Value) -> tuple[Any, ...]:
        tensor = constant_tensor(value)
        if tensor is None:
            return "read", value.dtype, shape(value)
        if self._any_weights and tensor.dtype.is_floating_point() and value in self._history:
            return "derived", *self._formula(self._history[value])
        if self._any_weights and is_weight(tensor):
            return "weight", tensor.dtype, tuple(tensor.shape.numpy())
        return "constant", tensor_key(tensor)


_GRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})
