"""Real trained networks with the real data they were made for.

    for entry in zoo.entries():
        model = entry.build()
        print(entry.name, zoo.evaluate(entry, zoo.torch_predict(model), limit=100))

The files are no part of the project: `entries()` leaves out what is not on this machine, and
`missing()` says why.
"""

from bench.zoo import cifar_resnet, deit, minilm, mobilenet, prose, super_resolution, tinystories
from bench.zoo._entry import (
    Agreement,
    Batch,
    Entry,
    Predict,
    Sanity,
    compare,
    evaluate,
    torch_predict,
)
from bench.zoo._folder import folder

__all__ = [
    "CATALOGUE",
    "Agreement",
    "Batch",
    "Entry",
    "Predict",
    "Sanity",
    "compare",
    "entries",
    "entry",
    "evaluate",
    "folder",
    "missing",
    "torch_predict",
]

CATALOGUE: tuple[Entry, ...] = (
    *deit.ENTRIES,
    *mobilenet.ENTRIES,
    *cifar_resnet.ENTRIES,
    *tinystories.ENTRIES,
    *prose.ENTRIES,
    *super_resolution.ENTRIES,
    *minilm.ENTRIES,
)


def entries() -> tuple[Entry, ...]:
    """The entries whose files are on this machine."""
    return tuple(entry for entry in CATALOGUE if not entry.missing())


def missing() -> dict[str, str]:
    """The entries that cannot be used here, and why."""
    return {entry.name: reason for entry in CATALOGUE if (reason := entry.missing())}


def entry(name: str) -> Entry:
    """The entry of that name.

    Raises:
        KeyError: there is no such entry.
        FileNotFoundError: its files are not on this machine.
    """
    known = {entry.name: entry for entry in CATALOGUE}
    if name not in known:
        raise KeyError(f"expected one of {', '.join(known)}; got {name!r}")
    if reason := known[name].missing():
        raise FileNotFoundError(f"{name}: {reason}")
    return known[name]
