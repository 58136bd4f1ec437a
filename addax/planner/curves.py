"""From offers to numbers that add up: what each choice at each place does to the whole model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from addax.passes.choices import Offer, Place
from addax.passes.fit import Choice
from addax.planner.laboratory import Laboratory

_SMALL = 0.3  # an error of a layer up to which the model's output answers in proportion


@dataclass(frozen=True, eq=False)
class Curve:
    """A place with what each of its offers does to the model.

    Attributes:
        place: Where.
        sensitivity: Error of the model's output for an error of 1 of the place's own.
        choices: One for each offer, in their order; errors squared, for these add up.
    """

    place: Place
    sensitivity: float
    choices: tuple[Choice, ...]

    def offer(self, label: str) -> Offer:
        """The offer with this label."""
        return next(offer for offer in self.place.offers if offer.label == label)


def curves_of(model: ir.Model, places: Sequence[Place], lab: Laboratory) -> list[Curve]:
    """The curve of each place: its offers' own errors times a sensitivity, which is measured.

    A place's own error reaches the output of the model in proportion, and errors of different
    places have nothing to do with each other: so the squares of what reaches it add up. Both are
    approximations, which judging a plan as a whole corrects.
    """
    probes = [_probe(place) for place in places]
    measured = lab.errors(
        model,
        [
            (place.weight, offer.stand_in)
            for place, offer in zip(places, probes, strict=True)
            if offer is not None and offer.stand_in is not None
        ],
    )
    reached = iter(measured)
    curves = []
    for place, probe in zip(places, probes, strict=True):
        sensitivity = 1.0
        if probe is not None:
            sensitivity = next(reached) / max(probe.stand_in_error, 1e-300)
        curves.append(Curve(place, sensitivity, _choices(place, sensitivity, lab)))
    return curves


def _probe(place: Place) -> Offer | None:
    """The offer that a place's sensitivity is measured by: the largest small error."""
    known = [o for o in place.offers if o.stand_in is not None and o.stand_in_error > 0]
    small = [offer for offer in known if offer.stand_in_error <= _SMALL]
    if small:
        return max(small, key=lambda offer: offer.stand_in_error)
    return min(known, key=lambda offer: offer.stand_in_error, default=None)


def _choices(place: Place, sensitivity: float, lab: Laboratory) -> tuple[Choice, ...]:
    weights = place.outputs * place.inputs
    return tuple(
        Choice(
            offer.label,
            offer.bytes,
            (sensitivity * offer.error) ** 2,
            lab.seconds(offer.form, place.rows, weights, offer.bytes) or 0.0,
            offer.joules,
        )
        for offer in place.offers
    )


def predicted_error(picked: Mapping[str, Choice]) -> float:
    """Of the model's output, if nothing but these choices moves it."""
    return math.sqrt(sum(choice.error for choice in picked.values()))
