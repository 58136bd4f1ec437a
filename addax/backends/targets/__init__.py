"""Targets: what instructions there are where, and which kernel serves which op.

Nothing here loads TVM; the vocabularies that kernels are built with lie in the files beside it.
"""

import importlib
import platform
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from addax.backends.target import InstructionSet, Target

if TYPE_CHECKING:
    from addax.backends.kernels.vocabulary import Vocabulary

_ANY_NUMBER = 1 << 30
AVX512 = InstructionSet(
    "avx512",
    "x86_avx512:Avx512",
    cpu="x86-64-v4",
    attributes=("+avx512vbmi", "+avx512vnni"),
    requires=("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vnni"),
    # Measured at 8, 16, 32 and 197 rows: decoding pays once eight tokens at a time do not suffice.
    few={
        "codebook4": 32,
        "codebook2": 32,
        "binary1": _ANY_NUMBER,
        "binary2": 12,
        "binary3": 4,
        "binary4": 2,
    },
)
AVX2 = InstructionSet("avx2", "x86_avx2:Avx2", cpu="x86-64-v3", requires=("avx2", "fma"))
SCALAR = InstructionSet("scalar", "scalar:Scalar", cpu="x86-64")
NEON_DOT = InstructionSet(
    "neondot", "arm_neon:NeonDot", cpu="generic", attributes=("+dotprod",), requires=("dotprod",)
)
NEON = InstructionSet("neon", "arm_neon:Neon", cpu="generic")
NO_MULTIPLIER = InstructionSet("nomul", "scalar:NoMultiplier", cpu="")

_X86 = (AVX512, AVX2, SCALAR)
_ARM = (NEON_DOT, NEON)
_SYSTEMS = {"Linux": "linux-gnu", "Darwin": "apple-macosx", "Windows": "windows-msvc"}

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target("android-arm64", "aarch64-linux-android", _ARM),
        Target("ios-arm64", "arm64-apple-ios", _ARM),
        Target("linux-arm64", "aarch64-linux-gnu", _ARM),
        Target("linux-x86_64", "x86_64-linux-gnu", _X86),
        Target("no-multiplier", "", (NO_MULTIPLIER,)),
        Target("portable"),
    )
}


def host() -> Target:
    """This machine: its processor's instruction sets, or none where addax has no kernels for it."""
    machine = platform.machine().lower()
    sets = (
        _X86 if machine in {"x86_64", "amd64"} else _ARM if machine in {"aarch64", "arm64"} else ()
    )
    system = _SYSTEMS.get(platform.system())
    if not sets or system is None:
        return Target("host")
    architecture = "x86_64" if sets is _X86 else "arm64" if sys.platform == "darwin" else "aarch64"
    # Last, for who asks for it by ADDAX_ISA: the papers' arithmetic on this machine.
    return Target("host", f"{architecture}-{system}", (*sets, NO_MULTIPLIER))


def vocabulary(isa: InstructionSet) -> "Vocabulary":
    """The instructions of a set, to build kernels with; needs TVM."""
    module, _, name = isa.vocabulary.partition(":")
    made: Vocabulary = getattr(importlib.import_module(f"{__name__}.{module}"), name)()
    return made
