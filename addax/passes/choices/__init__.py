"""What approximate families could do at each place of a model, and a model of what was chosen.

    places = find_places(model, asked, facts)       # each with its offers: error, bytes, energy
    steps = steps_for(chosen, options)               # the families with the layers they shall treat
    made = realized(model, steps, facts)

A place is a linear layer. Who chooses is the planner; nothing here knows of
budgets, or of how long anything takes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import onnx_ir as ir

from addax.passes.choices._linear import linear_places
from addax.passes.choices._offer import FLOAT, Asked, Offer, Place
from addax.passes.choices._steps import (
    FAMILIES,
    FOLD,
    exact_steps,
    fold_steps,
    realized,
    steps_for,
)

__all__ = [
    "FAMILIES",
    "FLOAT",
    "FOLD",
    "Asked",
    "Offer",
    "Place",
    "exact_steps",
    "find_places",
    "fold_steps",
    "realized",
    "steps_for",
]


def find_places(model: ir.Model, asked: Asked, facts: Mapping[str, Any]) -> Iterator[Place]:
    """Every place where one of the families could do something, with all that it could do.

    Args:
        model: After its exact rewrites; stays as it is.
        asked: Which families, and what calibration data they are judged by.
        facts: As families get them: who has kernels, who fits, where fits are kept.
    """
    yield from linear_places(model, asked, facts)
