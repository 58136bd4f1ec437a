"""From `optimize(budget=...)` to a pipeline: what the options mean, and who plans with what."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from addax.delivery import Delivery
from addax.errors import BudgetError, OptionError
from addax.ir.statistics import CALIBRATION, EXECUTOR, TELL
from addax.laboratory import HostLaboratory
from addax.passes._pipeline import Pipeline
from addax.passes.choices import FAMILIES, FOLD, exact_steps, fold_steps, realized
from addax.planner import Budget, Planned, Planner, PlanRecord

Runner = Callable[[ir.Model, Delivery], Callable[..., Any]]


@dataclass(frozen=True)
class Asked:
    """A budget, and the families that may be chosen among, each with its options."""

    budget: Budget
    families: dict[str, dict[str, Any]]

    @staticmethod
    def of(
        budget: Any,
        calibration: Iterable[Any] | None,
        allow: Sequence[str],
        others: Mapping[str, Any],
    ) -> "Asked":
        """Read the options of `optimize`; without `allow`, all families that can be chosen.

        Args:
            budget: As it was given.
            calibration: Likewise.
            allow: Likewise.
            others: Options by name that have no use beside a budget.

        Raises:
            OptionError: If an option does not fit a budget.
        """
        if not isinstance(budget, Budget):
            raise OptionError(
                f"budget must be an addax.Budget, such as Budget(max_error=0.02); got {budget!r}"
            )
        if given := [name for name, value in others.items() if value is not None]:
            raise OptionError(
                f"{', '.join(given)} has no use beside budget=, which says what is chosen by: "
                "Budget has max_error, max_bytes, max_latency and max_energy"
            )
        if calibration is None:
            raise OptionError(
                "budget= needs calibration=batches of real inputs: three quarters to choose and "
                "fit by, one to judge"
            )
        if isinstance(allow, str):
            raise OptionError(f"allow takes a sequence of names, such as allow=({allow!r},)")
        families: dict[str, dict[str, Any]] = {}
        for step in Pipeline.parse(",".join(allow)).steps:
            if step.family.name not in (*FAMILIES, FOLD):
                raise OptionError(
                    f"budget= chooses layer by layer among {', '.join(FAMILIES)}, and {FOLD} for "
                    "all or none; "
                    f"allow={step.family.name!r} is nothing that it can choose: leave one out"
                )
            families[step.family.name] = dict(step.options)
        if not families.keys() & set(FAMILIES):
            families = {name: {} for name in FAMILIES} | families
        return Asked(budget, families)

    def plan(
        self, model: ir.Model, delivery: Delivery, facts: dict[str, Any], runner: Runner
    ) -> tuple[Pipeline, PlanRecord]:
        """The pipeline that keeps the budget best, and the record of how it was found.

        Args:
            model: As it came; stays as it is.
            delivery: The way to the target.
            facts: For the families; get the calibration samples that were chosen by, and the
                fits that were made.
            runner: Makes of a model what the budget's metric is called with.

        Raises:
            BudgetError: No plan keeps the budget.
            OptionError: The budget needs latencies, and the target has no cost table.
            InputError: There is too little calibration data.
        """
        tell = facts[TELL]
        lab = HostLaboratory(
            model,
            delivery,
            self.budget,
            facts[CALIBRATION],
            runner=runner,
            executor=facts.get(EXECUTOR),
            tell=tell,
        )
        folds: list[tuple[Any, ...]] = [()]
        if FOLD in self.families:
            folds.append(fold_steps(self.families[FOLD]))
        steps, made = self._best(model, lab, folds, tell)
        facts |= made.facts
        return Pipeline((*exact_steps(), *steps, *made.steps)), made.record

    def _best(
        self,
        model: ir.Model,
        lab: HostLaboratory,
        folds: Sequence[tuple[Any, ...]],
        tell: Callable[[str], None],
    ) -> tuple[tuple[Any, ...], Planned]:
        """The best plan over what may come before planning, and that."""
        chosen = tuple(name for name in self.families if name != FOLD)
        found: list[tuple[float, tuple[Any, ...], Planned]] = []
        failed: BudgetError | None = None
        for steps in folds:
            exact, _ = realized(model, steps, lab.facts)
            planner = Planner(
                exact, self.budget, lab, families=chosen, options=self.families, tell=tell
            )
            try:
                made = planner.plan()
            except BudgetError as error:
                failed = error
                continue
            found.append((self._worth(made.record), steps, made))
        if failed is not None and not found:
            raise failed
        _, steps, best = min(found, key=lambda each: each[0])
        if len(folds) > 1:
            told = "folded" if steps else "not folded, which did not serve"
            note = f"planning: norms are {told} ({len(found)} of {len(folds)} ways kept the budget)"
            record = replace(best.record, notes=(*best.record.notes, note))
            best = replace(best, record=record)
        return steps, best

    def _worth(self, record: PlanRecord) -> float:
        """What is made least."""
        if not self.budget.bounds_error:
            return record.measured.error
        totals = record.predicted
        known = {"latency": totals.seconds, "bytes": totals.bytes, "energy": totals.joules}
        return float(known[self.budget.objective] or 0.0)
