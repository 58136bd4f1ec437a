"""From what was chosen to a pipeline, and to a model."""

from collections.abc import Iterable, Mapping
from typing import Any

import onnx_ir as ir

from addax.ir.model import clone
from addax.passes._family import families
from addax.passes._pipeline import Pipeline, Step, run_pipeline
from addax.passes.choices._linear import CODES, INT8
from addax.passes.choices._offer import Offer, Place

FAMILIES = (INT8, CODES)
"""The families that offer something at each place, and so can be chosen among."""
FOLD = "layernorm-reparam"
"""The family that changes no function, but how well places can be rounded: all norms, or none."""

Chosen = Iterable[tuple[Place, Offer]]


def exact_steps() -> tuple[Step, ...]:
    """What runs before anything is chosen."""
    return Pipeline.exact().steps


def fold_steps(options: Mapping[str, Any]) -> tuple[Step, ...]:
    """The fold of norms, which comes before anything is chosen."""
    return (Step(families()[FOLD], tuple(options.items())),)


def steps_for(chosen: Chosen, options: Mapping[str, Mapping[str, Any]]) -> tuple[Step, ...]:
    """The families with the layers that each shall treat; those that treat none are left out.

    Codes come first: they are fitted on activations that no integer has rounded, so that their
    fits are those that were chosen by.

    Args:
        chosen: One offer for each place.
        options: Of families, as `allow=` gives them.
    """
    offers = [(place.name, offer) for place, offer in chosen]
    formats = tuple((name, o.label) for name, o in offers if o.family == CODES)
    integers = tuple(name for name, offer in offers if offer.family == INT8)
    steps = []
    if formats:
        given = {"formats": formats, "sequential": False} | dict(options.get(CODES, {}))
        steps.append(Step(families()[CODES], tuple(given.items())))
    if integers:
        given = {"only": integers, "convolutions": True} | dict(options.get(INT8, {}))
        steps.append(Step(families()[INT8], tuple(given.items())))
    return tuple(steps)


def realized(
    model: ir.Model, steps: Iterable[Step], facts: Mapping[str, Any]
) -> tuple[ir.Model, dict[str, Any]]:
    """A copy of a model that these steps were done to, and the facts that came of it."""
    made, known = clone(model), dict(facts)
    run_pipeline(made, Pipeline((*exact_steps(), *steps)), facts=known)
    return made, known
