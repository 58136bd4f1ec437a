"""Rules compiled to matchers: straight-line Python, one function a spelling, indexed by operator.

A matcher takes a node and returns the build function's arguments, or None. Compiling the
patterns (rather than walking them) is what makes a visit cost microseconds.
"""

import functools
import inspect
import itertools
import linecache
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import InvalidGraphError
from addax.ir.pattern import PatternNode, Sym, default_attribute, expand, trace, variables
from addax.ir.query import attribute, constant, constant_tensor, scalar
from addax.ir.rule import EveryNode, Rule
from addax.ir.spans import Spans


@dataclass(frozen=True, slots=True)
class Matcher:
    """One compiled spelling of one rule's pattern; `pattern` is None for `EveryNode`.

    `roots` are the operators that it may be rooted at; None means any of any domain.
    """

    rule: Rule
    find: Callable[[ir.Node], tuple[Any, ...] | None]
    domain: str
    pattern: PatternNode | None
    roots: frozenset[str] | None


class RuleSet:
    """Rules compiled together and indexed by what stands at their root and just above it.

    `spans` says which nodes a change can make match.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._everywhere: list[Matcher] = []
        self._by_root: dict[tuple[str, str], list[Matcher]] = {}
        self._by_kinds: dict[tuple[str, ...], tuple[Matcher, ...]] = {}
        for rule in self.rules:
            for matcher in compile_rule(rule):
                if matcher.roots is None:
                    self._everywhere.append(matcher)
                for op_type in matcher.roots or ():
                    self._by_root.setdefault((matcher.domain, op_type), []).append(matcher)
        self.spans = Spans(
            matcher.pattern
            for rule in self.rules
            for matcher in compile_rule(rule)
            if matcher.pattern is not None
        )

    def at(self, node: ir.Node) -> tuple[Matcher, ...]:
        """The matchers that may find something at `node`, judging by its first two inputs."""
        inputs = node.inputs
        count = len(inputs)
        kinds = (
            node.domain,
            node.op_type,
            _kind(inputs[0]) if count else "",
            _kind(inputs[1]) if count > 1 else "",
        )
        found = self._by_kinds.get(kinds)
        if found is None:
            candidates = self._by_root.get(kinds[:2], [])
            fitting = [_ready(m) for m in candidates if _may_match(m, kinds[2:])]
            found = self._by_kinds[kinds] = (*self._everywhere, *fitting)
        return found


@functools.cache
def compile_rule(rule: Rule) -> tuple[Matcher, ...]:
    """The matchers of a rule: one for each pattern and each order of commutative inputs."""
    wanted = list(inspect.signature(rule.build).parameters)[1:]
    matchers = []
    for pattern in rule.patterns:
        if isinstance(pattern, EveryNode):
            find = _conditional(pattern.condition)
            matchers.append(Matcher(rule, find, "", None, pattern.ops))
            continue
        traced = trace(pattern)
        missing = set(wanted) - set(variables(traced))
        if missing:
            raise InvalidGraphError(
                f"rule {rule.name!r} ({rule.where}): its build function takes "
                f"{', '.join(sorted(missing))}, which its pattern does not bind"
            )
        matchers += [
            Matcher(
                rule,
                _Late(rule.name, spelling, wanted),
                spelling.domain,
                spelling,
                frozenset({spelling.op_type}),
            )
            for spelling in expand(traced)
        ]
    return tuple(matchers)


class _Late:
    """A matcher's function, compiled when it is first needed: few patterns have a chance."""

    def __init__(self, name: str, spelling: PatternNode, wanted: list[str]) -> None:
        self._parts = name, spelling, wanted

    @functools.cached_property
    def function(self) -> Callable[[ir.Node], tuple[Any, ...] | None]:
        return _Compiler(*self._parts).function()

    def __call__(self, node: ir.Node) -> tuple[Any, ...] | None:
        return self.function(node)


def _ready(matcher: Matcher) -> Matcher:
    """The same matcher, compiled."""
    find = matcher.find
    return replace(matcher, find=find.function) if isinstance(find, _Late) else matcher


def _kind(value: ir.Value | None) -> str:
    """What makes a value: an operator's type, or "" for none."""
    node = None if value is None else value.producer()
    return "" if node is None else node.op_type


def _may_match(matcher: Matcher, kinds: tuple[str, ...]) -> bool:
    """Whether the makers of a node's first inputs fit the pattern's."""
    wanted = () if matcher.pattern is None else matcher.pattern.inputs
    for value, kind in zip(wanted, kinds, strict=False):
        if isinstance(value, Sym):
            if value.node is not None and value.node.op_type != kind:
                return False
        elif kind not in ("", "Constant"):  # a literal, or an input that must be absent
            return False
    return True


def _conditional(
    condition: Callable[[ir.Node], bool],
) -> Callable[[ir.Node], tuple[Any, ...] | None]:
    return lambda node: () if condition(node) else None


