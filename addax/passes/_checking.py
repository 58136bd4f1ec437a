"""Checking numbers after each pass: the instrument behind `optimize(check=feeds)`."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from addax.errors import VerificationError
from addax.ir.evaluate import evaluate
from addax.ir.tolerance import Bound, bounds
from addax.passes._instrument import Instrument, Rewrite
from addax.ir.rule import Exact


class CheckEach(Instrument):
    """Evaluates the model on `feeds` after each pass that changed it.

    The judge computes in float64, so what it sees is the meaning of the graph and not the noise
    of a runtime. The allowed distance is what rounding folded constants may cost, from a forward
    error analysis of the original model; see `addax.ir.tolerance`.

    Raises:
        InputError: At once, if the feeds do not fit the model.
    """

    def __init__(self, model: ir.Model, feeds: Mapping[str, np.ndarray]) -> None:
        self.feeds = dict(feeds)
        self.expected = evaluate(model, self.feeds, precision=np.float64)
'''
