"""Planning: offers, an integer program, a model of what it picks, and held-out samples that judge.

Errors of places are added up as if they had nothing to do with each other. Where the model as a
whole turns out worse than that, the error that plans may add up to is tightened, and where it
turns out better it is loosened, until held-out samples agree with the budget.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from addax.errors import BudgetError, OptionError
from addax.ir.cost import weight_bytes
from addax.ir.statistics import TRIALS
from addax.passes.choices import Asked, Offer, Place, find_places, realized, steps_for
from addax.planner.budget import Budget
from addax.planner.curves import Curve, curves_of, predicted_error
from addax.planner.laboratory import Laboratory, Verdict
from addax.planner.record import PlaceRecord, PlanRecord, Totals
from addax.planner.search import Picked, Rest, Search

FORMATS = ("fitted4", "binary3", "fitted2")
"""Formats of codes that layers are tried in: one for each number of bits."""

_ROUNDS = 6  # plans that are made and judged, at most
_CLOSE = 0.9  # a plan that uses so much of its budget is not improved any more
_MARGIN = 0.97
_APART = 1.08  # errors nearer than that are not told apart


@dataclass(frozen=True)
class Planned:
    """What came of planning.

    Attributes:
        steps: The families that shall run after the exact ones, with their layers.
        model: The model that they make.
        record: For reports.
        facts: What the families need for the same again, without fitting anything anew.
    """

    steps: tuple[Any, ...]
    model: ir.Model
    record: PlanRecord
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class _Candidate:
    """A plan that was made and judged."""

    picked: Picked
    steps: tuple[Any, ...]
    model: ir.Model
    verdict: Verdict

    @property
    def predicted(self) -> float:
        return predicted_error(self.picked)


class Planner:
    """Plans for one model under one budget.

    Args:
        model: After its exact rewrites; stays as it is.
        budget: What is accepted.
        lab: Who runs and times.
        families: That may be used.
        options: Of these, by name, as `allow=` gives them.
        formats: Of codes to try.
        tell: Called with what is done now.
    """

    def __init__(
        self,
        model: ir.Model,
        budget: Budget,
        lab: Laboratory,
        *,
        families: Sequence[str],
        options: Mapping[str, dict[str, Any]],
        formats: Sequence[str] = FORMATS,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._model, self._budget, self._lab = model, budget, lab
        self._options, self._tell = options, tell
        self._asked = Asked(
            tuple(families), tuple(formats), lab.fitting, lab.workload, dict(options), tell
        )
        self._facts = {**lab.facts, TRIALS: self._asked.trials}
        self._made: dict[tuple[tuple[str, str], ...], _Candidate] = {}

    def plan(self) -> Planned:
        """The best plan that holds on held-out samples.

        Raises:
            BudgetError: No plan keeps the budget.
            OptionError: The target has no cost table, and the budget needs one.
        """
        began = time.perf_counter()
        self._require_costs()
        self._tell("planning: what could be done")
        places = list(find_places(self._model, self._asked, self._lab.facts))
        self._tell("planning: how much each place matters")
        self._curves = curves_of(self._model, places, self._lab)
        self._search = Search(self._curves, self._rest(places), self._budget)
        best = self._chosen() if places else self._judged({})
        self._tell("planning: the frontier")
        record = self._record(best, began)
        return Planned(best.steps, best.model, record, self._facts)

    def _require_costs(self) -> None:
        if self._budget.needs_latency and self._lab.seconds("fp32", 1, 1, 4) is None:
            raise OptionError(
                f"the budget needs latencies, and there is no cost table for this target: "
                f"{self._lab.about_costs()}; ask for objective='bytes' or 'energy', or for another "
                "target"
            )

    # --- the loop -------------------------------------------------------------------------------

    def _chosen(self) -> _Candidate:
        budget = self._budget
        if not budget.bounds_error:
            return self._judged(self._search.best(None))
        nothing = self._judged({name: each[0] for name, each in self._all().items()})
        self._require_floor(nothing)
        largest = self._search.largest_error
        first = budget.max_error if budget.max_error is not None else largest / 4
        low, high, limit = 0.0, float("inf"), min(first, largest)
        best: _Candidate | None = None
        for _ in range(_ROUNDS):
            made = self._judged(self._search.best(limit))
            if self._holds(made.verdict):
                best, low = made, max(low, limit)
            else:
                high = min(high, limit)
            if self._is_enough(made, low, high, largest):
                break
            limit = min(max(self._next(made, limit, low, high), _CLOSE * low), largest)
        return best if best is not None else self._last(nothing)

    def _last(self, nothing: _Candidate) -> _Candidate:
        """What is left where no plan held: leaving all as it is, if the limits allow that."""
        self._search.best(0.0)
        return nothing

    def _is_enough(self, made: _Candidate, low: float, high: float, largest: float) -> bool:
        if low >= largest or high / max(low, 1e-300) < _APART:
            return True
        limit = self._budget.max_error
        if limit is None or self._budget.metric is not None:
            return False
        return _CLOSE * limit <= made.verdict.error <= limit

    def _next(self, made: _Candidate, limit: float, low: float, high: float) -> float:
        """The error that the next plan may add up to."""
        between = (low * high) ** 0.5 if low > 0 and high < float("inf") else 0.0
        if self._budget.metric is not None or not made.predicted or not made.verdict.error:
            return between or (limit / 2 if low == 0 else 2 * limit)
        ratio = made.verdict.error / made.predicted
        wanted = _MARGIN * (self._budget.max_error or limit) / ratio
        if low < wanted < high and abs(wanted / limit - 1) > 0.02:
            return wanted
        return between or (limit / 2 if low == 0 else 2 * limit)

    def _holds(self, verdict: Verdict) -> bool:
        budget = self._budget
        if budget.max_error is not None and verdict.error > budget.max_error:
            return False
        return budget.floor is None or (verdict.score is not None and verdict.score >= budget.floor)

    def _require_floor(self, nothing: _Candidate) -> None:
        if not self._holds(nothing.verdict):
            raise BudgetError(
                f"no plan keeps the budget: expected a metric of at least {self._budget.floor:g}, "
                f"and the model as it is has {nothing.verdict.score:g}; lower the floor"
            )

    def _judged(self, picked: Picked) -> _Candidate:
        """A plan as a model, which held-out samples have judged."""
        key = tuple((name, choice.label) for name, choice in picked.items())
        if key not in self._made:
            steps = steps_for(self._offers(picked), self._options)
            self._tell(f"planning: trying plan {len(self._made) + 1}")
            model, _ = realized(self._model, steps, self._facts)
            self._made[key] = _Candidate(picked, steps, model, self._lab.judge(model))
        return self._made[key]

    def _offers(self, picked: Picked) -> list[tuple[Place, Offer]]:
        return [
            (curve.place, curve.offer(picked[curve.place.name].label))
            for curve in self._curves
            if curve.place.name in picked
        ]

    def _all(self) -> dict[str, Any]:
        return {curve.place.name: curve.choices for curve in self._curves}

    # --- what is told ---------------------------------------------------------------------------

    def _rest(self, places: Sequence[Place]) -> Rest:
        """What no choice changes."""
        layers = sum(curve.choices[0].latency for curve in self._curves)
        return Rest(
            weight_bytes(self._model) - sum(place.offers[0].bytes for place in places),
            self._lab.rest(self._model, layers),
            self._lab.joules(self._model) - sum(place.offers[0].joules for place in places),
        )

    def _record(self, best: _Candidate, began: float) -> PlanRecord:
        lab, search = self._lab, self._search
        scale = best.verdict.error / best.predicted if best.predicted else 1.0
        predicted = search.totals(best.picked)
        known = predicted.seconds is not None
        left = {curve.place.name: curve.choices[0] for curve in self._curves}
        nothing = search.totals(left)
        return PlanRecord(
            str(self._budget),
            tuple(self._place(curve, best) for curve in self._curves),
            Totals(0.0, nothing.bytes, lab.timed(self._model), nothing.joules),
            Totals(best.predicted, predicted.bytes, predicted.seconds, predicted.joules),
            Totals(
                best.verdict.error,
                weight_bytes(best.model),
                lab.timed(best.model),
                lab.joules(best.model),
            ),
            best.verdict.score,
            lab.held_out,
            len(self._made),
            time.perf_counter() - began,
            lab.about_costs(),
            search.frontier(scale, by_latency=known),
        )

    def _place(self, curve: Curve, best: _Candidate) -> PlaceRecord:
        place, before = curve.place, curve.choices[0]
        after = best.picked[place.name]
        offer, whole = curve.offer(after.label), best.predicted**2
        known = self._lab.seconds(offer.form, 1, 1, 1) is not None
        return PlaceRecord(
            place.name,
            offer.family,
            offer.label,
            place.outputs,
            place.inputs,
            place.rows,
            offer.error,
            after.error / whole if whole else 0.0,
            curve.sensitivity,
            before.bytes,
            after.bytes,
            1e6 * before.latency if known else None,
            1e6 * after.latency if known else None,
            1e6 * before.energy,
            1e6 * after.energy,
            offer.form,
        )
