"""Python's cyclic garbage collector, paused while a graph is built or written.

A graph is one large web of cycles that all stay alive: each collection walks it in vain, and
that walk is the only part of import and export that grows faster than the graph.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_MANY = 1_000_000  # objects: about a graph of 50,000 nodes

_unseen = 0  # objects that have become old since a full collection


@contextmanager
def paused() -> Iterator[None]:
    """Hold off automatic collection inside the block; leaves a collector that was off, off.

    What the block has made counts as old at once: else the collector would walk it all just
    after. The collector does not count what ages this way, so once there is much of it, it is
    collected before the next block: graphs that nobody holds any more are cycles.
    """
    global _unseen
    if _unseen > _MANY:
        gc.collect()
        _unseen = 0
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():  # else someone has frozen objects, to stay so
                _unseen += _young()
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def _young() -> int:
    """About how many objects are not old yet: those since, and those of, the last collections."""
    per_collection, per_older_one, _ = gc.get_threshold()
    objects, collections, older_ones = gc.get_count()
    return objects + per_collection * (collections + per_older_one * older_ones)
