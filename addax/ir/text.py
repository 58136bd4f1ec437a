"""Canonical text of a model: ONNX's own text syntax, in an order and with names that are fixed.

Two models with the same structure print the same text, whatever their nodes are called and in
whichever order they are listed; attributes that say what holds anyway are left out. Types are
comments. Texts whose constants are all spelt out can be read again with `parse_text`.

    <opset_import: ["" : 18]>
    graph (float[5,N] x) => (float[5,3] y)
    <
        float[4,3] w0,  # 8f3c2a11
        float[2] w1 = {1.5, 0.002}
    >
    {
        v0 = MatMul (x, w0)  # float[5,3]
        y = Relu (v0)  # float[5,3]
    }
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import onnx_ir as ir

from addax.ir._dims import INVENTED
from addax.ir._flow import Flow
from addax.ir._literals import (
    attribute_text,
    attributes_of,
    elements_text,
    name_text,
    shape_key,
    string_text,
    tensor_digest,
    tensor_type,
    type_text,
)
from addax.ir.parser import parse_text

__all__ = ["parse_text", "to_text"]

Names = Literal["canonical", "kept"]

_INDENT = "    "


def to_text(model: ir.Model | ir.Graph, *, names: Names = "canonical", types: bool = True) -> str:
    """The text of a model, its functions after its graph, or of a graph alone.

    Args:
        model: Well formed or not; it is not changed.
        names: "canonical" gives values inside the graph short names (`v0`, and `w0` for
            constants), so that texts can be compared; "kept" prints the names they have.
        types: Whether to add the type of each value as a comment.
    """
    graph = model if isinstance(model, ir.Graph) else model.graph
    printer = _Printer(graph.opset_imports, names, types=types)
    lines = [*printer.header(graph), *printer.graph(graph, "graph", "")]
    if isinstance(model, ir.Model):
        for _, function in sorted(model.functions.items()):
            lines += ["", *_Printer(function.opset_imports, names, types=types).function(function)]
    return "\n".join(lines) + "\n"


class _Printer:
    """Prints one top-level graph or function; names are unique over all its subgraphs."""

    def __init__(self, opsets: Mapping[str, int], names: Names, *, types: bool) -> None:
        self._opsets, self._types = opsets, types
        self._keep = names == "kept"
        self._flow = Flow(opsets)
        self._names: dict[ir.Value, str] = {}
        self._positions: dict[ir.Value, int] = {}
        self._reserved: set[str] = set()
        self._counts = {"v": 0, "w": 0}
        self._dims: dict[str, str] = {}

    def header(self, graph: ir.Graph) -> list[str]:
        """The versions of the domains that nodes use."""
        used = {"", *(node.domain for node in graph.all_nodes())}
        imports = [
            f'"{domain}" : {version}'
            for domain, version in sorted(self._opsets.items())
            if domain in used
        ]
        return [f"<opset_import: [{', '.join(imports)}]>"]

    def function(self, function: ir.Function) -> list[str]:
        """A function: its domain and versions, formal attributes, and body."""
        imports = self.header(function.graph)[0][1:-1]
        formal = [
            name if attribute.value is None else attribute_text(attribute)
            for name, attribute in sorted(function.attributes.items())
        ]
        title = name_text(function.name) + (f":{function.overload}" if function.overload else "")
        title += f" <{', '.join(formal)}>" if formal else ""
        inputs = ", ".join(self._name(value) for value in function.inputs)
        body = [*self._nodes(function.graph, _INDENT)]
        outputs = ", ".join(self._name(value) for value in function.outputs)
        return [
            f"<domain: {string_text(function.domain)}, {imports}>",
            f"{title} ({inputs}) => ({outputs})",
            "{",
            *body,
            "}",
        ]

    def graph(self, graph: ir.Graph, title: str, indent: str) -> list[str]:
        """A graph: interface, constants and nodes; the names of a main graph's interface stay."""
        if not indent:
            for value in (*graph.inputs, *graph.outputs):
                if value.name:
                    self._note(value, value.name)
                    self._reserved.add(value.name)
        inputs = ", ".join(self._typed(value) for value in graph.inputs)
        body = [*self._nodes(graph, indent + _INDENT)]
        outputs = ", ".join(self._typed(value) for value in graph.outputs)
        constants = self._constants(graph, indent)
        if self._keep and not indent:
            title = name_text(graph.name or title)
        return [
            f"{title} ({inputs}) => ({outputs})",
            *constants,
            indent + "{",
            *body,
            indent + "}",
        ]

    def _constants(self, graph: ir.Graph, indent: str) -> list[str]:
        last = len(self._positions)
        values = sorted(graph.initializers.values(), key=lambda v: self._positions.get(v, last))
        used = sum(v in self._positions for v in values)
        values[used:] = sorted(values[used:], key=_content)
        lines = []
        for position, value in enumerate(values, 1):
            comma = "," if position < len(values) else ""
            lines.append(f"{indent}{_INDENT}{self._constant(value, comma)}")
        return [f"{indent}<", *lines, f"{indent}>"] if lines else []

    def _constant(self, value: ir.Value, comma: str) -> str:
        name, tensor = name_text(self._name(value)), value.const_value
        if tensor is None:
            return f"{type_text(value.type, self._shape(value))} {name}{comma}"
        elements = elements_text(tensor)
        if elements is None:
            return f"{tensor_type(tensor)} {name}{comma}  # {tensor_digest(tensor)}"
        return f"{tensor_type(tensor)} {name} = {elements}{comma}"

    def _nodes(self, graph: ir.Graph, indent: str) -> Iterator[str]:
        order = self._flow.order(graph)
        for node in order.live:
            yield self._node(node, indent)
        if order.dead:
            yield f"{indent}# used by nothing"
        for node in order.dead:
            yield self._node(node, indent)

    def _node(self, node: ir.Node, indent: str) -> str:
        inputs = list(node.inputs)
        while inputs and inputs[-1] is None:
            inputs.pop()
        arguments = ", ".join('""' if v is None else name_text(self._name(v)) for v in inputs)
        attributes = [
            self._body(attribute, indent)
            if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
            else attribute_text(attribute)
            for attribute in attributes_of(node, self._opsets).values()
        ]
        outputs = ", ".join(
            '""' if value.name == "" else name_text(self._name(value)) for value in node.outputs
        )
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        operator += f":{node.overload}" if node.overload else ""
        options = f" <{', '.join(attributes)}>" if attributes else ""
        line = f"{indent}{outputs} = {operator}{options} ({arguments})"
        return line + self._comment(node.outputs)

    def _body(self, attribute: ir.Attr, indent: str) -> str:
        if attribute.is_ref():
            return attribute_text(attribute)
        if attribute.type == ir.AttributeType.GRAPH:
            lines = self.graph(attribute.as_graph(), "body", indent + _INDENT)
            return f"{attribute.name} = " + "\n".join(lines)
        graphs = [self.graph(body, "body", indent + _INDENT) for body in attribute.as_graphs()]
        return f"{attribute.name} = [" + ", ".join("\n".join(lines) for lines in graphs) + "]"

    def _comment(self, values: Iterable[ir.Value]) -> str:
        values = list(values)
        if not self._types or all(v.type is None for v in values):
            return ""
        kinds = (type_text(v.type, self._shape(v)) or "?" for v in values if v.name != "")
        return f"  # {', '.join(kinds)}"

    def _typed(self, value: ir.Value) -> str:
        kind = type_text(value.type, self._shape(value))
        return f"{kind} {name_text(self._name(value))}".lstrip()

    def _shape(self, value: ir.Value) -> list[int | str | None] | None:
        dims = shape_key(value.shape)
        if dims is None or self._keep:
            return dims
        return [self._dim(d) if isinstance(d, str) else d for d in dims]

    def _dim(self, name: str) -> str:
        """A dimension's name; names that shape inference invented are numbered by appearance."""
        if "_d" not in name:
            return name
        return INVENTED.sub(
            lambda m: self._dims.setdefault(m.group(), f"_d{len(self._dims)}"), name
        )

    def _name(self, value: ir.Value) -> str:
        known = self._names.get(value)
        if known is not None:
            return known
        if self._keep and value.name:
            name = value.name
        else:
            letter = "w" if value.producer() is None and value.is_initializer() else "v"
            name = self._fresh(letter)
        self._note(value, name)
        return name

    def _note(self, value: ir.Value, name: str) -> None:
        self._positions.setdefault(value, len(self._positions))
        self._names[value] = name

    def _fresh(self, letter: str) -> str:
        while (name := f"{letter}{self._counts[letter]}") in self._reserved:
            self._counts[letter] += 1
        self._counts[letter] += 1
        return name


def _content(value: ir.Value) -> str:
    return "" if value.const_value is None else tensor_digest(value.const_value)
