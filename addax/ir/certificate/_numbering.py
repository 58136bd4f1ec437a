"""Numbers for the values of a model: names change while it is rewritten, numbers do not."""

import onnx_ir as ir

from addax.ir.model import scopes
from addax.ir.query import constant_tensor


class Numbering:
    """Every value of a model by number, in the order of its scopes, and those that come later."""

    def __init__(self, model: ir.Model) -> None:
        self.values: list[ir.Value] = []
        self._numbers: dict[ir.Value, int] = {}
        for scope in scopes(model):
            for value in scope.inputs:
                self.add(value)
            # Files keep them in any order.
            initializers = getattr(scope, "initializers", {})
            for name in sorted(initializers):
                self.add(initializers[name])
            for node in scope:
                for value in node.outputs:
                    self.add(value)

    def add(self, value: ir.Value) -> int:
        """The number of a value, the next one if it has none."""
        if value not in self._numbers:
            self._numbers[value] = len(self.values)
            self.values.append(value)
        return self._numbers[value]

    def __contains__(self, value: ir.Value) -> bool:
        return value in self._numbers

    def __getitem__(self, value: ir.Value) -> int:
        return self._numbers[value]


def lift_constants(model: ir.Model) -> None:
    """Turn Constant nodes into initializers, as rewriting begins; those of functions stay."""
    functions = {id(function.graph) for function in model.functions.values()}
    for graph in model.graphs():
        if id(graph) in functions:
            continue
        for node in [n for n in graph if n.op_type == "Constant" and not n.domain]:
            old = node.outputs[0]
            tensor = constant_tensor(old)
            if tensor is None or old.is_graph_output():
                continue
            name, old.name = old.name, None
            made = ir.Value(
                name=name,
                type=old.type or ir.TensorType(tensor.dtype),
                shape=ir.Shape(tensor.shape.numpy()),
                const_value=tensor,
            )
            graph.register_initializer(made)
            old.replace_all_uses_with(made)
            graph.remove(node)
