"""From `optimize(budget=...)` to a pipeline: what the options mean, and who plans with what."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from addax.delivery import Delivery
from addax.errors import OptionError
from addax.ir.model import clone
from addax.ir.statistics import CALIBRATION, EXECUTOR, TELL
from addax.laboratory import HostLaboratory
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.passes.choices import FAMILIES, exact_steps
from addax.planner import Budget, Planner, PlanRecord

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
            if step.family.name not in FAMILIES:
                raise OptionError(
                    f"budget= chooses layer by layer among {', '.join(FAMILIES)}; "
                    f"allow={step.family.name!r} is nothing that it can choose: leave one out"
                )
            families[step.family.name] = dict(step.options)
        return Asked(budget, families or {name: {} for name in FAMILIES})

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
        exact = clone(model)
        run_pipeline(exact, Pipeline(exact_steps()))
        planner = Planner(
            exact, self.budget, lab, families=tuple(self.families), options=self.families, tell=tell
        )
        made = planner.plan()
        facts |= made.facts
        return Pipeline((*exact_steps(), *made.steps)), made.record
