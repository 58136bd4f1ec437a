"""Rules in the format of onnxscript's rewriter as rules of addax.

    from onnxscript.rewriter.rules.common import fuse_successive_relu_rule
    rules = from_onnxscript([fuse_successive_relu_rule])

They match and check as they do there. What they make goes through addax's builder: constants are
folded in float64, a declined match has its reason in the report, and `addax.testing.check_rule`
tests the laws. Rules that replace several outputs at once, or make functions, are refused.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRule, RewriteRuleClassBase, RewriteRuleSet

from addax.errors import InputError, UnsupportedOpError
from addax.ir.rule import EveryNode, Exact, Op, Rule, decline


def from_onnxscript(
    rules: Iterable[RewriteRule | RewriteRuleClassBase] | RewriteRuleSet,
    *,
    family: str = "onnxscript",
    exact: Exact = Exact.REASSOCIATED,
    commute: bool = False,
) -> tuple[Rule, ...]:
    """Rules of addax that do what rules of onnxscript do.

    Args:
        rules: Rules, or a set of them, of `onnxscript.rewriter`.
        family: The part of their names before the slash.
        exact: What they promise; onnxscript's rules do not say.
        commute: Whether they match with the operands of Add and Mul in either order.

    Raises:
        InputError: If one of them is no such rule.
        UnsupportedOpError: If one replaces several outputs at once, or makes functions.
    """
    found: list[Rule] = []
    for given in rules.rules if isinstance(rules, RewriteRuleSet) else rules:
        rule: Any = given
        if isinstance(given, RewriteRuleClassBase):
            rule = given.rule()  # type: ignore[no-untyped-call]
        if not isinstance(rule, RewriteRule):
            raise InputError(
                f"expected rules of onnxscript.rewriter, got {type(given).__module__}."
                f"{type(given).__qualname__}: {given!r}"
            )
        pattern = rule._target_pattern  # noqa: SLF001 - there is no public way to it
        if pattern.num_outputs != 1 or rule.as_function:
            raise UnsupportedOpError(
                f"the rule {rule} of onnxscript replaces {pattern.num_outputs} outputs"
                f"{', by a function' if rule.as_function else ''}: expected one output, and nodes"
            )
        name = f"{family}/{_kebab(str(rule))}"
        taken = sum(other.name.rstrip("0123456789-") == name for other in found)
        spellings = rule.commute() if commute else [rule]
        found.append(_adapted(f"{name}-{taken + 1}" if taken else name, spellings, exact))
    return tuple(found)


def _kebab(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()).strip(
        "-"
    )


def _adapted(name: str, spellings: Iterable[RewriteRule], exact: Exact) -> Rule:
    spellings = tuple(spellings)
    roots = [spelling._target_pattern.output_node for spelling in spellings]  # noqa: SLF001
    kinds = {(node.op_identifier() or ("", "", ""))[:2] for node in roots}

    def may_match(node: ir.Node) -> bool:
        return ("", "") in kinds or (node.domain, node.op_type) in kinds

    def build(op: Op) -> ir.Value | None:
        reason = "its pattern does not match"
        for spelling in spellings:
            made = _replacement(spelling, op)
            if isinstance(made, ir.Value):
                return made
            reason = made or reason
        return decline(reason, *op.root.outputs)

    build.__doc__ = f"{spellings[0]}, a rule of onnxscript."
    return Rule(name, (EveryNode(may_match),), build, exact, f"onnxscript:{spellings[0]}")


def _replacement(rule: RewriteRule, op: Op) -> ir.Value | str | None:
    """What the rule makes of the root; the reason if it does not; None if it does not match."""
    node: ir.Node = op.root
    graph: Any = node.graph
    home: Any = ir.Model(graph, ir_version=10) if isinstance(graph, ir.Graph) else None
    refusals: Any = _Refusals()
    before, after = rule.graph_pre_visitor, rule.graph_post_visitor
    if before is not None:
        before()
    try:
        match = rule.match(
            home, graph, node, check_nodes_are_removable=rule.remove_nodes, tracer=refusals
        )
        if match:
            return _Context(op).replaced(rule, match.bindings)
        reason: str | None = refusals.reason
        return reason
    finally:
        if after is not None:
            after()


class _Refusals:
    """Takes the place of onnxscript's tracer: the reason of a condition that does not hold."""

    reason: str | None = None

    def log(self, rule: Any, graph: Any, node: Any, match: Any, status: Any) -> None:
        if status.name == "CONDITION_FAILED":
            self.reason = match.reason or "its condition does not hold"


class _Context:
    """The `op` of a replacement function of onnxscript, which builds with addax's builder."""

    def __init__(self, op: Op) -> None:
        self._op = op

    def replaced(self, rule: RewriteRule, bindings: Mapping[str, Any]) -> ir.Value | str:
        function = rule._replacement_pattern._function  # noqa: SLF001 - there is no public way
        made = function(self, **bindings)
        if isinstance(made, MatchResult):
            return made.reason or "nothing to do"
        if isinstance(made, list | tuple):
            (made,) = made
        return made if isinstance(made, ir.Value) else "nothing to do"

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        def make(
            *inputs: Any, _domain: str = "", _outputs: Any = 1, **attributes: Any
        ) -> ir.Value | tuple[ir.Value, ...]:
            for option in ("_version", "_name", "_metadata_props"):
                attributes.pop(option, None)
            op = self._op.domain(_domain) if _domain else self._op
            count = _outputs if isinstance(_outputs, int) else len(_outputs)
            made: ir.Value | tuple[ir.Value, ...]
            made = getattr(op, op_type)(*inputs, _outputs=count, **attributes)
            return made

        return make

    def op(self, op_type: str, *inputs: Any, **attributes: Any) -> Any:
        return getattr(self, op_type)(*inputs, **attributes)

    def initializer(self, tensor: ir.TensorProtocol, name: str | None = None) -> ir.Value:
        return self._op.initializer(np.asarray(tensor.numpy()), name or tensor.name or "constant")
