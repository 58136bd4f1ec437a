"""Second moments of the rows that layers read, one group of layers after another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.ir.model import clone
from addax.ir.statistics import Calibration, Observer, SecondMoments, observe_second_moments
from addax.passes._shift.sites import Site

ENOUGH = 64  # samples, of which some can be held out
_HELD_OUT = 8  # one sample in so many

Pair = tuple[SecondMoments, SecondMoments]


class Moments:
    """Second moments of rows, observed in the order in which the model computes them.

    Args:
        model: Rewritten meanwhile, behind what has been observed.
        calibration: Real inputs.
        sequential: Whether rows are those that the layers before leave when they are codes, beside
            what they were at first; otherwise they are those of the model as it is now.
    """

    def __init__(self, model: ir.Model, calibration: Calibration, *, sequential: bool) -> None:
        self._calibration = calibration
        self._first = clone(model)
        self._originals = _values(self._first)
        self._now = model if sequential else None
        self._walk_first = calibration.walk(self._first)
        self._walk_now = calibration.walk(model) if sequential else None
        self._held_out = _HELD_OUT if calibration.samples >= ENOUGH else None

    def of(self, sites: Sequence[Site]) -> Pair:
        """Those to fit on and held-out ones (of no rows if there are few samples)."""
        # Nodes that share weights lie ahead of each other, which a walk cannot show.
        alone = len(sites) == 1
        first: Observer = self._walk_first if alone else _Direct(self._calibration, self._first)
        originals = [(first, self._originals[str(site.x.name)]) for site in sites]
        rows_of = sites[0].view.rows
        if self._now is None or self._walk_now is None:
            return observe_second_moments(originals, rows_of, held_out=self._held_out)
        now: Observer = self._walk_now if alone else _Direct(self._calibration, self._now)
        return observe_second_moments(
            [(now, site.x) for site in sites],
            rows_of,
            originals=originals,
            held_out=self._held_out,
        )


@dataclass(frozen=True)
class _Direct:
    """Observes from the inputs each time."""

    calibration: Calibration
    model: ir.Model

    def sizes(self) -> tuple[int, ...]:
        return self.calibration.sizes()

    def observe(self, values: Sequence[ir.Value]) -> Iterator[tuple[np.ndarray, ...]]:
        return self.calibration.observe(self.model, values)


def _values(model: ir.Model) -> dict[str, ir.Value]:
    made = [v for node in model.graph for v in node.outputs]
    return {str(v.name): v for v in (*model.graph.inputs, *made)}
