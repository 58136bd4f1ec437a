"""Which format each layer gets under a budget: an integer program, one choice a layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp

from addax.errors import InputError, OptionError

OBJECTIVES = ("bytes", "error", "latency", "energy")


@dataclass(frozen=True)
class Choice:
    """One way to store a layer.

    Attributes:
        label: Of the format, for example "binary3".
        bytes: Of storage.
        error: What adds up over layers: the squared output error, not its root.
        latency: Seconds; 0 where unknown.
        energy: Joules; 0 where unknown.
    """

    label: str
    bytes: int
    error: float
    latency: float = 0.0
    energy: float = 0.0


class Plan(dict[str, Choice]):
    """The choice for each layer; `reason` says which budget could not be met, if one could not."""

    def __init__(self, choices: Mapping[str, Choice], reason: str = "") -> None:
        super().__init__(choices)
        self.reason = reason

    @property
    def is_feasible(self) -> bool:
        """Whether every budget is met."""
        return not self.reason

    def total(self, quantity: str) -> float:
        """The sum over all layers of "bytes", "error", "latency" or "energy"."""
        return float(sum(getattr(choice, quantity) for choice in self.values()))


def allocate(
    choices: Mapping[str, Sequence[Choice]],
    *,
    max_bytes: float | None = None,
    max_error: float | None = None,
    max_latency: float | None = None,
    max_energy: float | None = None,
    objective: str = "error",
) -> Plan:
    """The choice of each layer that makes the objective least within the budgets.

    Where no choice meets all budgets: the plan whose excess, relative to the budgets, is least,
    and of these the one with the least objective; `Plan.reason` says what it exceeds.

    Raises:
        InputError: A layer has no choice, or a quantity is negative or not finite.
        OptionError: The objective or a budget is none.
    """
    budgets = {
        "bytes": max_bytes,
        "error": max_error,
        "latency": max_latency,
        "energy": max_energy,
    }
    limits = {name: float(limit) for name, limit in budgets.items() if limit is not None}
    _check(choices, limits, objective)
    if not choices:
        return Plan({})
    flat = [choice for options in choices.values() for choice in options]
    costs = {name: np.array([getattr(c, name) for c in flat], float) for name in OBJECTIVES}
    owner = np.repeat(np.arange(len(choices)), [len(options) for options in choices.values()])
    picked = _solve(costs[objective], owner, [(costs[n], limit) for n, limit in limits.items()])
    if picked is not None:
        return Plan(_named(choices, flat, owner, picked))
    picked = _nearest(costs, limits, objective, owner)
    plan = _named(choices, flat, owner, picked)
    return Plan(plan, _reason(costs, limits, picked, owner))


def _solve(
    cost: npt.NDArray[np.float64],
    owner: npt.NDArray[np.intp],
    budgets: Sequence[tuple[npt.NDArray[np.float64], float]],
) -> npt.NDArray[np.intp] | None:
    """The places of the chosen ones, one an owner; None if no choice meets the budgets."""
    one_each = (owner[None, :] == np.arange(owner[-1] + 1)[:, None]).astype(float)
    constraints = [LinearConstraint(one_each, 1, 1)]
    for amounts, limit in budgets:
        unit = max(float(np.abs(amounts).max()), limit, 1e-300)
        constraints.append(LinearConstraint(amounts[None] / unit, -np.inf, limit / unit))
    scale = float(cost.max()) or 1.0
    found = milp(
        cost / scale,
        constraints=constraints,
        integrality=np.ones(len(cost)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        return None
    picked = np.array(
        [np.flatnonzero(owner == o)[np.argmax(found.x[owner == o])] for o in range(owner[-1] + 1)]
    )
    # The solver meets budgets within a tolerance: a plan must meet them.
    fits = all(amounts[picked].sum() <= limit for amounts, limit in budgets)
    return picked if fits else None


def _nearest(
    costs: Mapping[str, npt.NDArray[np.float64]],
    limits: Mapping[str, float],
    objective: str,
    owner: npt.NDArray[np.intp],
) -> npt.NDArray[np.intp]:
    """The choices whose largest relative excess over a budget is least."""
    count, layers = len(owner), int(owner[-1]) + 1
    one_each = (owner[None, :] == np.arange(layers)[:, None]).astype(float)
    one_each = np.hstack([one_each, np.zeros((layers, 1))])
    constraints = [LinearConstraint(one_each, 1, 1)]
    for name, limit in limits.items():
        unit = limit if limit > 0 else max(float(costs[name].max()), 1e-300)
        row = np.append(costs[name] / unit, -1.0)
        constraints.append(LinearConstraint(row[None], -np.inf, limit / unit))
    weight = costs[objective] / (float(costs[objective].sum()) or 1.0)
    found = milp(
        np.append(1e-6 * weight, 1.0),
        constraints=constraints,
        integrality=np.append(np.ones(count), 0.0),
        bounds=Bounds(np.zeros(count + 1), np.append(np.ones(count), np.inf)),
    )
    return np.array(
        [np.flatnonzero(owner == o)[np.argmax(found.x[:count][owner == o])] for o in range(layers)]
    )


def _reason(
    costs: Mapping[str, npt.NDArray[np.float64]],
    limits: Mapping[str, float],
    picked: npt.NDArray[np.intp],
    owner: npt.NDArray[np.intp],
) -> str:
    said = []
    for name, limit in limits.items():
        made = float(costs[name][picked].sum())
        least = sum(float(costs[name][owner == o].min()) for o in range(owner[-1] + 1))
        if made > limit:
            said.append(
                f"{name} of {made:.6g} exceed the budget of {limit:.6g} (the least that the "
                f"choices can reach, whatever the other budgets, is {least:.6g})"
            )
    return "no choice of formats meets the budget: " + "; ".join(said)


def _named(
    choices: Mapping[str, Sequence[Choice]],
    flat: Sequence[Choice],
    owner: npt.NDArray[np.intp],
    picked: npt.NDArray[np.intp],
) -> dict[str, Choice]:
    names = list(choices)
    return {names[owner[place]]: flat[place] for place in picked}


def _check(
    choices: Mapping[str, Sequence[Choice]], limits: Mapping[str, float], objective: str
) -> None:
    if objective not in OBJECTIVES:
        raise OptionError(
            f"expected an objective that is one of {', '.join(OBJECTIVES)}; got {objective!r}"
        )
    for name, limit in limits.items():
        if not limit >= 0:
            raise OptionError(f"expected a budget of {name} that is not negative, got {limit}")
    for layer, options in choices.items():
        if not options:
            raise InputError(f"expected at least one choice for layer {layer!r}, got none")
        for choice in options:
            for name in OBJECTIVES:
                value = getattr(choice, name)
                if not (np.isfinite(value) and value >= 0):
                    raise InputError(
                        f"expected {name} that are finite and not negative, got {value} for "
                        f"{choice.label!r} of layer {layer!r}"
                    )
