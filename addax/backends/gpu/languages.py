"""The languages that kernels for GPUs are written in."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """How source in a language lies in files.

    Attributes:
        suffix: The end of a file's name.
        in_one_file: Whether all kernels are one file; else each is its own, since they declare the
            same names.
        numbers: How the parameters that are numbers are given, for people.
    """

    suffix: str
    in_one_file: bool
    numbers: str

    def file_of(self, entry_point: str) -> str:
        """The file that a kernel is in."""
        return f"{'kernels' if self.in_one_file else entry_point}.{self.suffix}"


_IN_ORDER = "int arguments, in the order of the parameters"

LANGUAGES: Mapping[str, Language] = {
    "cuda": Language("cu", True, _IN_ORDER),
    "metal": Language(
        "metal",
        False,
        "pointers are buffers 0, 1, ...; the next buffer is a struct of the numbers in order, "
        "eight bytes for each, the int in the first four",
    ),
    "opencl": Language("cl", True, _IN_ORDER),
    "webgpu": Language(
        "wgsl",
        False,
        "pointers are bindings 0, 1, ... of group 0; the next binding is a uniform buffer of the "
        "numbers in order, i32 each, and then a u32, the blocks along x less one",
    ),
}
