"""Patterns as data: a rule's match function is traced into a small tree of operators.

    def match(op, x, w):
        return op.Relu(op.MatMul(x, w))

Parameters bind values (the same name twice is the same value). Numbers and lists of integers
match constants, None an absent optional input, `...` as the last input any further inputs.
Keywords match attributes, schema defaults included, and:
    _as="h"        binds the node's first output under that name
    _shared=True   lets other nodes use this interior node too (it then stays behind)
    _outputs=3     the node has three outputs; the call returns a tuple
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import onnx

from addax.errors import InvalidGraphError
from addax.ir.rule import Match

COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min", "And", "Or", "Xor", "Equal", "Sum"})


@dataclass(frozen=True)
class Sym:
    """A value in a pattern: a variable if `node` is None, else that node's output `index`."""

    name: str = ""
    node: "PatternNode | None" = None
    index: int = 0


@dataclass(frozen=True)
class PatternNode:
    """An operator in a pattern; see the module's description of the fields' meaning."""

    domain: str
    op_type: str
    inputs: tuple[Any, ...]
    attributes: tuple[tuple[str, Any], ...] = ()
    is_open: bool = False
    shared: bool = False
    outputs: int = 1
    names: tuple[str, ...] = field(default=(), compare=False)
    key: int = 0  # tells two textually equal operators of one pattern apart


class _Tracer:
    """The `op` that a match function sees while it is traced."""

    def __init__(self, domain: str = "", counter: list[int] | None = None) -> None:
        self._domain = domain
        self._counter = counter if counter is not None else [0]

    def domain(self, name: str) -> "_Tracer":
        return _Tracer(name, self._counter)

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        return functools.partial(self._node, op_type)

    def _node(self, op_type: str, *inputs: Any, **keywords: Any) -> Any:
        is_open = bool(inputs) and inputs[-1] is ...
        name = keywords.pop("_as", "")
        shared = keywords.pop("_shared", False)
        outputs = keywords.pop("_outputs", 1)
        self._counter[0] += 1
        node = PatternNode(
            self._domain,
            op_type,
            inputs[:-1] if is_open else inputs,
            tuple((key, _stored(item)) for key, item in sorted(keywords.items())),
            is_open,
            shared,
            outputs,
            (name,) if name else (),
            self._counter[0],
        )
        values = tuple(Sym(name if i == 0 else "", node, i) for i in range(outputs))
        return values[0] if outputs == 1 else values


def _stored(item: Any) -> Any:
    """An attribute's value as ONNX stores it: numbers in float32."""
    return float(np.float32(item)) if isinstance(item, float) else item


def trace(pattern: Match) -> PatternNode:
    """The operator tree of a match function, rooted at the node whose outputs are replaced."""
    parameters = list(inspect.signature(pattern).parameters)[1:]
    result = pattern(_Tracer(), *(Sym(name) for name in parameters))
    if isinstance(result, tuple):
        result = result[0]
    if not isinstance(result, Sym) or result.node is None:
        raise InvalidGraphError(
            "a pattern must return the output of an operator, but "
            f"{getattr(pattern, '__qualname__', pattern)} returned {result!r}; "
            "write `return op.SomeOp(...)`"
        )
    return result.node


def expand(node: PatternNode) -> Iterator[PatternNode]:
    """The pattern with the inputs of every commutative operator in both orders.

    Two plain variables are not swapped: `canonicalize` puts constants second.
    """
    choices = [
        [replace(value, node=n) for n in expand(value.node)]
        if isinstance(value, Sym) and value.node is not None
        else [value]
        for value in node.inputs
    ]
    for inputs in product(*choices):
        if not _consistent(inputs):
            continue
        yield replace(node, inputs=inputs)
        is_commutative = node.op_type in COMMUTATIVE and not node.domain and len(inputs) == 2
        if is_commutative and inputs[0] != inputs[1] and not all(map(_is_variable, inputs)):
            yield replace(node, inputs=inputs[::-1])


def _is_variable(value: Any) -> bool:
    return isinstance(value, Sym) and value.node is None


def _consistent(inputs: tuple[Any, ...]) -> bool:
    """Whether an operator that is used twice was expanded in the same order at both places."""
    seen: dict[int, PatternNode] = {}
    for node in (n for value in inputs for n in nodes_below(value)):
        if seen.setdefault(node.key, node) != node:
            return False
    return True


def nodes_below(value: Any) -> Iterator[PatternNode]:
    """Every operator of the pattern that `value` depends on, `value`'s own first."""
    if isinstance(value, Sym) and value.node is not None:
        yield value.node
        for operand in value.node.inputs:
            yield from nodes_below(operand)


def variables(node: PatternNode) -> list[str]:
    """Every name that a match of this pattern binds, in order of first appearance."""
    names: dict[str, None] = dict.fromkeys(node.names)
    for value in node.inputs:
        if isinstance(value, Sym):
            names.update(
                dict.fromkeys(variables(value.node) if value.node is not None else [value.name])
            )
    return list(names)


@functools.cache
def default_attribute(domain: str, op_type: str, name: str, version: int | None = None) -> Any:
    """The schema's default for an attribute of an operator, None if it has none.

    Of the newest version of the operator, or of that in a `version` of its domain.
    """
    newest = 1 << 30  # above any version
    try:
        schema = onnx.defs.get_schema(op_type, version or newest, domain)
    except onnx.defs.SchemaError:
        return None
    known = schema.attributes.get(name)
    if known is None or not known.default_value.name:
        return None
    value = onnx.helper.get_attribute_value(known.default_value)
    return value.decode() if isinstance(value, bytes) else value
