"""Machine code of the kernels, to be linked to something that calls them."""

from dataclasses import dataclass

import onnx_ir as ir

from addax.backends.ort import form_of
from addax.backends.target import InstructionSet

CALLED = frozenset(
    {
        "BinaryLinearAttention",
        "BinaryMatMul",
        "CodebookMatMul",
        "Int8MatMul",
        "LogCodeAttention",
        "RoutedMoE",
    }
)
"""Operators of the dialect that a model in TVM calls kernels for."""


@dataclass(frozen=True)
class KernelCode:
    """Every kernel for one instruction set.

    Attributes:
        isa: The instruction set.
        data: An object file with plain C symbols.
    """

    isa: InstructionSet
    data: bytes

    def code_path(self, node: ir.Node) -> str | None:
        """The instruction set that a node is computed with; None if it needs its body."""
        return self.isa.name if node.op_type in CALLED and form_of(node) is not None else None

    def has(self, node: ir.Node) -> bool:
        """Whether a model in TVM calls a kernel for a node."""
        return self.code_path(node) is not None
