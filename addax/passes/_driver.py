"""The driver: applies a set of rules to a model until none applies anywhere.

Contract: a worklist, so that a rewrite wakes only what it may have changed and the cost is
linear in the number of nodes; a budget whose exhaustion is an error that names the rules in
conflict; fuel that stops quietly, for bisection; deterministic order; every subgraph and
function visited; interface names kept; statistics of each rule.
"""

import time
from collections import Counter, deque

import onnx_ir as ir

from addax.errors import ConvergenceError
from addax.ir.dialect import DOMAIN, install_bodies
from addax.ir.match import Matcher, RuleSet, compile_rule
from addax.ir.model import scopes
from addax.ir.origin import describe
from addax.ir.rewriter import Rewriter, is_read, reads
from addax.ir.rule import Decline, Rule
from addax.passes._instrument import Instrument, Rewrite
from addax.passes._statistics import Statistics

_FEW_USES = 4  # patterns read an interior value at most this often; see `_wake_sharers`
_REMEMBERED = 64  # rewrites named in a ConvergenceError


class Limits:
    """How many rewrites a run may make: a budget that is an error, and fuel that is not."""

    def __init__(self, budget: int, fuel: int | None = None) -> None:
        self.budget, self.fuel = budget, fuel
        self.spent = 0
        self._recent: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)

    @property
    def is_out_of_fuel(self) -> bool:
        """Whether the next rewrite must not happen."""
        return self.fuel is not None and self.spent >= self.fuel

    def spend(self, rule: str, node: ir.Node) -> None:
        """Count a rewrite.

        Raises:
            ConvergenceError: If the budget is used up.
        """
        self.spent += 1
        self._recent.append((rule, node.name or node.op_type))
        if self.spent > self.budget:
            counts = Counter(name for name, _ in self._recent)
            rules = ", ".join(f"{name} ({count}x)" for name, count in counts.most_common())
            raise ConvergenceError(
                f"expected a fixed point within {self.budget} rewrites, but the rules keep "
                f"rewriting; the last {len(self._recent)} rewrites were {rules}, the last one "
                f"at {describe(node)}; one of these rules undoes another or its own work"
            )


