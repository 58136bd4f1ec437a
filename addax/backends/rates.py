"""How fast processors multiply by weights of each form: a table, and what it predicts.

A layer takes as long as the slowest of three: its weights come from memory, they are decoded, or
their products are summed. The figures are of one thread of one server processor; another one with
the same instructions may be twice as fast or slow, most of all in how its memory is. They say which
of two formats is faster and about how much, not how long a model takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from addax.backends.ort.sources import paths_of
from addax.backends.target import Target
from addax.backends.targets import TARGETS

FLOAT = "fp32"  # the form of weights that are no codes
DYNAMIC = "dynamic-int8"  # that of ONNX Runtime's own DynamicQuantizeMatMul


@dataclass(frozen=True)
class Rate:
    """What one thread does with weights of one form that are at hand.

    Attributes:
        weights: Weights a second that are read and decoded, for one row or a few.
        few: Products a second, with the kernel for few rows of activations.
        many: Products a second, with the kernel for many rows.
    """

    weights: float
    few: float
    many: float


@dataclass(frozen=True)
class Rates:
    """What one thread does with one instruction set.

    Attributes:
        stream: Bytes a second that come from memory.
        forms: The rate of each form.
        call: Seconds that a layer takes whatever its size.
    """

    stream: float
    forms: Mapping[str, Rate]
    call: float


RATES: Mapping[str, Rates] = {
    "avx512": Rates(
        stream=30e9,
        forms={
            FLOAT: Rate(18e9, 45e9, 45e9),
            DYNAMIC: Rate(54e9, 100e9, 160e9),
            "codebook4": Rate(57e9, 175e9, 160e9),
            "codebook2": Rate(62e9, 175e9, 160e9),
            "binary1": Rate(100e9, 270e9, 170e9),
            "binary2": Rate(90e9, 135e9, 165e9),
            "binary3": Rate(60e9, 105e9, 160e9),
            "binary4": Rate(55e9, 83e9, 155e9),
            "int8": Rate(54e9, 160e9, 160e9),
        },
        call=2e-6,
    ),
}
"""By instruction set; there is no prediction for those that are not here."""


def predict(isa: str, form: str, rows: int, weights: int, stored: int) -> float | None:
    """Microseconds that a layer takes on one thread; None where no rate is known.

    Args:
        isa: The instruction set.
        form: Of its weights: `FLOAT`, `DYNAMIC`, or a key of `addax.backends.ort.FORMS`.
        rows: Of its input.
        weights: How many it has: N K.
        stored: Bytes that they take.
    """
    rates = RATES.get(isa)
    if rates is None or form not in rates.forms:
        return None
    rate = rates.forms[form]
    products = rows * weights / (rate.few if rows < _many_from(isa, form) else rate.many)
    return 1e6 * (max(stored / rates.stream, weights / rate.weights, products) + rates.call)


def _many_from(isa: str, form: str) -> int:
    """So many rows are computed by the kernel for many rows; other weights take those of int8."""
    wanted = "int8" if form in (FLOAT, DYNAMIC) else form
    sets = {each.name: each for target in TARGETS.values() for each in target.sets}
    paths = paths_of(Target("", sets=(sets[isa],)))
    return next(path.many_from for path in paths if path.form == wanted)
