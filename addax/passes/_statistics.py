"""What the driver counts: for each rule tried, applied, declined because, seconds."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from addax.ir.rule import Rule


@dataclass
class RuleStatistics:
    """The history of one rule in one run.

    `declined` maps a reason to the nodes it was given for; a node that is visited twice counts
    once.
    """

    rule: Rule
    tried: int = 0
    applied: int = 0
    seconds: float = 0.0
    declined: dict[str, dict[str, None]] = field(default_factory=dict)

    def decline(self, reason: str, node: str) -> None:
        """Count a refusal of the match at `node`."""
        self.declined.setdefault(reason, {})[node] = None


class Statistics(Mapping[str, RuleStatistics]):
    """The histories of all rules by name, and how often each pass changed something."""

    def __init__(self) -> None:
        self._rules: dict[str, RuleStatistics] = {}
        self.visits = 0
        self.dead_nodes = 0
        self.passes: Counter[str] = Counter()

    def of(self, rule: Rule) -> RuleStatistics:
        """The history of `rule`, begun now if it has none."""
        found = self._rules.get(rule.name)
        if found is None:
            found = self._rules[rule.name] = RuleStatistics(rule)
        return found

    def __getitem__(self, name: str) -> RuleStatistics:
        return self._rules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    @property
    def applied(self) -> int:
        """Rewrites in all."""
        return sum(entry.applied for entry in self._rules.values())
