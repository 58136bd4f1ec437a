"""A walk through a model on calibration data: every part runs once, on what was kept before it.

Observing the values of L layers one after another from the inputs costs L runs of half the model.
A walk keeps, in a temporary folder, the values that something further on still reads, and starts
from these. What has been walked over may not change any more; what lies ahead may.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from addax.backends.to_ort import to_ort
from addax.ir.model import clone, prune
from addax.ir.query import constant_tensor
from addax.ir.rewriter import reads
from addax.runtime.session import Session

Feeds = Callable[[], Iterator[Mapping[str, np.ndarray]]]


class Walk:
    """Observes values of one model, ever further from its inputs.

    A value whose kept ancestors are gone is computed from the inputs again: slower, not wrong.

    Args:
        model: May be rewritten between two observations, ahead of what was observed.
        sizes: The number of samples of each batch.
        feeds: The batches, each as arrays by input, as often as asked.
        tell: Called with what is done now, for a progress line.
    """

    def __init__(
        self, model: ir.Model, sizes: tuple[int, ...], feeds: Feeds, tell: Callable[[str], None]
    ) -> None:
        self._model, self._sizes, self._feeds, self._tell = model, sizes, feeds, tell
        self._folder = tempfile.TemporaryDirectory(prefix="addax-walk-")  # gone with the walk
        self._kept: dict[ir.Value, Path] = {}
        self._made = 0
        self._passed: set[ir.Node] = set()

    def sizes(self) -> tuple[int, ...]:
        """The number of samples of each batch."""
        return self._sizes

    def observe(self, values: Sequence[ir.Value]) -> Iterator[tuple[np.ndarray, ...]]:
        """For each batch, the arrays that `values` of the main graph have on it.

        What was kept before is dropped, and what is needed later kept, when the last batch is out.
        """
        between, sources = self._between(values)
        passed = self._passed | between | {inner for node in between for inner in _inside(node)}
        made = [v for node in self._model.graph if node in between for v in node.outputs]
        folders = {v: self._new_folder() for v in made if _is_awaited(v, passed)}
        session = self._session([*dict.fromkeys([*values, *folders])], sources) if made else None
        done = 0
        for number, (size, feeds) in enumerate(zip(self._sizes, self._feeds(), strict=True)):
            known = {str(v.name): np.load(_file(self._kept[v], number)) for v in sources}
            known |= feeds
            if session is not None:
                needed = {port.name: known[port.name] for port in session.inputs}
                known |= session.run(needed)
            for value, folder in folders.items():
                np.save(_file(folder, number), known[str(value.name)])
            done += size
            self._tell(f"observing {values[-1].name} ({done} of {sum(self._sizes)} samples)")
            yield tuple(known[str(value.name)] for value in values)
        self._passed = passed
        self._kept |= folders
        for value in [v for v in self._kept if not _is_awaited(v, passed)]:
            shutil.rmtree(self._kept.pop(value))

    def _new_folder(self) -> Path:
        self._made += 1
        folder = Path(self._folder.name) / str(self._made)
        folder.mkdir()
        return folder

    def _between(self, values: Sequence[ir.Value]) -> tuple[set[ir.Node], list[ir.Value]]:
        """The nodes that compute `values` from kept values or inputs, and these kept values."""
        nodes: set[ir.Node] = set()
        sources: dict[ir.Value, None] = {}
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            node = value.producer()
            if value in self._kept:
                sources[value] = None
            elif node is not None and node not in nodes:
                nodes.add(node)
                waiting += [v for v in reads(node) if _is_outer(v, node)]
        return nodes, list(sources)

    def _session(self, values: Sequence[ir.Value], sources: Sequence[ir.Value]) -> Session:
        """The part of the model between `sources` and `values`, loaded."""
        part = clone(self._model)
        graph = part.graph
        found = {v.name: v for node in graph for v in node.outputs}
        graph.outputs.clear()
        for source in sources:
            old = found[source.name]
            new = ir.Value(name=source.name, type=old.type, shape=_free(old.shape))
            old.name = f"{source.name}/kept"
            old.replace_all_uses_with(new)
            graph.inputs.append(new)
        kept = {v.name for v in sources}
        names = [v.name for v in values if v.producer() is not None and v.name not in kept]
        graph.outputs.extend(found[name] for name in names)
        prune(part)
        return Session(to_ort(part))


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number}.npy"


def _is_awaited(value: ir.Value, passed: set[ir.Node]) -> bool:
    """Whether a node that has not been walked over reads `value`."""
    return any(reader not in passed for reader in value.consumers())


def _is_outer(value: ir.Value, reader: ir.Node) -> bool:
    """Whether a value that `reader` or its bodies read is made outside of it."""
    if constant_tensor(value) is not None:
        return False
    made = value.producer()
    return made is None or made.graph is reader.graph


def _inside(node: ir.Node) -> Iterator[ir.Node]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            yield from attribute.value.all_nodes()


def _free(shape: ir.Shape | None) -> ir.Shape | None:
    """A shape of the same rank that promises no size: the model's names of sizes stay behind."""
    return None if shape is None else ir.Shape([None] * shape.rank())
