"""How fast this machine can read: the roof for a matmul that meets each weight once."""

import ctypes
import mmap
from collections.abc import Callable

import numpy as np

from addax.backends import targets
from addax.backends.tvm.builder import Builder, function
from addax.backends.tvm.objects import llvm, object_file
from addax.runtime.build import build

_LINES = 4  # cache lines a step
_LINE = 64
_AHEAD = 2048
_HUGE = 2 << 20
_MADV_HUGEPAGE = 14


def reader(size: int) -> Callable[[], None]:
    """Reads `size` bytes in huge pages, from front to back, prefetching as the kernels do."""
    read = _library()["addax_read"]
    read.restype = None
    memory = _huge_pages(size)
    out = np.zeros(_LINE, np.uint8)
    steps = size // (_LINES * _LINE)
    arguments = (ctypes.c_void_p(memory.ctypes.data), ctypes.c_void_p(out.ctypes.data), steps)
    return lambda _keep=(memory, out): read(*arguments)


def _huge_pages(size: int) -> np.ndarray:
    # Private: huge pages for shared memory are a setting of their own, mostly off.
    area = mmap.mmap(-1, size + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    whole = np.frombuffer(area, np.uint8)
    first = -whole.ctypes.data % _HUGE
    memory = whole[first : first + size]
    if hasattr(mmap, "MADV_HUGEPAGE"):
        area.madvise(_MADV_HUGEPAGE)
    memory[:] = 1
    return memory


def _body(k: Builder) -> None:
    sums = [k.register("int32", 16) for _ in range(_LINES)]
    words = _LINE // 4
    with k.loop(k["steps"]) as step:
        for line, total in enumerate(sums):
            at = step * (_LINES * words) + line * words
            k.prefetch(k["memory"], at + _AHEAD // 4)
            total.set(total.get() ^ k["memory"].load(at, 16))
    together = sums[0].get() ^ sums[1].get() ^ sums[2].get() ^ sums[3].get()
    k["out"].store(0, together, 16)


def _library() -> ctypes.CDLL:
    isa, target = targets.host().sets[0], targets.host()
    parameters = {"memory": "int32*", "out": "int32*", "steps": "int32"}

    def objects() -> dict[str, bytes]:
        made = function("addax_read", parameters, _body)
        return {"read.o": object_file({"addax_read": made}, llvm(target.triple, isa))}

    return ctypes.CDLL(str(build("read", {}, objects, f"{isa.name} {_LINES} {_AHEAD}")))
