"""The planner: how much error is accepted, or how small or fast a model must be, and what to do.

    made = Planner(model, Budget(max_error=0.02), laboratory, families=("int8",), options={}).plan()
    made.steps      # the families of rewrites, each with the layers that it shall treat
    made.record     # what was chosen where and why, for reports

Between the passes and `addax.optimize`: it imports `ir` and `passes.choices`, never a runtime.
Whatever has to be run or timed is asked of a `Laboratory`, which the caller brings.
"""

from addax.planner.budget import OBJECTIVES, Budget
from addax.planner.laboratory import Laboratory, Verdict
from addax.planner.planning import FORMATS, Planned, Planner
from addax.planner.record import Frontier, PlaceRecord, PlanRecord, Point, Totals

__all__ = [
    "FORMATS",
    "OBJECTIVES",
    "Budget",
    "Frontier",
    "Laboratory",
    "PlaceRecord",
    "PlanRecord",
    "Planned",
    "Planner",
    "Point",
    "Totals",
    "Verdict",
]
