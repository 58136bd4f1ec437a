"""How long layers take on a target: measured on this machine, shipped, or worked out.

`addax measure` fills the table of this machine. Without it, the rates that addax ships for the
instruction set stand in; for sets that have none, they are worked out from the width of registers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from addax.backends.rates import RATES, predict
from addax.backends.targets import TARGETS
from addax.errors import BuildError

HERE = ("host", "portable", "tvm")


@dataclass(frozen=True)
class CostTable:
    """Seconds of linear layers on one thread.

    Attributes:
        isa: The instruction set.
        about: Where the figures come from, in words.
        share: Of the speed of the instruction set that the rates are of: for sets without any.
        rates_of: The instruction set that the rates are of.
    """

    isa: str
    about: str
    rates_of: str
    share: float = 1.0

    def seconds(self, form: str, rows: int, weights: int, stored: int) -> float:
        """Of one layer; infinite for a form that is not known."""
        found = predict(self.rates_of, form, rows, weights, stored)
        return math.inf if found is None else 1e-6 * found / self.share


def cost_table(target: str) -> CostTable | None:
    """The table of a target; None for GPUs, about which nothing is known."""
    name = target.partition("{")[0]
    if name in HERE:
        isa = _here()
    elif name in TARGETS and TARGETS[name].sets:
        isa = TARGETS[name].sets[0].name
    else:
        return None
    if isa in RATES:
        about = f"rates of one server processor with {isa}, shipped; `addax measure` finds yours"
        return CostTable(isa, about, isa)
    known, share = "avx512", _SHARES.get(isa)
    if share is None:
        return None
    about = (
        f"a model for {isa}: {share:.0%} of what is known of {known}, by the width of its registers"
    )
    return CostTable(isa, about, known, share)


_SHARES: Mapping[str, float] = {
    # Products that one instruction sums, times those that a processor starts in a cycle.
    "avx2": 0.25,
    "neondot": 0.25,
    "neon": 0.1,
    "scalar": 0.02,
    "nomul": 0.01,
}


def _here() -> str:
    from addax.runtime.kernels import best_target

    try:
        return best_target().sets[0].name
    except BuildError:
        return "avx2"
