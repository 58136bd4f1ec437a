"""How the activations of a layer are rounded: as they come, or by a quantizer known beforehand."""

from dataclasses import dataclass

import numpy as np

from addax.passes._int8 import by_tensor, by_token
from addax.passes._integer.quantizers import Quantizer


@dataclass(frozen=True, eq=False)
class Inputs:
    """Of one layer.

    Attributes:
        by_rows: Whether the target has a kernel, which takes a scale for each row where there is
            no quantizer.
        quantizer: None where activations are rounded as they come.
    """

    by_rows: bool
    quantizer: Quantizer | None = None

    def rounded(self, rows: np.ndarray) -> np.ndarray:
        """What is left of rows [M, K]."""
        if self.quantizer is not None:
            return self.quantizer.decoded(rows)
        return (by_token if self.by_rows else by_tensor)(rows)

    @property
    def path(self) -> str:
        """The code path, in words."""
        if self.quantizer is None:
            return (
                "a scale for each row"
                if self.by_rows
                else "one scale for a tensor, DynamicQuantizeMatMul"
            )
        kind = self.quantizer.kind
        if self.by_rows:
            return f"{kind}, StaticInt8MatMul"
        return f"{kind}, QuantizeLinear and MatMulIntegerToFloat"
