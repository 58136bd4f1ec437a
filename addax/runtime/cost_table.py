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
from addax.runtime.measured_costs import MeasuredCosts, load

HERE = ("host", "portable", "tvm")
_KNOWN = "avx512"  # the set that the rates of others are shares of
_SHARES: Mapping[str, float] = {
    # Products of bytes that an instruction sums, times those that start in a cycle, over 128.
    "avx2": 0.25,
    "neondot": 0.25,
    "neon": 0.125,
    "scalar": 1 / 64,
    "nomul": 1 / 128,
}


@dataclass(frozen=True)
class CostTable:
    """Seconds of linear layers on one thread.

    Attributes:
        isa: The instruction set.
        about: Where the figures come from, in words.
        rates_of: The instruction set whose rates are taken.
        share: Of these that the instruction set reaches.
        measured: Figures of this machine, which come first.
    """

    isa: str
    about: str
    rates_of: str = _KNOWN
    share: float = 1.0
    measured: MeasuredCosts | None = None

    def seconds(self, form: str, rows: int, weights: int, stored: int) -> float:
        """Of one layer; infinite for a form that is not known."""
        if self.measured is not None:
            found = self.measured.of(form, rows, weights)
            if found is not None:
                return found
        micros = predict(self.rates_of, form, rows, weights, stored)
        return math.inf if micros is None else 1e-6 * micros / self.share


def cost_table(target: str) -> CostTable | None:
    """The table of a target; None for GPUs, about which nothing is known."""
    name = target.partition("{")[0]
    if name in HERE:
        isa = this_set()
        if (measured := load(isa)) is not None:
            return CostTable(isa, measured.about, measured=measured)
    elif name in TARGETS and TARGETS[name].sets:
        isa = TARGETS[name].sets[0].name
    else:
        return None
    if isa in RATES:
        about = f"rates of one server processor with {isa}; `addax measure` finds those of yours"
        return CostTable(isa, about, isa)
    share = _SHARES.get(isa)
    if share is None:
        return None
    about = (
        f"a model for {isa}, not measured: {share:.3g} of the rates of {_KNOWN}, by how many "
        "products an instruction sums"
    )
    return CostTable(isa, about, share=share)


def this_set() -> str:
    """The instruction set of this machine's kernels; the plain one where none can be built."""
    from addax.runtime.kernels import best_target

    try:
        return best_target().sets[0].name
    except BuildError:
        return "scalar"
