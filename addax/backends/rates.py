"""How fast processors multiply by weights of each form: a table, and what it predicts.

A layer takes as long as the slower of two: its weights come from memory, or its products are
computed. The figures are of one thread of a server processor of 2023; another processor with the
same instructions differs by a factor of two or so, most of all in how fast its memory is. They say
which of two formats is faster and by how much, not how long a model takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from addax.backends.ort.sources import paths_of
from addax.backends.target import Target
from addax.backends.targets import TARGETS

FLOAT = "fp32"  # the form of weights that are no codes


@dataclass(frozen=True)
class Rates:
    """What one thread does with one instruction set.

    Attributes:
        stream: Bytes of weights a second that come from memory.
        products: By form, multiplications a second of the kernel for few rows of activations, and
            of that for many.
        call: Seconds that a layer takes whatever its size.
    """

    stream: float
    products: Mapping[str, tuple[float, float]]
    call: float


RATES: Mapping[str, Rates] = {
    "avx512": Rates(
        stream=30e9,
        products={
            FLOAT: (15e9, 45e9),
            "codebook4": (60e9, 180e9),
            "codebook2": (60e9, 180e9),
            "binary1": (240e9, 180e9),
            "binary2": (120e9, 180e9),
            "binary3": (80e9, 180e9),
            "binary4": (60e9, 180e9),
            "int8": (120e9, 180e9),
        },
        call=2e-6,
    ),
}
"""By instruction set."""


def predict(isa: str, form: str, rows: int, products: int, stored: int) -> float | None:
    """Microseconds that a layer takes on one thread; None where no rate is known.

    Args:
        isa: The instruction set.
        form: Of its weights: `FLOAT`, or a key of `addax.backends.ort.FORMS`.
        rows: Of its input.
        products: Of a row: N K.
        stored: Bytes of its weights.
    """
    rates = RATES.get(isa)
    if rates is None or form not in rates.products:
        return None
    few, many = rates.products[form]
    rate = few if rows < _many_from(isa, form) else many
    return 1e6 * (max(stored / rates.stream, rows * products / rate) + rates.call)


def _many_from(isa: str, form: str) -> int:
    """So many rows are computed by the kernel for many rows; float weights take those of int8."""
    wanted = "int8" if form == FLOAT else form
    sets = {each.name: each for target in TARGETS.values() for each in target.sets}
    paths = paths_of(Target("", sets=(sets[isa],)))
    return next(path.many_from for path in paths if path.form == wanted)
