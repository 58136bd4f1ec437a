"""The values of one ONNX graph or function body while it is being recorded."""

from collections.abc import Mapping

import onnx_ir as ir

from addax.backends._torch_ops.recorder import Recorder
from addax.backends._torch_ops.values import Entry
from addax.ir.shapes import ShapeInference


class Scope:
    """Entries by value. A branch that is recorded in place also sees those of its `parent`."""

    def __init__(
        self,
        recorder: Recorder,
        opsets: Mapping[str, int],
        shapes: ShapeInference,
        parent: "Scope | None" = None,
    ) -> None:
        self.recorder = recorder
        self.opsets = opsets
        self.shapes = shapes
        self._parent = parent
        self._entries: dict[ir.Value, Entry] = {}

    def bind(self, value: ir.Value, entry: Entry) -> None:
        """Say what a value is."""
        self._entries[value] = entry

    def entry(self, value: ir.Value) -> Entry:
        """What a value is."""
        if value not in self._entries and self._parent is not None:
            return self._parent.entry(value)
        return self._entries[value]

    def opset(self, domain: str) -> int:
        """The version of an operator set that the graph imports; 1 where it imports none."""
        return self.opsets.get(domain, self.opsets.get("ai.onnx", 1) if domain == "" else 1)
