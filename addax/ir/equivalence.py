"""Whether two models compute the same function: proved exactly, and judged in numbers.

Algebra     proved:  f = g at random points of a finite field (`addax.ir.proof`)
            judged:  |f(x) - g(x)| within what rounding may do, in float64, at given or drawn x: the
                     forward bound E of both models' own arithmetic (`addax.ir.tolerance`), and no
                     more than their outputs move when their constants are rounded anew at random
Source      Schwartz 1980, Zippel 1979; Higham, Accuracy and Stability of Numerical Algorithms;
            Parker, Monte Carlo Arithmetic

What does not decide is never "equal": outputs without elements, or with nothing but NaN and
infinities, leave the question open. A NaN that only one model has is a difference, the same
infinities and NaN at the same places are none.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from addax.errors import EvaluationError, InputError, UnsupportedOpError
from addax.ir._equivalence.drawing import Drawing
from addax.ir._equivalence.interface import check_interfaces, deterministic
from addax.ir._equivalence.rounding import movement
from addax.ir.evaluate import evaluate
from addax.ir.model import clone
from addax.ir.proof import Proof, prove_equal
from addax.ir.rule import Exact
from addax.ir.shapes import infer_shapes
from addax.ir.tolerance import Margins, judged, outputs

__all__ = ["Equivalence", "compare", "draw_feeds"]

Verdict = Literal["proved", "equal", "different", "undecided"]
Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Equivalence:
    """What a comparison found.

    "proved": the same function over the reals, but for `proof.error_probability`, and equal within
    rounding on all feeds. "equal": within rounding on all feeds. "different": an element of an
    output is further off than rounding may move it; `detail` names it. "undecided": neither.

    `worst` is the largest difference as a share of what rounding may cost there, over `feeds`
    sets of inputs: at most 1 unless the models differ.
    """

    verdict: Verdict
    detail: str
    proof: Proof
    worst: float
    feeds: int

    @property
    def holds(self) -> bool:
        """Whether the models were found to be the same."""
        return self.verdict in {"proved", "equal"}

    def __str__(self) -> str:
        return f"{self.verdict}: {self.detail}"


def compare(
    a: ir.Model,
    b: ir.Model,
    *,
    feeds: Iterable[Feeds] | None = None,
    exact: Exact = Exact.REASSOCIATED,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    draws: int = 3,
) -> Equivalence:
    """Compare two models with the same interface; neither is changed.

    Args:
        a: The reference: its constants are taken as exact, those of `b` as rounded once.
        b: The other one.
        feeds: Sets of inputs by name to judge on; by default they are drawn from the inputs' types.
        exact: BITWISE asks for equal bits, REASSOCIATED for equality within rounding.
        sizes: What named dimensions are; others get small sizes, one for each name.
        seed: Of what is drawn.
        draws: How many sets of inputs are drawn where none are given.

    Raises:
        InputError: The interfaces differ, an output depends on chance, the feeds do not fit, or
            nothing can be drawn for an input.
        EvaluationError: The first model fails on the inputs.
    """
    if exact is Exact.APPROXIMATE:
        raise InputError("an approximation promises no bound to compare within; measure its error")
    check_interfaces(a, b)
    a, b = deterministic(a), deterministic(b)
    proof = prove_equal(a, b, sizes=sizes)
    given = _drawn(a, b, sizes, seed, draws) if feeds is None else list(feeds)
    if not given:
        raise InputError("expected at least one set of inputs to compare on, got none")
    worst, informed, note = 0.0, False, ""
    for fed in given:
        try:
            found = _judged(a, b, fed, exact)
        except UnsupportedOpError as error:
            note = f"not judged in numbers: {error}"
            break
        except EvaluationError as error:
            if not _works(a, fed):
                raise
            detail = f"the second model fails where the first one works: {error}"
            return Equivalence("different", detail, proof, math.inf, len(given))
        if apart := found.disagreement or found.lone_nan:
            return Equivalence("different", str(apart), proof, math.inf, len(given))
        worst, informed = max(worst, found.worst), informed or found.is_informative
    if not note and not informed:
        note = "no output had a finite element on any of the inputs, so nothing was compared"
    return _concluded(proof, note, worst, len(given))


def _judged(a: ir.Model, b: ir.Model, feeds: Feeds, exact: Exact) -> Margins:
    """Compare on one set of inputs."""
    expected, actual, allowed = outputs(a, b, feeds, exact)
    if exact is not Exact.BITWISE:
        moved = movement(a, feeds, expected, 1), movement(b, feeds, actual, 2)
        for name in moved[0].keys() & moved[1].keys():
            worst, (x, y) = allowed[name], (each[name] for each in moved)
            if np.shape(worst) == x.shape == y.shape:
                allowed[name] = np.minimum(worst, _SPREAD * (x + y) + _NOISE * worst)
    return judged(expected, actual, allowed)


_SPREAD = 16.0
"""Rounding seldom moves an element more than 5 standard deviations, or 3 times as far as it was
seen to; a rewrite may round a constant several times."""

_NOISE = 2.0**-29
"""The models are compared in float64, whose own rounding is so much smaller than float32's."""


def _concluded(proof: Proof, note: str, worst: float, count: int) -> Equivalence:
    inputs = f"{count} set{'s' if count > 1 else ''} of inputs"
    if proof.verdict == "proved" and not note:
        detail = f"the same function over the reals, and equal within rounding on {inputs}"
        return Equivalence("proved", detail, proof, worst, count)
    if note:
        if proof.verdict == "proved":
            note = f"the same function over the reals, but {note}"
        return Equivalence("undecided", note, proof, worst, count)
    share = f"differences take up to {worst:.3g} of what rounding may cost"
    detail = f"equal within rounding on {inputs}; {share}; {_unproved(proof)}"
    return Equivalence("equal", detail, proof, worst, count)


def _unproved(proof: Proof) -> str:
    if proof.verdict == "refuted":
        return f"over the reals the functions differ ({proof.detail}), as rounded constants do"
    return f"not proved ({proof.detail})"


def draw_feeds(
    model: ir.Model, seed: int = 0, *, sizes: Mapping[str, int] | None = None
) -> dict[str, np.ndarray]:
    """Inputs for a model, drawn from their types: the same seed gives the same.

    Named dimensions get small sizes, one for each name. Integers that index a dimension stay
    within it; others are 0 or 1.

    Raises:
        InputError: Nothing can be drawn for an input.
    """
    return _drawn(model, model, sizes, seed, 1)[0]


def _drawn(
    a: ir.Model, b: ir.Model, sizes: Mapping[str, int] | None, seed: int, draws: int
) -> Sequence[dict[str, np.ndarray]]:
    """Feeds on which the reference works; sizes are made alike where it fails otherwise."""
    copies = [clone(model) for model in (a, b)]
    for model in copies:
        infer_shapes(model)
    drawing = Drawing(copies, sizes)
    made = []
    for number in range(seed, seed + draws):
        feeds = drawing.feeds(number)
        if not _works(a, feeds):
            feeds = drawing.feeds(number, alike=True)
            evaluate(a, feeds)
        made.append(feeds)
    return made


def _works(model: ir.Model, feeds: Feeds) -> bool:
    try:
        evaluate(model, feeds)
    except EvaluationError:
        return False
    except UnsupportedOpError:
        return True  # which `compare` reports
    return True
