"""Records an ONNX graph as an fx graph, node by node, and collects what has no meaning there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch

from addax.backends._torch_ops import find, unsigned
from addax.backends._torch_ops.arguments import arguments
from addax.backends._torch_ops.dtypes import torch_dtype
from addax.backends._torch_ops.functions import instantiate, standard_body
from addax.backends._torch_ops.integers import compute
from addax.backends._torch_ops.module import build
from addax.backends._torch_ops.recorder import Recorder, Weight
from addax.backends._torch_ops.scope import Scope
from addax.backends._torch_ops.site import Site, Unsupported
from addax.backends._torch_ops.table import Converter
from addax.backends._torch_ops.trainable import is_trainable
from addax.backends._torch_ops.values import Entry, Integers, from_integers, from_proxy
from addax.ir.origin import origin
from addax.ir.query import constant_tensor
from addax.ir.shapes import ShapeInference

_STANDARD = ("", "ai.onnx")
_DEFAULTS_SINCE = 4


def given_or(given: torch.Tensor | None, default: torch.Tensor) -> torch.Tensor:
    """The argument, or its default where the caller leaves it out."""
    return default if given is None else given


@dataclass(frozen=True, slots=True)
class Problem:
    """A node without a meaning in torch, and why."""

    node: ir.Node
    opset: int
    reason: str

    def __str__(self) -> str:
        place = origin(self.node)
        return (
            f"node {self.node.name!r}: {self.node.op_type} of domain {self.node.domain!r} at opset "
            f"{self.opset}: {self.reason}" + (f" (from {place})" if place else "")
        )


class Translation:
    """The recording of one model; `problems` lists the nodes that have no meaning in torch."""

    def __init__(self, model: ir.Model) -> None:
        self._functions = dict(model.functions)
        self._model = model
        self._root = Scope(Recorder(), model.opset_imports, ShapeInference(model))
        self.problems: list[Problem] = []

    def run(self, graph: ir.Graph) -> tuple[Recorder, list[Any]]:
        """Record the main graph: its recorder, and the proxies of its outputs."""
        self._bind_initializers(graph)
        self._bind_inputs([v for v in graph.inputs if not v.is_initializer()], self._root)
        self._bind_defaults([v for v in graph.inputs if v.is_initializer()])
        self._record(graph, self._root)
        return self._root.recorder, self._outputs(graph.outputs, self._root)

    # Values.

    def _bind_inputs(self, inputs: Sequence[ir.Value], scope: Scope) -> None:
        tensors = [v for v in inputs if isinstance(v.type, ir.TensorType)]
        floats = [v for v in tensors if v.dtype is not None and v.dtype.is_floating_point()]
        anchor = next(iter(floats or tensors), None)
        for value in inputs:
            proxy = scope.recorder.placeholder(value.name, anchor=value is anchor)
            scope.bind(value, from_proxy(proxy))

    def _bind_defaults(self, inputs: Sequence[ir.Value]) -> None:
        """Make inputs that have a value of their own arguments that may be left out.

        Before version 4 of the IR every weight had to be listed as an input: those stay weights.
        """
        if (self._model.ir_version or 0) < _DEFAULTS_SINCE:
            return
        recorder = self._root.recorder
        for value in inputs:
            given = recorder.placeholder(value.name, optional=True)
            default = self._root.entry(value).tensor
            self._root.bind(value, from_proxy(recorder.call(given_or, given, default)))

    def _bind_initializers(self, graph: ir.Graph) -> None:
        """Make the constants of a graph and of every graph inside it known to the root scope."""
        for value in graph.initializers.values():
            if value.const_value is not None:
                self._bind_constant(value, value.const_value, self._root, persistent=True)
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                    self._bind_initializers(attribute.value)

    def _bind_constant(
        self, value: ir.Value, tensor: ir.TensorProtocol, scope: Scope, *, persistent: bool
    ) -> None:
        trainable = persistent and is_trainable(value, self._functions)
        weight = Weight(value.name or "constant", tensor, trainable, persistent)
        recorder = scope.recorder
        path = recorder.paths.add(weight.name)

        def make() -> Any:
            return recorder.weight(path, weight)

        scope.bind(value, Entry(make, constant=tensor, trainable=trainable))

    def _outputs(self, values: Sequence[ir.Value], scope: Scope) -> list[Any]:
        """The tensors of a graph's outputs; None for those that a refused node would make."""
        entries = [scope.entry(value) for value in values]
        return [None if entry.poisoned else entry.tensor for entry in entries]

    # Nodes.

    def _record(self, graph: ir.Graph | ir.Function, scope: Scope) -> None:
        recorder = scope.recorder
        for node in graph:
            before, place = recorder.meta, origin(node)
            if place is not None:
                recorder.meta = {**before, "origin": place}
            try:
                self._node(node, scope)
            except Unsupported as refusal:
                opset = node.version or scope.opset(node.domain)
                self.problems.append(Problem(node, opset, str(refusal)))
                self._poison(node, scope)
            finally:
                recorder.meta = before

    def _poison(self, node: ir.Node, scope: Scope) -> None:
        """Bind the outputs of a refused node, so that the nodes after it can be checked too."""
        for value in node.outputs:
            scope.bind(value, Entry(lambda: None, poisoned=True))

    def _node(self, node: ir.Node, scope: Scope) -> None:
        domain = "" if node.domain in _STANDARD else node.domain
        opset = node.version or scope.opset(domain)
        if node.op_type == "Constant" and not domain:
            self._constant(node, scope)
            return
        meaning = self._meaning(node, domain, opset)
        entries = [self._present(v, scope) for v in node.inputs]
        if any(entry is not None and entry.poisoned for entry in entries):
            self._poison(node, scope)
        elif isinstance(meaning, ir.Function):
            self._call(meaning, node, entries, scope)
        else:
            self._complete(node, scope)
            site = Site(node, opset, scope, self._record, self._module)
            known = compute(site, entries)
            if known is not None:
                self._bind(node, known, scope, scope.recorder.mark)
            elif not self._convert(meaning, site, entries):
                self._call(self._body(node, domain, opset), node, entries, scope)

    def _complete(self, node: ir.Node, scope: Scope) -> None:
        """See to it that types and shapes are known, and the types such that torch has them."""
        if any(v.type is None or v.shape is None for v in node.outputs if v.name != ""):
            scope.shapes.infer(node)
        for value in (*node.inputs, *node.outputs):
            dtype = None if value is None else value.dtype
            if dtype is not None and torch_dtype(dtype) is None:
                raise Unsupported(f"torch has no element type {dtype.name}")

    def _present(self, value: ir.Value | None, scope: Scope) -> Entry | None:
        """The entry of a node's input; None where it, or the function's argument, is absent."""
        entry = None if value is None else scope.entry(value)
        return None if entry is None or entry.absent else entry

    def _meaning(self, node: ir.Node, domain: str, opset: int) -> Converter | ir.Function:
        """The converter of a node, or the body it stands for."""
        own = self._functions.get(node.op_identifier())
        if own is not None:
            return own
        found = find(domain, node.op_type, opset)
        return self._body(node, domain, opset) if found is None else found

    def _body(self, node: ir.Node, domain: str, opset: int) -> ir.Function:
        body = standard_body(node, domain, opset)
        if body is None:
            raise Unsupported("torch has no converter for it, and the model no function")
        return body

    def _convert(self, converter: Converter, site: Site, entries: list[Entry | None]) -> bool:
        """Whether the converter takes the node; if not, its standard body has to."""
        mark = site.scope.recorder.mark
        wide = unsigned.wide_type(site.node)
        inputs, attributes = arguments(site.node, converter, entries)
        if wide is not None:
            inputs = [unsigned.widened(x) for x in inputs]
        if converter.sited:
            attributes["site"] = site
        result = converter.call(*inputs, **attributes)
        if result is NotImplemented:
            return False
        result = result if wide is None else unsigned.narrowed(site.node, result)
        self._bind(site.node, result, site.scope, mark)
        return True

    def _constant(self, node: ir.Node, scope: Scope) -> None:
        tensor = constant_tensor(node.outputs[0])
        if tensor is None:
            raise Unsupported("torch has neither strings nor sparse constants of this kind")
        value = node.outputs[0]
        value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.numpy().shape)
        self._bind_constant(value, tensor, scope, persistent=False)

    def _bind(self, node: ir.Node, result: Any, scope: Scope, mark: int) -> None:
        """Make what a converter returned the outputs of the node, and name it after them."""
        results = result if isinstance(result, tuple) else (result,)
        for value, item in zip(node.outputs, results, strict=False):
            if isinstance(item, Integers):
                scope.bind(value, from_integers(item, scope.recorder))
                continue
            if isinstance(item, Entry):
                scope.bind(value, item)
                if item.recorded is not None:
                    scope.recorder.name(item.recorded, value.name, mark)
                continue
            if isinstance(item, torch.fx.Proxy):
                scope.recorder.name(item, value.name, mark)
            scope.bind(value, from_proxy(item))

    # Graphs inside nodes.

    def _call(
        self, function: ir.Function, node: ir.Node, entries: list[Entry | None], scope: Scope
    ) -> None:
        """Record the body of a function in place of its call."""
        body = instantiate(function, node)
        opsets = {**scope.opsets, **body.opset_imports}
        own = ir.Model(
            body.graph,
            ir_version=self._model.ir_version,
            functions=tuple(self._model.functions.values()),
        )
        inner = Scope(scope.recorder, opsets, ShapeInference(own))
        for k, formal in enumerate(body.inputs):
            given = entries[k] if k < len(entries) else None
            inner.bind(formal, given or Entry(lambda: None, absent=True))
        mark = scope.recorder.mark
        self._record(body, inner)
        for value, made in zip(node.outputs, body.outputs, strict=False):
            entry = inner.entry(made)
            if value.type is None or value.shape is None:
                value.type, value.shape = made.type, made.shape
            scope.bind(value, entry)
            if entry.recorded is not None:
                scope.recorder.name(entry.recorded, value.name, mark)

    def _module(
        self, graph: ir.Graph, captured: Sequence[ir.Value], scope: Scope
    ) -> torch.fx.GraphModule:
        """A graph as a module of its own, which returns a tuple."""
        inner = Scope(Recorder(), scope.opsets, scope.shapes)
        self._bind_inputs(graph.inputs, inner)
        for value in captured:
            outer = scope.entry(value)
            proxy = inner.recorder.placeholder(value.name)
            known = outer.integers
            inner.bind(
                value,
                Entry(
                    lambda proxy=proxy: proxy,  # type: ignore[misc]  # bound now, not when called
                    integers=known if known is not None and known.is_static else None,
                    constant=outer.constant,
                    trainable=outer.trainable,
                ),
            )
        self._record(graph, inner)
        return build(inner.recorder, tuple(self._outputs(graph.outputs, inner)))
