"""Checking numbers after each pass: the instrument behind `optimize(check=feeds)`."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from addax.errors import VerificationError
from addax.ir.evaluate import evaluate
from addax.ir.model import clone
from addax.ir.rule import Exact
from addax.ir.tolerance import disagreement
from addax.passes._instrument import Instrument


class CheckEach(Instrument):
    """Compares the model with the original on `feeds` after each pass that changed it.

    The judge computes in float64, so what it sees is the meaning of the graph and not the noise
    of a runtime. What is allowed is what rounding may cost: a forward error analysis of both
    graphs on these feeds (`addax.ir.tolerance`).

    Raises:
        InputError: At once, if the feeds do not fit the model.
        VerificationError: After the first pass that moved an output too far; names the pass.
    """

    def __init__(self, model: ir.Model, feeds: Mapping[str, np.ndarray]) -> None:
        self.original = clone(model)
        self.feeds = dict(feeds)
        evaluate(self.original, self.feeds)

    def after_pass(self, name: str, model: ir.Model, *, changed: bool) -> None:
        if not changed:
            return
        found = disagreement(self.original, model, self.feeds, Exact.REASSOCIATED)
        if found is not None:
            raise VerificationError(
                f"pass {name!r} changed the outputs on the given feeds further than its rules "
                f"promise: {found}"
            )
