"""Faults of nodes against their schemas, of calls against functions, of constants against types."""

from collections.abc import Iterable, Mapping

import networkx as nx
import onnx_ir as ir

from addax.ir._fault import Fault
from addax.ir._schemas import Schema, operators, schema
from addax.ir.origin import describe

_CHECKED = ("", "ai.onnx.ml")  # domains of which ONNX has every schema
_NATIVE = "com.microsoft"  # ONNX Runtime's own operators share their domains with functions
_DIALECT = "addax"
_RUNTIME = {  # ONNX Runtime runs these under the standard domain's name, at any version
    *("Affine", "Crop", "DynamicSlice", "GivenTensorFill", "ImageScaler", "LayerNormalization"),
    *("ParametricSoftplus", "ScaledTanh", "SimplifiedLayerNormalization"),
}


class Operators:
    """Checks the nodes of one scope, which imports `opsets`, in a model with `functions`."""

    def __init__(
        self,
        opsets: Mapping[str, int],
        functions: Mapping[ir.OperatorIdentifier, ir.Function],
        *,
        in_function: bool,
    ) -> None:
        self.faults: list[Fault] = []
        self._opsets, self._functions, self._in_function = opsets, functions, in_function
        self._domains = {key[0] for key in functions} | {_DIALECT}
        self._known: dict[tuple[str, str], Schema | None] = {}
        self._told: set[tuple[str, str]] = set()

    def check(self, graph: ir.Graph, where: str) -> None:
        """Add the faults of the nodes and constants of a graph; not of its subgraphs."""
        for value in graph.initializers.values():
            self._initializer(value, where)
        for node in graph:
            self._node(node, where)
            for value in node.outputs:
                if value.const_value is not None:
                    self._constant(value, value.const_value, where)

    def _add(self, kind: str, where: str, message: str) -> None:
        self.faults.append(Fault(kind, where, message))

    def _initializer(self, value: ir.Value, where: str) -> None:
        tensor = value.const_value
        if tensor is not None:
            self._constant(value, tensor, where)
        elif not value.is_graph_input():
            self._add("initializer", where, f"initializer {value.name!r} has no tensor")

    def _constant(self, value: ir.Value, tensor: ir.TensorProtocol, where: str) -> None:
        if value.type is not None and value.dtype != tensor.dtype:
            self._add(
                "constant-type",
                where,
                f"{value.name!r} is declared as {value.dtype}, but its tensor is {tensor.dtype}",
            )
        declared = value.shape
        if declared is None:
            return
        actual = tensor.shape.numpy()
        if len(declared) != len(actual) or any(
            isinstance(d, int) and d != a for d, a in zip(declared, actual, strict=True)
        ):
            self._add(
                "constant-shape",
                where,
                f"{value.name!r} is declared as {declared}, but its tensor is {list(actual)}",
            )

    def _node(self, node: ir.Node, where: str) -> None:
        domain, op_type = node.domain, node.op_type
        if domain not in self._opsets:
            if (where, domain) not in self._told:
                self._told.add((where, domain))
                self._add(
                    "opset",
                    where,
                    f"{describe(node)} needs an opset import of {domain or 'ai.onnx'!r}",
                )
            return
        for name, attribute in node.attributes.data.items():
            if attribute.is_ref() and not self._in_function:
                self._add(
                    "attribute",
                    where,
                    f"{describe(node)}: attribute {name!r} refers to {attribute.ref_attr_name!r} "
                    "of a function, but is in none",
                )
        if self._functions and (domain, op_type, node.overload) in self._functions:
            self._call(node, self._functions[domain, op_type, node.overload], where)
            return
        key = (domain, op_type)
        if key not in self._known:
            self._known[key] = schema(domain, op_type, self._opsets[domain])
        found = self._known[key]
        if found is None:
            self._unknown(node, where)
        else:
            self._against(found, node, where)

    def _no_opset(self, node: ir.Node, where: str) -> None:
        if (where, node.domain) not in self._told:
            self._told.add((where, node.domain))
            name = node.domain or "ai.onnx"
            self._add("opset", where, f"{describe(node)} needs an opset import of {name!r}")

    def _call(self, node: ir.Node, function: ir.Function, where: str) -> None:
        for what, given, formal in (
            ("inputs", len(node.inputs), len(function.inputs)),
            ("outputs", len(node.outputs), len(function.outputs)),
        ):
            if given > formal:
                self._add(
                    "arity", where, f"{describe(node)} has {given} {what}, its function {formal}"
                )

    def _unknown(self, node: ir.Node, where: str) -> None:
        domain, version = node.domain, self._opsets[node.domain]
        if domain in self._domains and not domain.startswith(_NATIVE) and domain not in _CHECKED:
            self._add("call", where, f"{describe(node)} calls a function that the model lacks")
        elif domain in _CHECKED and node.op_type not in _RUNTIME:
            versions = operators(domain).get(node.op_type)
            detail = "does not exist" if versions is None else f"exists from opset {versions[0]} on"
            self._add(
                "operator",
                where,
                f"{describe(node)}: the operator {detail}; the model imports "
                f"{domain or 'ai.onnx'} {version}",
            )

    def _against(self, found: Schema, node: ir.Node, where: str) -> None:
        inputs, outputs = node.inputs, node.outputs
        if found.deprecated:
            self._add(
                "deprecated",
                where,
                f"{describe(node)}: the operator is deprecated from opset {found.since} on",
            )
            return
        if not found.inputs[0] <= len(inputs) <= found.inputs[1]:
            self._arity(node, "inputs", len(inputs), found.inputs, where)
        if not found.outputs[0] <= len(outputs) <= found.outputs[1]:
            self._arity(node, "outputs", len(outputs), found.outputs, where)
        if None in inputs:
            for position in found.operands:
                if position < len(inputs) and inputs[position] is None:
                    self._add("arity", where, f"{describe(node)} leaves out input {position}")
        attributes = node.attributes.data
        if attributes:
            self._attributes(found, node, where)
        for name in found.required:
            if name not in attributes:
                self._add("attribute", where, f"{describe(node)} lacks the attribute {name!r}")

    def _arity(
        self, node: ir.Node, what: str, given: int, allowed: tuple[int, int], where: str
    ) -> None:
        low, high = allowed
        wanted = (
            f"{low}" if low == high else f"{low} or more" if high > given else f"{low} to {high}"
        )
        self._add("arity", where, f"{describe(node)} has {given} {what}, expected {wanted}")

    def _attributes(self, found: Schema, node: ir.Node, where: str) -> None:
        for name, attribute in node.attributes.data.items():
            expected = found.attributes.get(name)
            if expected is None:
                self._add("attribute", where, f"{describe(node)} has no attribute {name!r}")
            elif attribute.type != expected:
                self._add(
                    "attribute",
                    where,
                    f"{describe(node)}: attribute {name!r} is {attribute.type.name}, "
                    f"expected {expected.name}",
                )


def recursion(functions: Mapping[ir.OperatorIdentifier, ir.Function]) -> Iterable[Fault]:
    """One fault for each group of functions that call one another in a circle."""
    calls: nx.DiGraph[ir.OperatorIdentifier] = nx.DiGraph()
    for key, function in functions.items():
        for node in function.all_nodes():
            callee = (node.domain, node.op_type, node.overload)
            if callee in functions:
                calls.add_edge(key, callee)
    for group in nx.strongly_connected_components(calls):
        first = min(group)
        if len(group) > 1 or calls.has_edge(first, first):
            names = ", ".join(f"{domain}::{name}" for domain, name, _ in sorted(group))
            yield Fault(
                "recursion",
                f"function {first[0]}::{first[1]}",
                f"a function may not call itself, also not through others: {names}",
            )
