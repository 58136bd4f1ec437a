"""The formats that a layer's weights may be fitted in, as text and as numbers."""

import re
from dataclasses import dataclass

from addax.errors import OptionError
from addax.ir.numbers import SCALE_SETS, group_for

_TEXT = re.compile(r"([a-z]+)(\d+)(?:\{(.*)\})?")
_BITS = {"binary": (1, 2, 3, 4), "fitted": (2, 4), "powers": (4,), "uniform": (2, 3, 4)}
_TILE = 64


@dataclass(frozen=True)
class Format:
    """How weights are stored: `Format.parse("binary3{scales=apot2}")`.

    Attributes:
        kind: "binary" (planes of signs), or codes into a table that is "fitted" to the layer,
            "powers" of two, or "uniform".
        bits: Of a code; planes, if binary.
        scales: Which whole multiples of a row's float the scale of a group may be: "int8" (any),
            "powers" of two, "apot2" or "apot3" (sums of two or three of them); "real": one float
            for each group (and plane), which no kernel executes.
        zero: "symmetric", or "asymmetric" for a uniform grid with a float zero point for each
            group, which no kernel executes.
    """

    kind: str
    bits: int
    scales: str = "int8"
    zero: str = "symmetric"

    def __post_init__(self) -> None:
        if self.kind not in _BITS or self.bits not in _BITS[self.kind]:
            names = ", ".join(f"{kind}{bits}" for kind, sizes in _BITS.items() for bits in sizes)
            raise OptionError(
                f"expected a format that is one of {names}; got {self.kind}{self.bits}"
            )
        if self.scales not in (*SCALE_SETS, "real"):
            names = ", ".join((*SCALE_SETS, "real"))
            raise OptionError(f"expected scales of {self.kind}{self.bits} to be one of {names}; "
                              f"got {self.scales!r}")  # fmt: skip
        if self.zero not in {"symmetric", "asymmetric"} or (
            self.zero == "asymmetric" and (self.kind, self.scales) != ("uniform", "real")
        ):
            raise OptionError(
                "expected zero to be symmetric, or asymmetric in a uniform format with "
                f"scales=real; got zero={self.zero!r} in {self.kind}{self.bits}"
            )

    @staticmethod
    def parse(text: str) -> "Format":
        """Read a format.

        Raises:
            OptionError: There is no such format, or it has no such option.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise OptionError(
                "expected a format such as fitted4, binary3 or binary2{scales=powers}; "
                f"got {text!r}"
            )
        options: dict[str, str] = {}
        for part in filter(None, (found[3] or "").split(",")):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if name not in {"scales", "zero"} or not equals:
                raise OptionError(
                    f"expected options scales=... or zero=... of a format, got {part!r} in {text!r}"
                )
            options[name] = value
        return Format(found[1], int(found[2]), **options)

    def __str__(self) -> str:
        scales = [f"scales={self.scales}"] if self.scales != "int8" else []
        zero = [f"zero={self.zero}"] if self.zero != "symmetric" else []
        options = ",".join(scales + zero)
        return f"{self.kind}{self.bits}" + (f"{{{options}}}" if options else "")

    @property
    def is_binary(self) -> bool:
        """Whether weights are sums of signs, and not places in a table."""
        return self.kind == "binary"

    @property
    def executable(self) -> bool:
        """Whether an op has a packed layout for it."""
        return self.scales != "real" and (self.is_binary or self.bits != 3)

    def packed_bytes(self, rows: int, columns: int, group: int | None = None) -> int:
        """Bytes of the packed weights [N, K] with all scales, padding included.

        Of a format that has no layout: bytes without padding, and floats of 16 bits for each group.
        """
        group = group or group_for(columns)
        groups, factors = -(-columns // group), self.bits if self.is_binary else 1
        if self.executable:
            padded = -(-rows // _TILE) * _TILE
            table = 0 if self.is_binary else 1 << self.bits
            return padded * groups * (group * self.bits // 8 + factors) + 4 * rows + table
        factors += self.zero == "asymmetric"
        return -(-rows * columns * self.bits // 8) + 2 * rows * groups * factors

    def bits_per_weight(self, rows: int, columns: int, group: int | None = None) -> float:
        """Bits of storage for each weight of a layer [N, K], scales and padding included."""
        return 8 * self.packed_bytes(rows, columns, group) / (rows * columns)
