"""Python's cyclic garbage collector, paused while a graph is built or written.

A graph is one large web of cycles that all stay alive: each collection walks it in vain, and
that walk is the only part of import and export that grows faster than the graph.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Hold off automatic collection inside the block; leaves a collector that was off, off."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
