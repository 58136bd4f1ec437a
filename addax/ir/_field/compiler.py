"""The judge's compiler with the field's meanings: graphs, functions and slices of graphs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import UnsupportedOpError
from addax.ir._field.element import Oracle
from addax.ir._field.operation import Lifting, Operation
from addax.ir._field.signature import is_weight
from addax.ir._field.table import MOVEMENT, OPAQUE, FieldSite
from addax.ir._judge import control
from addax.ir._judge.arrays import decode
from addax.ir._judge.compiler import Attributes, Compiler, Scope
from addax.ir._judge.program import ABSENT, UNUSED, Program, Step, label
from addax.ir._judge.reference import schema_body
from addax.ir.builder import Derivation
from addax.ir.query import constant_tensor


class FieldCompiler(Compiler):
    """Compiles for one model; constants are kept in float64, which holds every format exactly."""

    def __init__(self, model: ir.Model, oracle: Oracle) -> None:
        super().__init__(model, np.dtype(np.float64))
        self.oracle = oracle
        self.lift = Lifting()

    def function(self, function: ir.Function, attributes: Attributes) -> Program:
        """The program of a function called with `attributes`, its own defaults filled in."""
        name = f"{function.domain}::{function.name}"
        if name in self._active:
            return super().function(function, attributes)  # which says what the cycle is
        bound = {key: attr for key, attr in function.attributes.items() if attr.value is not None}
        bound |= {key: attr for key, attr in attributes.items() if key in function.attributes}
        self._active.append(name)
        scope = FieldScope(self, bound, {**self.opsets, **function.opset_imports}, None)
        made = scope.compiled(function.inputs, function, function.outputs)
        self._active.pop()
        return made

    def graph(self, graph: ir.Graph) -> Program:
        """The program of the model's main graph."""
        scope = FieldScope(self, {}, self.opsets, None)
        return scope.compiled(graph.inputs, graph, graph.outputs)


class FieldScope(Scope):
    """One body while it is compiled."""

    compiler: FieldCompiler

    def subgraph(self, graph: ir.Graph) -> Program:
        """The program of a graph attribute of a node in this scope."""
        scope = FieldScope(self.compiler, self.bound, self.opsets, self)
        return scope.compiled(graph.inputs, graph, graph.outputs)

    def _compile(self, node: ir.Node) -> None:
        if node.op_type == "Scan" and node.domain in {"", "ai.onnx"}:
            raise UnsupportedOpError(f"{label(node)}: Scan has no meaning over a field")
        super()._compile(node)

    def _bound(self, node: ir.Node, attributes: Attributes) -> tuple[Any, bool]:
        site = FieldSite(
            len(node.outputs),
            self.opset(node),
            self.opsets,
            self.compiler.precision,
            self.compiler.oracle,
        )
        body = self.compiler.functions.get((node.domain, node.op_type, node.overload))
        operation = Operation.of(node, attributes, site, self.compiler.lift) if not body else None
        if operation is not None and operation.kernel is None:
            body = _body(node, site.opset)
        if body is None:
            return operation, False
        return control.called(self.compiler.function(body, attributes)), True


_NATIVE = frozenset({*MOVEMENT, *OPAQUE, "ConstantOfShape", "Mod", "Range"})
"""Ops that need no body: they move elements, or their floating operands are concrete."""


def _body(node: ir.Node, opset: int) -> ir.Function | None:
    domain = "" if node.domain == "ai.onnx" else node.domain
    if not domain and node.op_type in _NATIVE:
        return None
    return schema_body(domain, node.op_type, opset)


class SliceScope(FieldScope):
    """Nodes picked out of a graph: what they read and nothing here makes becomes an input.

    `leaves` are those inputs, in the order in which they were met. With `any_weights` large
    constants are inputs too, so that what is proved holds for all of them.
    """

    def __init__(
        self,
        compiler: FieldCompiler,
        history: Mapping[ir.Value, Derivation] | None = None,
        *,
        any_weights: bool = False,
    ) -> None:
        super().__init__(compiler, {}, compiler.opsets, None)
        self.leaves: list[ir.Value] = []
        self._history = {} if history is None else history
        self._any_weights = any_weights

    def program_of(
        self,
        nodes: Iterable[ir.Node],
        derived: Mapping[ir.Value, Derivation],
        outputs: Sequence[ir.Value],
    ) -> Program:
        """The program that computes `outputs`; derived constants are computed, not looked up."""
        pending = [(value, derivation) for value, derivation in derived.items()]
        for value, derivation in pending:
            self._derive(value, derivation)
        for node in nodes:
            self._compile(node)
        self.program.outputs = [self.slot(value, None) for value in outputs]
        self._free_after_last_use()
        return self.program

    def _compile(self, node: ir.Node) -> None:
        super()._compile(node)
        if node.op_type == "Constant":
            return
        # Elsewhere an output without a name is one that nobody reads; new nodes have no names yet.
        step = self.program.steps[-1]
        step.outputs = tuple(
            self._fresh(value, None) if slot == UNUSED and value.name is None else slot
            for value, slot in zip(node.outputs, step.outputs, strict=True)
        )

    def slot(self, value: ir.Value | None, user: ir.Node | None) -> int:
        """Where `value` lives; an unknown one is a constant or becomes an input."""
        if value is None or value.name == "":
            return ABSENT
        if value in self._slots:
            return super().slot(value, user)
        tensor = constant_tensor(value)
        is_real = tensor is not None and tensor.dtype.is_floating_point()
        if self._any_weights and is_real and value in self._history:
            self._derive(value, self._history[value])
            return self._slots[value]
        if tensor is not None and not (self._any_weights and is_weight(tensor)):
            slot = self._fresh(value, decode(tensor, self.compiler.precision))
            self._constants.add(slot)
            return slot
        self.leaves.append(value)
        slot = self._fresh(value, None)
        self.program.inputs.append(slot)
        return slot

    def _derive(self, value: ir.Value, derivation: Derivation) -> None:
        attributes = tuple(derivation.onnx_attributes.values())
        # A node without inputs: one with them would count as a reader of the graph's values.
        count = derivation.count
        node = ir.Node("", derivation.op_type, (), attributes, num_outputs=count)
        inputs = tuple(self.slot(v, node) for v in derivation.inputs)
        call, nested = self._bound(node, node.attributes)
        slot = self._fresh(value, None)
        outputs = tuple(slot if k == derivation.index else UNUSED for k in range(count))
        self.program.steps.append(Step(node, call, inputs, outputs, nested))
