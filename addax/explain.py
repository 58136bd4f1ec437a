"""Why a rule applied here and not there: the guard's reason, or the nearest miss."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from addax.errors import OptionError
from addax.frontend import to_ir
from addax.ir.interpret import nearest
from addax.ir.match import Matcher
from addax.ir.origin import describe
from addax.ir.rule import Decline, Rule
from addax.passes._family import Family, families
from addax.passes._instrument import Instrument, Rewrite
from addax.passes._pipeline import run_pipeline


@dataclass(frozen=True)
class Explanation:
    """What became of one node under one rule: "applied", "declined" or "no match", and why."""

    node: str
    verdict: str
    reason: str


def explain(model: Any, rule_name: str, node_name: str | None = None) -> list[Explanation]:
    """Run the exact pipeline on `model` and follow one rule.

    Args:
        model: Anything that `addax.optimize` takes without example inputs.
        rule_name: As `addax passes` lists it.
        node_name: The node to explain; if None, every node where the rule's pattern matches at
            least two operators deep.

    Raises:
        OptionError: If there is no such rule, or no such node before or after the pipeline.
    """
    rule = _find(rule_name)
    graph = to_ir(model)
    names = {node.name for node in graph.graph.all_nodes()}
    follower = _Follower(rule)
    run_pipeline(graph, instruments=[follower])
    found = dict(follower.found)
    for node in graph.graph.all_nodes():
        name = node.name or node.op_type
        if name in found or (node_name is not None and name != node_name):
            continue
        walk = nearest(rule, node)
        if walk.miss and (node_name is not None or len(walk.nodes) > 1):
            found[name] = Explanation(describe(node), "no match", walk.miss)
    if node_name is None:
        return list(found.values())
    if node_name in found:
        return [found[node_name]]
    if node_name in names:
        return [Explanation(node_name, "no match", "the node was rewritten away by other rules")]
    near = difflib.get_close_matches(node_name, [n for n in names if n], 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise OptionError(f"the model has no node {node_name!r}{hint}")


def describe_passes(found: Iterable[Family]) -> str:
    """Every family with its rules as a page of Markdown, in the order in which they run."""
    lines = [
        "# Passes",
        "",
        "Written by `addax passes --markdown`. Families of one phase run together to a joint "
        "fixed point, each phase after the one before. Those of the phase *approximate*, and "
        "those marked so, run only if they are allowed by name.",
    ]
    for family in found:
        asked = "" if family.is_exact else ", only if allowed"
        lines += [
            "",
            f"## {family.name}",
            "",
            f"{family.summary} Phase: {family.phase.name.lower()}",
        ]
        lines[-1] += f"{asked}."
        if family.rules:
            lines += ["", "| rule | promises | what it does |", "|---|---|---|"]
        for rule in family.rules:
            summary = rule.summary.replace("|", "\\|")
            lines.append(f"| `{rule.name}` | {rule.exact.value} | `{summary}` |")
    return "\n".join(lines)


class _Follower(Instrument):
    """Writes down what one rule does, by the name of the root node."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.found: dict[str, Explanation] = {}

    def on_rewrite(self, rewrite: Rewrite) -> None:
        if rewrite.matcher.rule is self.rule:
            self._note(rewrite.root, "applied", self.rule.summary)

    def on_decline(self, matcher: Matcher, node: ir.Node, decline: Decline) -> None:
        if matcher.rule is self.rule:
            at = [v.name for v in decline.values if v is not None and v.name]
            where = f" (at {', '.join(map(repr, at))})" if at else ""
            self._note(node, "declined", decline.reason + where)

    def _note(self, node: ir.Node, verdict: str, reason: str) -> None:
        self.found[node.name or node.op_type] = Explanation(describe(node), verdict, reason)


def _find(name: str) -> Rule:
    rules = {rule.name: rule for family in families().values() for rule in family.rules}
    if name not in rules:
        near = difflib.get_close_matches(name, rules, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"there is no rule {name!r}{hint}; `addax passes` lists them")
    return rules[name]
