"""The kernels that a grid of threads runs: how each is launched. Needs TVM."""

import functools
from collections.abc import Mapping
from typing import Any

from addax.backends.gpu.launch import Extent, Launch
from addax.backends.kernels import activations, linear
from addax.backends.kernels.catalogue import KERNELS
from addax.backends.kernels.codebook_matmul import MANY
from addax.backends.kernels.vocabulary import TILE
from addax.backends.targets.cuda import Cuda
from addax.backends.targets.gpu import THREADS, Gpu
from addax.backends.tvm.grid import grid_function

_OF_A_CALL = {"r0", "r1", "t0", "t1"}  # the grid says which rows and tiles
_OF_A_TARGET = {"sum", "weights", "sums"}  # weights are signed, memory is the thread's own
_WORDS: Mapping[str, str] = {"int8*": "int32*", "uint8*": "int32*"}


def launches() -> dict[str, Launch]:
    """How to launch each kernel, by its name without `addax_`."""
    made = {}
    for name, kernel in KERNELS.items():
        if kernel.parameters is activations.PARAMETERS:
            grid, threads = (Extent("rows"), Extent("groups")), THREADS
        elif kernel.parameters is linear.PARAMETERS:
            tokens = MANY if name.endswith("_many") else Gpu.tokens
            grid, threads = (Extent("rows", tokens), Extent("columns", TILE)), TILE
        else:
            continue  # its body walks vectors of a processor
        unused = _OF_A_CALL | _OF_A_TARGET | _unused(name)
        parameters = {
            key: _WORDS.get(kind, kind)
            for key, kind in kernel.parameters.items()
            if key not in unused
        }
        shared = 4 * (TILE if "table" in parameters else 0 if "codes" in parameters else THREADS)
        made[name] = Launch(f"addax_{name}", parameters, grid, threads, shared)
    return made


def _unused(name: str) -> set[str]:
    """Parameters that all kernels of a linear layer have and this one has no use for."""
    if name == "int8":
        return {"table", "multipliers"}
    return {"table"} if name.startswith("binary") else set()


def grid_functions(language: str, wanted: Mapping[str, Launch]) -> dict[str, Any]:
    """A PrimFunc for each kernel, by its entry point."""
    isa = Cuda() if language == "cuda" else Gpu()
    return {
        launch.name: grid_function(launch, functools.partial(_body, KERNELS[name].body, isa))
        for name, launch in wanted.items()
    }


def _body(body: Any, isa: Gpu, k: Any) -> None:
    body(k, isa)
