"""What is fitted, how, and what comes of it. All of it can be sent to another process."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from addax.errors import OptionError
from addax.ir.numbers import (
    BinaryCodes,
    CodebookCodes,
    PackedBinary,
    PackedCodebook,
    pack_binary,
    pack_codebook,
)
from addax.passes.fit._format import Format

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[np.float32]

LAYOUTS = ("blocks", "columns", "rows")


@dataclass(frozen=True)
class FitOptions:
    """How a layer is fitted.

    Attributes:
        layout: Which weights share scales. "rows": a group of columns in one row, which kernels
            execute. For comparison, as ShiftAddLLM has them: "columns" (all rows of one column) and
            "blocks" (8 columns, an eighth of the rows).
        compensate: Whether the error of a weight is made up for by the weights that follow, as
            the inputs' second moments say (OPTQ), and by the descent after it.
        act_order: Whether columns of large inputs are rounded first.
        damping: What is added to the second moments' diagonal, as a share of its mean.
        group: Columns that share scales; None for `addax.ir.numbers.group_for`.
        sweeps: Of the descent over codes and scales after the compensation, at most; it ends when
            one gains little.
        starts: How often compensation and descent are done, each time from the scales of the time
            before; each row keeps its best.
        rounds: Of the alternation that fits the scales of a group.
    """

    layout: str = "rows"
    compensate: bool = True
    act_order: bool = True
    damping: float = 0.03
    group: int | None = None
    sweeps: int = 6
    starts: int = 2
    rounds: int = 12


@dataclass(frozen=True)
class Job:
    """One layer to fit: y = x W^T.

    Attributes:
        name: Of the layer, in messages and results.
        weights: float64[N, K], N outputs and K inputs.
        hessian: float64[K, K], mean of x x^T over calibration data; None for no compensation.
        format: The target.
        options: How.
    """

    name: str
    weights: Floats
    hessian: Floats | None
    format: Format
    options: FitOptions = field(default_factory=FitOptions)


@dataclass(frozen=True)
class Fitted:
    """A fitted layer.

    Attributes:
        name: Of the job.
        format: Of the job.
        codes: With whole multipliers if the format is executable; None in a layout or format that
            no op has.
        weight_error: |W - D| / |W|.
        output_error: sqrt(tr((W - D) H (W - D)^T) / tr(W H W^T)); NaN without second moments.
        bytes: Of the packed weights with their scales.
        seconds: That the fit took.
        notes: What had to be done: dead channels, more damping.
        dense: float64[N, K], the weights of a layout or format that no op has; else None.
    """

    name: str
    format: Format
    codes: CodebookCodes | BinaryCodes | None
    weight_error: float
    output_error: float
    bytes: int
    seconds: float
    notes: tuple[str, ...] = ()
    dense: Floats | None = None

    @property
    def decoded(self) -> Floats:
        """The weights that the codes stand for, float64[N, K]; worked out anew each time."""
        if self.codes is not None:
            return self.codes.decode()
        return np.zeros((0, 0)) if self.dense is None else self.dense

    def packed(self) -> PackedBinary | PackedCodebook:
        """The constants of the layer's op.

        Raises:
            OptionError: No op has the job's format or layout.
        """
        codes = self.codes
        if codes is None or codes.multipliers is None:
            raise OptionError(
                f"layer {self.name!r} in {self.format} has no packed form: it has float scales or "
                "a layout that is for comparison only"
            )
        return pack_binary(codes) if isinstance(codes, BinaryCodes) else pack_codebook(codes)
