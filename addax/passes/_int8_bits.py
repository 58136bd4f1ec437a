"""How many bits weights and activations have: `bits="w4a4"`, read in one place."""

import re
from dataclasses import dataclass

from addax.errors import OptionError

FEWEST, MOST = 2, 8
"""Bits that the containers of integer layers hold: bytes, of which few bits use a part."""

_FORM = re.compile(r"w(\d+)a(\d+)")


@dataclass(frozen=True)
class Widths:
    """Bits of a weight and of an activation, 2 to 8 each; both lie in bytes."""

    weights: int = 8
    activations: int = 8

    @staticmethod
    def parse(bits: object, family: str = "int8") -> "Widths":
        """Of a text such as "w4a8".

        Raises:
            OptionError: If it is no such text, or asks for bits that no container holds; `family`
                names who was asked.
        """
        found = _FORM.fullmatch(bits) if isinstance(bits, str) else None
        if found is None:
            raise OptionError(
                f"{family}: bits must be a text such as 'w8a8' or 'w4a4', bits of weights and of "
                f"activations; got {bits!r}"
            )
        widths = Widths(*map(int, found.groups()))
        for name, given in (("weights", widths.weights), ("activations", widths.activations)):
            if not FEWEST <= given <= MOST:
                raise OptionError(
                    f"{family}: bits={bits!r} asks for {name} of {given} bits, which no container "
                    f"holds: integer layers have {FEWEST} to {MOST}"
                )
        return widths

    @property
    def is_narrow(self) -> bool:
        """Whether activations have fewer bits than a byte, so that each level counts."""
        return self.activations < MOST

    @property
    def levels(self) -> int:
        """The largest code of an activation: codes are 0 to it."""
        return 2**self.activations - 1

    def __str__(self) -> str:
        return f"w{self.weights}a{self.activations}"