class Driver:
    """One run of a rule set over a model. The model is changed in place."""

    def __init__(
        self,
        rewriter: Rewriter,
        rules: RuleSet,
        statistics: Statistics,
        limits: Limits,
        instrument: Instrument | None = None,
    ) -> None:
        self._rewriter, self._rules, self._statistics = rewriter, rules, statistics
        self._limits, self._instrument = limits, instrument
        self._stack: list[ir.Node] = []
        self._waiting: set[ir.Node] = set()
        self._settled: set[ir.Node] = set()

    def run(self, fresh: RuleSet | None = None) -> int:
        """Rewrite to the fixed point; returns the number of rewrites.

        Args:
            fresh: The rules that have not had their fixed point on this model yet, if only some
                have not: nodes that nothing has changed since are offered to these alone.
        """
        start = _all_nodes(self._rewriter.model)
        for node in reversed(start):
            self._push(node)
        self._settled = set(start) if fresh is not None else set()
        return self._work(fresh)

    def resume(self) -> int:
        """Rewrite on from what `rewrite` and `share` woke; returns the number of rewrites."""
        return self._work(None)

    def rewrite(self, rule: Rule, node: ir.Node, *arguments: object) -> bool:
        """Apply a rule at a node that a whole-graph pass chose; whether the graph changed."""
        matcher, *_ = compile_rule(rule)  # one for each order of commuting operands
        return not self._limits.is_out_of_fuel and self._apply(matcher, node, arguments)

    def would_apply(self, rule: Rule, node: ir.Node, *arguments: object) -> bool:
        """Whether `rewrite` would change the graph; nothing is changed, counted or announced."""
        try:
            self._rewriter.drop(self._rewriter.prepare(node, rule.build, arguments))
        except Decline:
            return False
        return True

    def share(self, rule: Rule, old: ir.Value, new: ir.Value) -> bool:
        """Let every reader of the initializer `old` read `new`; whether the graph changed."""
        readers = old.consumers()
        if self._limits.is_out_of_fuel or not readers:
            return False
        self._wake_readers(old)
        self._limits.spend(rule.name, readers[0])
        entry = self._statistics.of(rule)
        entry.tried += 1
        entry.applied += 1
        if self._instrument is not None:
            self._instrument.on_share(rule, old, new)
        self._rewriter.share(old, new)
        return True

    def _work(self, fresh: RuleSet | None) -> int:
        """Offer the waiting nodes to the rules until none is waiting."""
        before = self._limits.spent
        waiting, stack, rules = self._waiting, self._stack, self._rules
        while stack and not self._limits.is_out_of_fuel:
            node = stack.pop()
            waiting.discard(node)
            if self._rewriter.is_erased(node):
                continue
            self._statistics.visits += 1
            if not is_read(node):
                self._erase(node)
                continue
            known = fresh if fresh is not None and node in self._settled else rules
            for matcher in known.at(node):
                arguments = matcher.find(node)
                if arguments is not None and self._apply(matcher, node, arguments):
                    break
        self._rewriter.flush()
        return self._limits.spent - before

    def _push(self, node: ir.Node) -> None:
        self._settled.discard(node)
        if node not in self._waiting:
            self._waiting.add(node)
            self._stack.append(node)

    def _apply(self, matcher: Matcher, node: ir.Node, arguments: tuple[object, ...]) -> bool:
        """Try one match; whether the graph changed."""
        rule = matcher.rule
        entry = self._statistics.of(rule)
        entry.tried += 1
        began = time.perf_counter()
        try:
            if self._instrument is not None:
                self._instrument.on_match(matcher, node)
            replacement = self._rewriter.prepare(node, rule.build, arguments)
            install_bodies(self._rewriter.model, replacement.nodes)
            if self._instrument is not None:
                self._rewriter.flush()
                self._instrument.on_rewrite(Rewrite(matcher, arguments, replacement))
        except Decline as declined:
            entry.decline(declined.reason, node.name or node.op_type)
            if self._instrument is not None:
                self._instrument.on_decline(matcher, node, declined)
            return False
        finally:
            entry.seconds += time.perf_counter() - began
        self._limits.spend(rule.name, node)
        entry.applied += 1
        # Now, since afterwards the new values may have many readers that nothing happened to.
        readers = [reader for value in node.outputs for reader in value.consumers()]
        for value in node.outputs:
            self._wake_readers(value)
        arrivals = self._rewriter.commit(replacement, rule.name)
        if self._instrument is not None:
            self._instrument.after_rewrite(Rewrite(matcher, arguments, replacement), arrivals)
        for arrival in reversed(arrivals):
            self._push(arrival)
        self._learn(readers)
        if not is_read(node):
            self._erase(node)
        return True

    def _learn(self, nodes: list[ir.Node]) -> None:
        """Infer shapes that the readers of new values lacked, and on from there."""
        while nodes:
            node = nodes.pop()
            if self._rewriter.learn(node):
                for value in node.outputs:
                    self._wake_readers(value)
                    nodes += value.consumers()
                self._push(node)

    def _wake_readers(self, value: ir.Value) -> None:
        """Wake every node whose match may change because its readers get another `value`."""
        for node in self._rules.spans.roots_over(value):
            self._push(node)

    def _erase(self, node: ir.Node) -> None:
        """Erase a node that nobody reads, and wake what that may have changed."""
        operands = list(reads(node))
        self._statistics.dead_nodes += 1
        for source in self._rewriter.erase(node):
            self._push(source)
        for value in operands:
            if 0 < len(value.uses()) <= _FEW_USES:
                self._wake_sharers(value)

    def _wake_sharers(self, value: ir.Value) -> None:
        """Wake what may match now that fewer nodes read `value`."""
        for node in value.consumers():
            self._push(node)
        source = value.producer()
        if source is not None:
            for node in self._rules.spans.roots_above(source):
                self._push(node)


def _all_nodes(model: ir.Model) -> list[ir.Node]:
    """Every node but those of the dialect's bodies, which are what its operators mean."""
    own = [scope for scope in scopes(model) if getattr(scope, "domain", "") != DOMAIN]
    return [node for scope in own for node in scope]
