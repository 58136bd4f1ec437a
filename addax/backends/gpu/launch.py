"""What a host must know to launch a kernel: parameters in order, blocks, threads."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Extent:
    """Blocks along one axis of a grid: a parameter divided by `per`, rounded up."""

    parameter: str
    per: int = 1


@dataclass(frozen=True)
class Launch:
    """One kernel.

    Attributes:
        name: The entry point in the source.
        parameters: Types by name, in the order of the source; pointers end in `*`. Bytes come as
            `int32*`: four in a word, the first in its low bits.
        grid: Blocks along x and y.
        threads: Threads of a block, all along x.
        shared: Bytes of memory that the threads of a block share; the source declares it.
    """

    name: str
    parameters: Mapping[str, str]
    grid: tuple[Extent, Extent]
    threads: int
    shared: int = 0

    def as_json(self) -> dict[str, Any]:
        """The same in JSON's types."""
        return {
            "name": self.name,
            "parameters": [{"name": name, "type": kind} for name, kind in self.parameters.items()],
            "grid": [asdict(extent) for extent in self.grid],
            "threads": self.threads,
            "shared_bytes": self.shared,
        }
