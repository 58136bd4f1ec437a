"""Python's cyclic garbage collector, paused while a graph is built or written.

A graph is one large web of cycles that all stay alive: each collection walks it in vain, and
that walk is the only part of import and export that grows faster than the graph.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Hold off automatic collection inside the block; leaves a collector that was off, off.

    What the block has made counts as old at once: else the collector would walk it all just
    after.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():  # else someone has frozen objects, to stay so
                gc.freeze()
                gc.unfreeze()
            gc.enable()