def is_number(value: ir.Value | None, number: Any, user: ir.Node) -> bool:
    """Whether `value` is the constant `number` in its own element type.

    A one-element constant of rank 1 or more can raise the rank of what it is combined with;
    it counts only where `user` has another input of its own output's rank.
    """
    found = scalar(value)
    if found is None or value is None:
        return False
    is_equal = found == (found.dtype.type(number) if found.dtype.kind not in "iub" else number)
    if not is_equal:
        return False
    tensor = constant_tensor(value)
    if tensor is None or tensor.shape.rank() == 0:
        return True
    out = user.outputs[0].shape
    return out is not None and any(
        other is not value
        and other is not None
        and other.shape is not None
        and other.shape.rank() == out.rank()
        for other in user.inputs
    )


def is_array(value: ir.Value | None, numbers: tuple[int, ...]) -> bool:
    """Whether `value` is the constant vector `numbers`."""
    array = constant(value)
    return array is not None and array.shape == (len(numbers),) and array.tolist() == list(numbers)


class _Compiler:
    """Writes the matcher of one spelling as Python source."""

    _sources = itertools.count()

    def __init__(self, name: str, root: PatternNode, wanted: list[str]) -> None:
        self.name, self.root, self.wanted = name, root, wanted
        self.lines: list[str] = []
        self.bound: dict[str, str] = {}
        self.nodes: dict[int, str] = {}
        self.reads: dict[str, int] = {}
        self.interior: list[tuple[PatternNode, str]] = []
        self.fresh = itertools.count()

    def function(self) -> Callable[[ir.Node], tuple[Any, ...] | None]:
        self._node(self.root, "N")
        self._check_uses()
        arguments = "".join(f"{self.bound[name]}, " for name in self.wanted)
        source = "\n".join(["def find(N):", *self.lines, f" return ({arguments})"])
        # Registered with linecache so that a traceback through a matcher shows its line.
        filename = f"<matcher {next(self._sources)} of {self.name}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        scope: dict[str, Any] = {
            "inf": np.inf,  # how repr writes the number
            "is_number": is_number,
            "is_array": is_array,
            "attribute": attribute,
        }
        exec(compile(source, filename, "exec"), scope)  # noqa: S102 - our own generated source
        find: Callable[[ir.Node], tuple[Any, ...] | None] = scope["find"]
        return find

    def _require(self, condition: str) -> None:
        self.lines.append(f" if not ({condition}): return None")

    def _node(self, node: PatternNode, expression: str) -> None:
        self.nodes[node.key] = expression
        inputs = f"i{next(self.fresh)}"
        self.lines.append(f" {inputs} = {expression}.inputs")
        count = len(node.inputs)
        self._require(f"len({inputs}) {'>=' if node.is_open else '=='} {count}")
        if node.outputs > 1:
            self._require(f"len({expression}.outputs) == {node.outputs}")
        for name, value in node.attributes:
            default = default_attribute(node.domain, node.op_type, name)
            self._require(f"attribute({expression}, {name!r}, {default!r}) == {value!r}")
        for name in node.names:
            self.bound[name] = f"{expression}.outputs[0]"
        # Cheap tests first: literals and repeated variables before descending into producers.
        order = sorted(enumerate(node.inputs), key=lambda p: _is_operator(p[1]))
        for position, value in order:
            self._value(value, f"{inputs}[{position}]", expression)

    def _value(self, value: Any, expression: str, user: str) -> None:
        if value is None:
            self._require(f"{expression} is None")
        elif isinstance(value, list | tuple):
            self._require(f"is_array({expression}, {tuple(value)!r})")
        elif not isinstance(value, Sym):
            self._require(f"is_number({expression}, {value!r}, {user})")
        elif value.node is not None:
            self._operator(value, value.node, expression)
        elif value.name in self.bound:
            self._require(f"{expression} is {self.bound[value.name]}")
        else:
            local = f"v{next(self.fresh)}"
            self.lines.append(f" {local} = {expression}")
            self._require(f"{local} is not None")
            self.bound[value.name] = local

    def _operator(self, value: Sym, node: PatternNode, expression: str) -> None:
        local = f"v{next(self.fresh)}"
        self.lines.append(f" {local} = {expression}")
        if node.key in self.nodes:
            self._require(f"{local} is {self.nodes[node.key]}.outputs[{value.index}]")
            self.reads[self.nodes[node.key]] += 1
            return
        producer = f"n{next(self.fresh)}"
        self._require(f"{local} is not None")
        self.lines.append(f" {producer} = {local}.producer()")
        self._require(
            f"{producer} is not None and {producer}.op_type == {node.op_type!r}"
            f" and {producer}.domain == {node.domain!r} and {producer}.graph is N.graph"
        )
        if node.outputs > 1:
            self._require(f"{local}.index() == {value.index}")
        self.reads[producer] = 1
        self.interior.append((node, producer))
        self._node(node, producer)

    def _check_uses(self) -> None:
        """An interior node must be used by the match alone, or it would be computed twice."""
        for node, producer in self.interior:
            if node.shared:
                continue
            output = f"{producer}.outputs[0]"
            self._require(
                f"len({output}.uses()) == {self.reads[producer]} and not {output}.is_graph_output()"
                if node.outputs == 1
                else f"sum(len(o.uses()) for o in {producer}.outputs) == {self.reads[producer]}"
                f" and not any(o.is_graph_output() for o in {producer}.outputs)"
            )


def _is_operator(value: Any) -> bool:
    return isinstance(value, Sym) and value.node is not None
