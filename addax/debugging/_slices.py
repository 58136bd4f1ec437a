"""What a rewrite took and what it made, as small models, and a case of the rule."""

from dataclasses import dataclass

import onnx_ir as ir

from addax.errors import AddaxError
from addax.ir.equivalence import compare
from addax.ir.excerpt import excerpt
from addax.ir.match import Matcher
from addax.ir.rewriter import reads
from addax.ir.rule import Rule
from addax.ir.shapes import infer_shapes
from addax.ir.text import parse_text, to_text
from addax.passes._instrument import Instrument, Rewrite
from addax.passes._pipeline import Pipeline, run_pipeline

_STEPS = 3  # how far the surroundings of a rewrite are followed for a case


def name_nodes(model: ir.Model) -> None:
    """Give nodes of the main graph names where they lack one of their own."""
    seen: set[str | None] = {None, ""}
    for position, node in enumerate(model.graph):
        if node.name in seen:
            node.name = f"node_{position}"
        seen.add(node.name)


@dataclass(frozen=True)
class Slices:
    """The model before and after a rewrite, and the names of the nodes that differ."""

    before: ir.Model
    after: ir.Model | None
    taken: frozenset[str]
    made: frozenset[str]

    @classmethod
    def between(cls, before: ir.Model, after: ir.Model) -> "Slices":
        """What is alive in the one model and not in the other."""
        old, new = _alive(before), _alive(after)
        return cls(before, after, frozenset(old.keys() - new.keys()), _changed(old, new))

    @classmethod
    def at(cls, before: ir.Model, node: str) -> "Slices":
        """A rewrite that raised: the node that it was offered."""
        return cls(before, None, frozenset({node}), frozenset())

    @property
    def before_text(self) -> str:
        """What the rewrite took."""
        return _text(self.before, self.taken)

    @property
    def after_text(self) -> str:
        """What it made."""
        return "" if self.after is None else _text(self.after, self.made)

    def case(self, rule: Rule | None, plan: Pipeline | None) -> tuple[str, bool]:
        """The smallest part around the rewrite in which the rule fires, and whether it is wrong."""
        names = self.taken
        text = ""
        for _ in range(_STEPS + 1):
            text = _text(self.before, names)
            fires, wrong = _tried(text, rule, plan)
            if fires:
                return text, wrong
            names = _wider(self.before, names)
        return text, False


def _changed(old: dict[str, ir.Node], new: dict[str, ir.Node]) -> frozenset[str]:
    """Nodes that came, or else those that read something new."""
    arrived = new.keys() - old.keys()
    if arrived:
        return frozenset(arrived)
    names = {name for name, node in new.items() if _inputs(node) != _inputs(old[name])}
    return frozenset(names)


def _inputs(node: ir.Node) -> list[str | None]:
    return [None if value is None else value.name for value in node.inputs]


def _alive(model: ir.Model) -> dict[str, ir.Node]:
    """The nodes of the main graph that an output needs, by name."""
    found: dict[ir.Node, None] = {}
    waiting = [value.producer() for value in model.graph.outputs]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = None
            waiting += [value.producer() for value in reads(node)]
    return {str(node.name): node for node in model.graph if node in found}


def _text(model: ir.Model, names: frozenset[str]) -> str:
    if not names:
        return "(no node)\n"
    try:
        infer_shapes(model)
        return to_text(excerpt(model, lambda node: node.name in names), names="kept")
    except AddaxError as error:
        return f"({', '.join(sorted(names))}: {error})\n"


def _wider(model: ir.Model, names: frozenset[str]) -> frozenset[str]:
    """The nodes and their neighbours."""
    found = set(names)
    for node in model.graph:
        makers = {str(p.name) for p in (v.producer() for v in reads(node)) if p is not None}
        if node.name in names:
            found |= makers
        elif makers & names:
            found.add(str(node.name))
    return frozenset(found & {str(node.name) for node in model.graph})


class _Fired(Instrument):
    def __init__(self, rule: Rule) -> None:
        self.rule, self.seen, self.tried = rule.name, False, False

    def on_match(self, matcher: Matcher, node: ir.Node) -> None:
        self.tried |= matcher.rule.name == self.rule

    def on_rewrite(self, rewrite: Rewrite) -> None:
        self.seen |= rewrite.matcher.rule.name == self.rule

    def on_share(self, rule: Rule, old: ir.Value, new: ir.Value) -> None:
        self.seen |= rule.name == self.rule


def _tried(text: str, rule: Rule | None, plan: Pipeline | None) -> tuple[bool, bool]:
    """Whether the rule fires on the parsed text, and whether its work is wrong there."""
    if rule is None:
        return False, False
    steps = tuple(
        step
        for step in (plan or Pipeline.exact()).steps
        if rule.family == step.family.name or rule in step.family.rules
    )
    fired = _Fired(rule)
    try:
        model = parse_text(text)
        copy = parse_text(text)
    except AddaxError:
        return False, False
    try:
        run_pipeline(copy, Pipeline(steps), instruments=[fired])
    except Exception:  # the rule's own error is the fault that the case is about
        return fired.tried, fired.tried
    return fired.seen, fired.seen and _differ(model, copy)


def _differ(before: ir.Model, after: ir.Model) -> bool:
    try:
        return compare(before, after).verdict == "different"
    except AddaxError:
        return False
