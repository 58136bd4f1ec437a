"""The two sides of a rewrite as models of their own, to be judged on drawn inputs."""

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from addax.errors import UnsupportedOpError
from addax.ir.builder import Replacement
from addax.ir.query import constant_tensor

_GRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})


def sides(
    replacement: Replacement, nodes: Sequence[ir.Node], model: ir.Model
) -> tuple[ir.Model, ir.Model]:
    """A model of the old nodes and one of the new ones, with what both read as inputs.

    Raises:
        UnsupportedOpError: A node has subgraphs, or an input has no known type or rank.
    """
    pairs = zip(replacement.root.outputs, replacement.outputs, strict=False)
    ends = [(old, new) for old, new in pairs if new is not None and old.name != ""]
    bodies = [node for body in replacement.bodies for node in body]
    before = _Side(model, nodes)
    # What the new side reads may be made by the old nodes.
    after = _Side(model, [*nodes, *bodies, *replacement.nodes])
    outputs = [before.output(old) for old, _ in ends], [after.output(new) for _, new in ends]
    leaves = list(dict.fromkeys([*before.leaves, *after.leaves]))
    for k, (a, b) in enumerate(zip(*outputs, strict=True)):
        a.type = b.type = a.type or b.type
        a.name = b.name = f"y{k}"
    return before.model(leaves, outputs[0]), after.model(leaves, outputs[1])


class _Side:
    """Copies nodes with what they read; what nobody makes becomes an input or an initializer."""

    def __init__(self, model: ir.Model, nodes: Iterable[ir.Node]) -> None:
        self.leaves: list[ir.Value] = []
        self._source = model
        self._copies: dict[ir.Value, ir.Value] = {}
        self._constants: list[ir.Value] = []
        self._nodes = [self._node(node) for node in nodes]

    def _node(self, node: ir.Node) -> ir.Node:
        if any(attr.type in _GRAPHS or attr.is_ref() for attr in node.attributes.values()):
            raise UnsupportedOpError(f"{node.op_type} has subgraphs")
        made = ir.Node(
            node.domain,
            node.op_type,
            [None if v is None or v.name == "" else self.copy(v) for v in node.inputs],
            list(node.attributes.values()),
            overload=node.overload,
            num_outputs=len(node.outputs),
        )
        for old, new in zip(node.outputs, made.outputs, strict=True):
            new.name = "" if old.name == "" else f"v{len(self._copies)}"
            new.type, new.shape = old.type, old.shape
            self._copies[old] = new
        return made

    def copy(self, value: ir.Value) -> ir.Value:
        """The value's copy."""
        if value not in self._copies:
            tensor = constant_tensor(value)
            made = ir.Value(
                name=f"v{len(self._copies)}", type=value.type, shape=value.shape, const_value=tensor
            )
            self._copies[value] = made
            if tensor is None:
                self._require_known(value)
                self.leaves.append(value)
            else:
                made.type, made.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
                self._constants.append(made)
        return self._copies[value]

    def output(self, value: ir.Value) -> ir.Value:
        """A value of its own for an output, which may be an input or a constant too."""
        node = ir.Node("", "Identity", [self.copy(value)], num_outputs=1)
        self._nodes.append(node)
        node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
        return node.outputs[0]

    def _require_known(self, value: ir.Value) -> None:
        if value.dtype is None or value.shape is None:
            raise UnsupportedOpError(f"the type or rank of {value.name!r} is not known")

    def model(self, leaves: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Model:
        """The model; both sides have the same inputs."""
        inputs = [self.copy(value) for value in leaves]
        for k, value in enumerate(inputs):
            value.name = f"x{k}"
        for k, value in enumerate(self._constants):
            value.name = f"c{k}"
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=self._nodes,
            initializers=self._constants,
            opset_imports=dict(self._source.opset_imports),
            name="side",
        )
        return ir.Model(graph, ir_version=10, functions=list(self._source.functions.values()))
