"""Turns the graphs and functions of one model into programs."""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes  # noqa: F401 (registers bfloat16 and the narrow formats with NumPy)
import numpy as np
import onnx_ir as ir

from addax.errors import InvalidGraphError, UnsupportedOpError
from addax.ir._judge import control
from addax.ir._judge.arrays import as_text, decode, promoted
from addax.ir._judge.meaning import Body, meaning
from addax.ir._judge.program import ABSENT, UNUSED, Program, Step, label
from addax.ir._judge.table import Site

Attributes = Mapping[str, ir.Attr]


class Compiler:
    """Compiles for one model and one precision; programs of functions are shared between calls."""

    def __init__(self, model: ir.Model, precision: np.dtype[Any] | None) -> None:
        self.functions = model.functions
        self.opsets = model.opset_imports
        self.precision = precision
        self._programs: dict[Any, Program] = {}
        self._active: list[str] = []

    def function(self, function: ir.Function, attributes: Attributes) -> Program:
        """The program of a function called with `attributes`, its own defaults filled in.

        Raises:
            InvalidGraphError: the function calls itself, directly or through others.
        """
        bound = {name: attr for name, attr in function.attributes.items() if attr.value is not None}
        bound |= {name: attr for name, attr in attributes.items() if name in function.attributes}
        key = (id(function), tuple((name, _key(attr)) for name, attr in sorted(bound.items())))
        if key not in self._programs:
            name = f"{function.domain}::{function.name}"
            if name in self._active:
                cycle = " -> ".join([*self._active[self._active.index(name) :], name])
                raise InvalidGraphError(f"functions must not call themselves: {cycle}")
            self._active.append(name)
            scope = Scope(self, bound, {**self.opsets, **function.opset_imports}, None)
            self._programs[key] = scope.compiled(function.inputs, function, function.outputs)
            self._active.pop()
        return self._programs[key]

    def graph(self, graph: ir.Graph) -> Program:
        """The program of the model's main graph."""
        scope = Scope(self, {}, self.opsets, None)
        return scope.compiled(graph.inputs, graph, graph.outputs)


