"""Which nodes a change can make match: those from which some pattern reaches down to it."""

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from addax.ir.pattern import PatternNode, Sym


class Spans:
    """Where operators stand in patterns: how high, and under what.

    The root of a pattern has height 0, what feeds it 1, and so on. Walking from a change
    downstream, a reader is followed only while some pattern has that operator under that
    reader at that height; the walk ends at the nodes that may be roots.
    """

    def __init__(self, patterns: Iterable[PatternNode]) -> None:
        self._heights: dict[str, set[int]] = {}
        self._under: dict[tuple[str, str], set[int]] = {}
        for pattern in patterns:
            self._note(pattern, 0)

    def _note(self, node: PatternNode, height: int) -> None:
        self._heights.setdefault(node.op_type, set()).add(height)
        for value in node.inputs:
            if isinstance(value, Sym) and value.node is not None:
                self._under.setdefault((value.node.op_type, node.op_type), set()).add(height)
                self._note(value.node, height + 1)

    def roots_over(self, value: ir.Value) -> Iterator[ir.Node]:
        """The nodes whose match may change because their readers now read another `value`."""
        for reader in value.consumers():
            yield reader
            yield from self._roots(reader, self._heights.get(reader.op_type, set()))

    def roots_above(self, node: ir.Node) -> Iterator[ir.Node]:
        """The nodes whose pattern may have `node` inside."""
        return self._roots(node, self._heights.get(node.op_type, set()))

    def _roots(self, node: ir.Node, heights: set[int]) -> Iterator[ir.Node]:
        """The roots that lie `heights` above `node` on a way that some pattern goes."""
        frontier = [(node, heights)]
        while frontier:
            lower, possible = frontier.pop()
            for output in lower.outputs:
                for reader in output.consumers():
                    known = self._under.get((lower.op_type, reader.op_type), ())
                    reached = {height for height in known if height + 1 in possible}
                    if 0 in reached:
                        yield reader
                    if reached - {0}:
                        frontier.append((reader, reached))
