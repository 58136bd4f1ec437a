"""What code is made for: instruction sets, and the targets that offer them."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class InstructionSet:
    """A vocabulary of instructions, and what a processor must report to run it.

    Attributes:
        name: Short, part of the kernels' symbols: `avx512`.
        vocabulary: `module:Class` of its `Vocabulary`; loaded when kernels are built, since that
            needs TVM.
        cpu: LLVM's name of the least processor.
        attributes: LLVM's names of the features on top of it: "+avx512vnni".
        requires: The same features as the dispatch of the library asks for them: "avx512vnni".
        few: For each op the most tokens that its `few` kernel serves; more go to `many`.
    """

    name: str
    vocabulary: str
    cpu: str
    attributes: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    few: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """Where a model shall run.

    Attributes:
        name: What the caller writes.
        triple: LLVM's architecture, system and format; "" for a target that runs no kernels.
        sets: Instruction sets to build, the best first; the last one runs anywhere.
    """

    name: str
    triple: str = ""
    sets: tuple[InstructionSet, ...] = ()