class Scope:
    """One body while it is compiled: which value lives in which slot."""

    def __init__(
        self,
        compiler: Compiler,
        bound: Attributes,
        opsets: Mapping[str, int],
        parent: "Scope | None",
    ) -> None:
        self.compiler = compiler
        self.bound = bound
        self.opsets = opsets
        self.parent = parent
        self.program = Program()
        self._slots: dict[ir.Value, int] = {}
        self._constants: set[int] = {ABSENT, UNUSED}
        self._initializers: Mapping[str, ir.Value] = {}

    def compiled(
        self, inputs: Sequence[ir.Value], body: ir.Graph | ir.Function, outputs: Sequence[ir.Value]
    ) -> Program:
        """The program of `body`."""
        graph = body.graph if isinstance(body, ir.Function) else body
        self._initializers = graph.initializers
        for value in inputs:
            self.program.inputs.append(self._fresh(value, self._default(value)))
        for node in graph:
            self._compile(node)
        self.program.outputs = [self.slot(value, None) for value in outputs]
        self._free_after_last_use()
        return self.program

    def subgraph(self, graph: ir.Graph) -> Program:
        """The program of a graph attribute of a node in this scope."""
        scope = Scope(self.compiler, self.bound, self.opsets, self)
        return scope.compiled(graph.inputs, graph, graph.outputs)

    def slot(self, value: ir.Value | None, user: ir.Node | None) -> int:
        """Where `value` lives; a value of an enclosing scope becomes a capture.

        Raises:
            InvalidGraphError: no scope makes `value` before `user` (or an output) reads it.
        """
        if value is None:
            return ABSENT
        known = self._slots.get(value)
        if known is not None:
            return known
        if value.name is not None and self._initializers.get(value.name) is value:
            slot = self._fresh(value, self._default(value))
            self._constants.add(slot)
            return slot
        if self.parent is None:
            raise InvalidGraphError(
                f"value {value.name!r} is read by {label(user) if user else 'an output'} before "
                "anything makes it: it is no input, no initializer, and no output of an earlier "
                "node; sort the graph or add its maker"
            )
        self.parent.slot(value, user)
        slot = self._fresh(value, None)
        self.program.captures.append((value, slot))
        return slot

    def _default(self, value: ir.Value) -> Any:
        if value.name is None or self._initializers.get(value.name) is not value:
            return None
        if value.const_value is None:
            raise InvalidGraphError(
                f"initializer {value.name!r} has no tensor: set its const_value"
            )
        return decode(value.const_value, self.compiler.precision)

    def _fresh(self, value: ir.Value, content: Any) -> int:
        slot = len(self.program.frame)
        self.program.frame.append(content)
        self._slots[value] = slot
        return slot

    def _compile(self, node: ir.Node) -> None:
        attributes = self._resolved(node)
        if node.op_type == "Constant" and node.domain in {"", "ai.onnx"}:
            slot = self._fresh(node.outputs[0], self._constant(node, attributes))
            self._constants.add(slot)
            return
        inputs = [self.slot(value, node) for value in node.inputs]
        make = control.MAKERS.get(node.op_type) if node.domain in {"", "ai.onnx"} else None
        if make is not None:
            call, captures = make(node, attributes, self)
            inputs += [self.slot(value, node) for value in captures]
            nested = True
        else:
            call, nested = self._bound(node, attributes)
        outputs = tuple(self._fresh(v, None) if v.name else UNUSED for v in node.outputs)
        self.program.steps.append(Step(node, call, tuple(inputs), outputs, nested))

    def _bound(self, node: ir.Node, attributes: Attributes) -> tuple[Any, bool]:
        site = Site(len(node.outputs), self.opset(node), self.opsets, self.compiler.precision)
        found = meaning(node, attributes, site, self.compiler.functions)
        if not isinstance(found, Body):
            return found, False
        program = self.compiler.function(found.function, attributes)
        return control.called(program), True

    def opset(self, node: ir.Node) -> int:
        """The version that this scope imports of the node's domain; 1 of an unlisted vendor's.

        Raises:
            UnsupportedOpError: the standard domain is not imported, so no op of it has a meaning.
        """
        if node.domain not in {"", "ai.onnx"}:
            return self.opsets.get(node.domain, 1)
        version = self.opsets.get("", self.opsets.get("ai.onnx"))
        if version is None:
            raise UnsupportedOpError(
                f"{label(node)}: the standard domain '' is not among the imported opsets "
                f"({dict(self.opsets)}); add it to the model's opset_imports"
            )
        return version

    def _resolved(self, node: ir.Node) -> dict[str, ir.Attr]:
        """The node's attributes with references to the function's own attributes followed."""
        resolved = {}
        for name, attr in node.attributes.items():
            if not attr.is_ref():
                resolved[name] = attr
            elif (target := self.bound.get(str(attr.ref_attr_name))) is not None:
                resolved[name] = ir.Attr(name, target.type, target.value)
        return resolved

    def _constant(self, node: ir.Node, attributes: Attributes) -> Any:
        precision = self.compiler.precision
        for name, attr in attributes.items():
            match name:
                case "value":
                    return decode(attr.as_tensor(), precision)
                case "value_float" | "value_floats":
                    return promoted(np.asarray(attr.value, dtype=np.float32), precision)
                case "value_int" | "value_ints":
                    return np.asarray(attr.value, dtype=np.int64)
                case "value_string" | "value_strings":
                    return as_text(np.asarray(attr.value, dtype=object))
        raise UnsupportedOpError(
            f"{label(node)}: expected a dense value, got {', '.join(attributes) or 'no attribute'}"
        )

    def _free_after_last_use(self) -> None:
        seen = self._constants | set(self.program.outputs)
        for step in reversed(self.program.steps):
            frees = dict.fromkeys(s for s in (*step.inputs, *step.outputs) if s not in seen)
            step.frees = tuple(frees)
            seen.update(frees)


def _key(attr: ir.Attr) -> Any:
    """Equal for attributes that are equal; mutable values count as equal only if identical."""
    value = attr.value
    return (attr.type, value if isinstance(value, int | float | str | tuple) else id(value))
