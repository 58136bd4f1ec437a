"""Common subexpressions: what is computed twice from the same values is computed once.

Algebra     f(x), f(x) = y, y for y = f(x);   f(x, y) = f(y, x) where f commutes
Source      value numbering: Cocke and Schwartz, Programming Languages and Their Compilers, 1970
Exactness   bitwise: the operator that stays has the same inputs and attributes
Cost        removes nodes and constants; one sweep, in order, linear in the size of the model

Random operators are never merged, nor nodes that hold subgraphs. What stands in a subgraph may
take the value of an equal node of an enclosing graph, since that one has run before.
"""

from collections.abc import Iterator
from typing import Any

import onnx_ir as ir

from addax.ir import Exact, Op, rule
from addax.ir.dialect import DOMAIN
from addax.ir.pattern import COMMUTATIVE, default_attribute
from addax.ir.query import constant_tensor
from addax.ir.rewriter import is_read
from addax.ir.rule import EveryNode
from addax.passes._equal_tensors import EqualTensors
from addax.passes._family import Context, Phase

PHASE = Phase.CANONICAL

_PURE_DOMAINS = ("", "ai.onnx.ml", "com.microsoft", DOMAIN)
_RANDOM = ("Bernoulli", "Dropout", "Multinomial", "Random", "Sampling")  # parts of names

Key = tuple[Any, ...]


@rule("common-subexpressions/merge", match=EveryNode(lambda _: True), exact=Exact.BITWISE)
def merge(op: Op, values: tuple[ir.Value, ...]) -> tuple[ir.Value, ...]:
    """f(x), f(x) -> one f(x)."""
    return values


def run(model: ir.Model, context: Context) -> bool:
    """Merge equal nodes and equal constants in every scope."""
    sweep = _Sweep(model, context)
    sweep.root(model.graph)
    for function in model.functions.values():
        if function.domain != DOMAIN:  # these bodies are what the dialect's operators mean
            sweep.root(function.graph)
    return sweep.changed


class _Sweep:
    """One walk over a model in order. `tables` are those of the scopes around the node at hand."""

    def __init__(self, model: ir.Model, context: Context) -> None:
        self.changed = False
        self._driver = context.driver
        self._tensors = EqualTensors()
        self._opsets: dict[str, int] = {}
        self._tables: list[dict[Key, tuple[ir.Value, ...]]] = []
        self._impure = _impure_functions(model)
        self._functions = model.functions

    def root(self, graph: ir.Graph) -> None:
        """Merge within the main graph, or the body of a function."""
        self._opsets = graph.opset_imports
        self._graph(graph)

    def _graph(self, graph: ir.Graph) -> None:
        """Merge within one graph, with what encloses it, and within what it holds."""
        self._tables.append({})
        for value in list(graph.initializers.values()):
            tensor = constant_tensor(value)
            if tensor is not None:
                known = self._known(("", "Constant", self._tensors.number(tensor)), (value,))
                if known is not None:
                    self.changed |= self._driver.share(merge, value, known[0])
        for node in graph:
            if is_read(node):
                for body in _bodies(node):
                    self._graph(body)
                key = self._key(node)
                known = None if key is None else self._known(key, tuple(node.outputs))
                if known is not None:
                    self.changed |= self._driver.rewrite(merge, node, known)
        self._tables.pop()

    def _known(self, key: Key, values: tuple[ir.Value, ...]) -> tuple[ir.Value, ...] | None:
        """The values that have this key already; else `values` have it from now on."""
        for table in self._tables:
            found = table.get(key)
            if found is not None:
                return found
        self._tables[-1][key] = values
        return None

    def _key(self, node: ir.Node) -> Key | None:
        """What two nodes must agree in to compute the same; None for a node that stays."""
        if not self._is_pure(node):
            return None
        tensor = constant_tensor(node.outputs[0]) if node.op_type == "Constant" else None
        if tensor is not None:
            return "", "Constant", self._tensors.number(tensor)
        attributes = self._attributes(node)
        if attributes is None:
            return None
        inputs = tuple(node.inputs)
        if node.op_type in COMMUTATIVE and not node.domain:
            inputs = tuple(sorted(inputs, key=id))
        given = tuple(bool(value.name) for value in node.outputs)
        return node.domain, node.op_type, node.overload, inputs, attributes, given

    def _is_pure(self, node: ir.Node) -> bool:
        function = (node.domain, node.op_type, node.overload)
        if function in self._functions:
            return function not in self._impure
        return _may_be_pure(node)

    def _attributes(self, node: ir.Node) -> Key | None:
        """The attributes that differ from the operator's defaults; None if some hold graphs."""
        version = self._opsets.get(node.domain, 1)
        found: list[Any] = []
        for name, attribute in sorted(node.attributes.items()):
            value = self._attribute(attribute)
            if value is None:
                return None
            default = default_attribute(node.domain, node.op_type, name, version)
            if attribute.is_ref() or attribute.value != default:
                found.append((name, value))
        return tuple(found)

    def _attribute(self, attribute: ir.Attr) -> Any:
        """Something that equal attributes agree in; None where we cannot tell."""
        if attribute.is_ref():
            return "ref", attribute.ref_attr_name
        kind, value = attribute.type, attribute.value
        if kind == ir.AttributeType.TENSOR:
            return "tensor", self._tensors.number(value)
        if kind == ir.AttributeType.FLOAT:
            return "float", value.hex()
        if kind == ir.AttributeType.FLOATS:
            return "floats", tuple(number.hex() for number in value)
        if kind in (ir.AttributeType.INT, ir.AttributeType.STRING):
            return kind, value
        if kind in (ir.AttributeType.INTS, ir.AttributeType.STRINGS):
            return kind, tuple(value)
        return None


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.value
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.value


def _nodes(scope: ir.Graph | ir.Function) -> Iterator[ir.Node]:
    for node in scope:
        yield node
        for body in _bodies(node):
            yield from _nodes(body)


def _may_be_pure(node: ir.Node) -> bool:
    """Whether an operator gives the same for the same inputs, as far as its name says."""
    return node.domain in _PURE_DOMAINS and not any(word in node.op_type for word in _RANDOM)


def _impure_functions(model: ir.Model) -> set[tuple[str, str, str]]:
    """The functions that call something random, directly or not."""
    functions = model.functions
    callers: dict[Any, list[Any]] = {}
    impure: list[Any] = []
    for name, function in functions.items():
        for node in _nodes(function):
            called = (node.domain, node.op_type, node.overload)
            if called in functions:
                callers.setdefault(called, []).append(name)
            elif not _may_be_pure(node):
                impure.append(name)
    found: set[tuple[str, str, str]] = set()
    while impure:
        name = impure.pop()
        if name not in found:
            found.add(name)
            impure += callers.get(name, [])
    return found
