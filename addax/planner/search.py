"""The integer program: one offer for each place, within the limits, with the least of something."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from addax.errors import BudgetError
from addax.passes.fit import Choice, allocate
from addax.planner.budget import Budget
from addax.planner.curves import Curve, predicted_error
from addax.planner.record import Frontier, Point

Picked = Mapping[str, Choice]

_POINTS = 12  # of a frontier
_SAME = 1e-9  # a relative difference that a solver does not see


@dataclass(frozen=True)
class Rest:
    """What all of the model takes that no choice changes."""

    bytes: int
    seconds: float | None
    joules: float


class Search:
    """Plans for a model.

    Args:
        curves: Of its places.
        rest: What comes beside them.
        budget: Its limits; that of the error may be another one each time.
    """

    def __init__(self, curves: Sequence[Curve], rest: Rest, budget: Budget) -> None:
        self._choices = {curve.place.name: curve.choices for curve in curves}
        self._rest, self._budget = rest, budget
        self._limits = {
            name: None if limit is None else limit - (beside or 0.0)
            for name, limit, beside in (
                ("max_bytes", budget.max_bytes, rest.bytes),
                ("max_latency", budget.max_latency, rest.seconds),
                ("max_energy", budget.max_energy, rest.joules),
            )
        }

    @property
    def largest_error(self) -> float:
        """Of the plan that takes the worst offer everywhere."""
        return math.sqrt(sum(max(c.error for c in each) for each in self._choices.values()))

    def best(self, max_error: float | None) -> Picked:
        """The plan with the least of the objective within the limits, or with the least error.

        Raises:
            BudgetError: There is none; says what can be reached.
        """
        objective = self._budget.objective if max_error is not None else "error"
        if any(limit is not None and limit < 0 for limit in self._limits.values()):
            raise BudgetError(self._reason(max_error))
        found = self._solved(objective, max_error, self._limits)
        if found is None:
            raise BudgetError(self._reason(max_error))
        return found

    def frontier(self, scale: float, *, by_latency: bool) -> Frontier:
        """Plans along the error, with no other limit.

        Args:
            scale: What the errors of plans are measured to be, over what they add up to.
            by_latency: Whether latencies are known; else energy stands for them.
        """
        least = [min((c.error for c in each if c.error > 0), default=0.0)
                 for each in self._choices.values()]  # fmt: skip
        first = math.sqrt(max(min(least, default=0.0), 1e-12))
        last = max(self.largest_error, first)
        steps = [first * (last / first) ** (i / (_POINTS - 1)) for i in range(_POINTS)]
        objective = "latency" if by_latency else "energy"
        kinds = []
        for each in (objective, "bytes"):
            points = [self._point({n: c[0] for n, c in self._choices.items()}, scale)]
            for limit in steps:
                found = self._solved(each, limit, {})
                if found is not None and (point := self._point(found, scale)) != points[-1]:
                    points.append(point)
            kinds.append(tuple(points))
        return Frontier(objective, kinds[0], kinds[1])

    def _solved(
        self, objective: str, max_error: float | None, limits: Mapping[str, float | None]
    ) -> Picked | None:
        squared = None if max_error is None else max_error**2
        found = allocate(self._choices, max_error=squared, objective=objective, **limits)
        if not found.is_feasible or objective == "error":
            return found if found.is_feasible else None
        # Of those that are as good, the one with the least error.
        tight = dict(limits)
        total = found.total(objective) * (1 + _SAME)
        given = tight.get(f"max_{objective}")
        tight[f"max_{objective}"] = total if given is None else min(total, given)
        again = allocate(self._choices, max_error=squared, objective="error", **tight)
        return again if again.is_feasible else found

    def _point(self, picked: Picked, scale: float) -> Point:
        totals = self.totals(picked)
        return Point(
            scale * predicted_error(picked),
            totals.bytes,
            totals.seconds,
            totals.joules,
            dict(Counter(choice.label for choice in picked.values())),
        )

    def totals(self, picked: Picked) -> Rest:
        """What a whole model takes with a plan."""
        beside = self._rest
        return Rest(
            beside.bytes + sum(choice.bytes for choice in picked.values()),
            None
            if beside.seconds is None
            else beside.seconds + sum(choice.latency for choice in picked.values()),
            beside.joules + sum(choice.energy for choice in picked.values()),
        )

    def _reason(self, max_error: float | None) -> str:
        """What the budget asks for, and the least of it that can be reached."""
        budget, said = self._budget, []
        if max_error is not None:
            said.append(f"an error of at most {max_error:.4g}")
        for name, unit, limit, field in (
            ("bytes", "", budget.max_bytes, "bytes"),
            ("latency", " s", budget.max_latency, "seconds"),
            ("energy", " J", budget.max_energy, "joules"),
        ):
            if limit is None:
                continue
            least = {
                place: min(each, key=lambda c, name=name: getattr(c, name))  # type: ignore[misc]
                for place, each in self._choices.items()
            }
            reached = getattr(self.totals(least), field) or 0.0
            said.append(
                f"{name} of at most {limit:.6g}{unit} (the least that the choices reach, whatever "
                f"the other limits, is {reached:.6g}{unit})"
            )
        return (
            f"no plan keeps the budget: expected {' and '.join(said)}; allow more, or more "
            "families of rewrites (allow=)"
        )
