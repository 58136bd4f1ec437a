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
        sequential: Whether rows are those that the layers before leave when they are codes;
            otherwise they are those of the model as it is now.
    """

    def __init__(self, model: ir.Model, calibration: Calibration, *, sequential: bool) -> None:
        self._model = model if sequential else clone(model)
        self._originals = {} if sequential else _values(self._model)
        self._calibration = calibration
        self._walk = calibration.walk(self._model)
        self._held_out = _HELD_OUT if calibration.samples >= ENOUGH else None

    def of(self, sites: Sequence[Site]) -> Pair:
        """Those to fit on and held-out ones (of no rows if there are few samples)."""
        if len(sites) == 1:
            return self._observe(self._walk, sites[0])
        # Nodes that share weights lie ahead of each other, which a walk cannot show.
        pairs = [self._observe(_Direct(self._calibration, self._model), site) for site in sites]
        fitting, judging = (SecondMoments(sites[0].size[1]) for _ in range(2))
        for pair in pairs:
            fitting.merge(pair[0])
            judging.merge(pair[1])
        return fitting, judging

    def _observe(self, observer: Observer, site: Site) -> Pair:
        x = self._originals.get(str(site.x.name), site.x)
        return observe_second_moments(observer, x, site.view.rows, held_out=self._held_out)


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
