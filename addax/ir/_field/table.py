"""What ops mean over the field: the judge's tables with other kernels.

A kernel takes `Field` tensors for whatever is computed from floating values and plain arrays for
integers and conditions that are known; what it returns are residues. `site.oracle` answers for
functions that are not rational.
"""

from dataclasses import dataclass

from addax.ir._field.element import Oracle
from addax.ir._judge.table import Site


@dataclass(frozen=True, slots=True)
class FieldSite(Site):
    """What a kernel may ask: the judge's questions, and the oracles of this evaluation."""

    oracle: Oracle


MOVEMENT: dict[str, tuple[int, ...] | None] = {
    "Compress": (0,), "Concat": None, "ConcatFromSequence": None, "CumSum": (0,),
    "DepthToSpace": (0,), "Expand": (0,), "EyeLike": (0,), "Flatten": (0,), "Gather": (0,),
    "GatherElements": (0,), "GatherND": (0,), "Identity": (0,), "OneHot": (2,), "Pad": (0, 2),
    "ReduceSum": (0,), "Reshape": (0,), "ReverseSequence": (0,), "ScatterElements": (0, 2),
    "ScatterND": (0, 2), "Slice": (0,), "SpaceToDepth": (0,), "Split": (0,),
    "SplitToSequence": (0,), "Squeeze": (0,), "Tile": (0,), "Transpose": (0,), "Trilu": (0,),
    "Unsqueeze": (0,),
}  # fmt: skip
"""Ops whose kernels in the judge move elements or add them up, and so mean the same on residues:
where their data is among the inputs (None: everywhere); indices must be known."""

ADDS = frozenset({"CumSum", "ReduceSum", "ScatterElements", "ScatterND"})
"""Those of them that add elements up."""

OPAQUE = frozenset(
    {
        "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt", "SequenceConstruct",
        "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "Shape", "Size",
    }
)  # fmt: skip
"""Ops that do not look at elements at all."""

SUMS = frozenset(
    {
        "Add", "And", "Cast", "CastLike", "Dropout", "GlobalAveragePool", "Mean", "Neg", "Not",
        "AveragePool", "ReduceMean", "Sub", "Sum", "Where", *MOVEMENT,
    }
)  # fmt: skip
"""Ops whose result has the degree of its operands; that of other ops is their sum and one more."""

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Products of two operands, to which a third one is added."""

FRESH = frozenset(
    {"Abs", "Cos", "Erf", "Exp", "LogSoftmax", "Sin", "Softmax", "Sqrt", "Tanh"}
)  # fmt: skip
"""Ops whose result is what an oracle answered: of degree one whatever the operand's."""

COSTLY = frozenset(
    {
        "Conv", "ConvTranspose", "Einsum", "Erf", "Exp", "Gelu", "Gemm", "LayerNormalization",
        "LogSoftmax", "MatMul", "Sigmoid", "Softmax", "Tanh",
    }
)  # fmt: skip
"""Ops worth looking up what came out when their operands were the same."""
