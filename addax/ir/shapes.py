"""Types and shapes of values: filled in for a whole model, or for one new node.

Rules of our own cover the operators that networks consist of, in a few microseconds each;
`_shape_fallback` asks ONNX and onnx-shape-inference for the rest. What is not known stays
None, or gets a name of its own (`_d0`) so that equal sizes can still be seen to be equal.
"""

import logging
from collections.abc import Sequence

import onnx_ir as ir

from addax.errors import InvalidGraphError
from addax.ir import _shape_fallback, _shape_layout, _shape_rules
from addax.ir._dims import UNKNOWN, Dim, NameMint, is_invented, is_known, show, words
from addax.ir._shape_data import ShapeData, has_reference
from addax.ir._shape_scopes import SCOPED, Calls, infer_scoped, own_type
from addax.ir.origin import describe

__all__ = ["ShapeInference", "infer_shapes"]

logger = logging.getLogger(__name__)

_RULES = {**_shape_rules.RULES, **_shape_layout.RULES}
_FIRST_OPSET = 7  # before it, elementwise operators broadcast by an attribute


def infer_shapes(model: ir.Model) -> bool:
    """Fill in the type and shape of every value of the main graph and its subgraphs.

    Known facts stay, and are refined: numbers take the place of names and names of unknowns.
    What the graph declares of its own outputs is only completed. The bodies of functions keep
    what they have, since every call may have other shapes; the calls get theirs.

    Returns:
        Whether anything was filled in.

    Raises:
        InvalidGraphError: If shapes contradict each other; names the node.
    """
    inference = ShapeInference(model)
    inference.infer_graph(model.graph)
    return inference.changed


class ShapeInference:
    """Infers node by node; remembers the contents of shape tensors and the calls it has seen."""

    def __init__(self, model: ir.Model) -> None:
        self.changed = False
        self._functions = model.functions
        self._inputs = tuple(model.graph.inputs)
        self._sources: dict[str, tuple[ir.Value, int]] | None = None
        self._opsets = dict(model.opset_imports)
        self._mint = NameMint(lambda: _dimension_names(model))
        self._data = ShapeData()
        self._calls = Calls(self._data)
        self._set_rules()

    def _set_rules(self) -> None:
        self._rules = _RULES if self._opsets.get("", _FIRST_OPSET) >= _FIRST_OPSET else {}

    def _within(self, function: ir.Function) -> "ShapeInference":
        """The same inference under the operator sets that a function imports."""
        inner = object.__new__(ShapeInference)
        inner.__dict__.update(self.__dict__)
        inner._opsets = {**self._opsets, **function.opset_imports}
        inner._set_rules()
        return inner

    def contents(self, value: ir.Value) -> tuple[int | str | None, ...] | None:
        """The elements of an integer tensor of rank 0 or 1, as `query.shape` gives dimensions."""
        data = self._data.of(value)
        return None if data is None else tuple(d if isinstance(d, int) else d.value for d in data)

    def source(self, name: str) -> tuple[ir.Value, int] | None:
        """The first input of the model with an axis whose size is called `name`, and that axis."""
        if self._sources is None:
            self._sources = {}
            for value in self._inputs:
                if isinstance(value.type, ir.SequenceType):
                    continue  # its shape is that of its elements, and Shape takes no sequence
                for axis, dim in enumerate(value.shape or ()):
                    if not isinstance(dim, int) and dim.value is not None:
                        self._sources.setdefault(dim.value, (value, axis))
        return self._sources.get(name)

    def infer_graph(self, graph: ir.Graph) -> None:
        """Fill in what the nodes of a graph, which is sorted, leave open.

        Raises:
            InvalidGraphError: If shapes contradict each other; names the node.
        """
        for value in graph.inputs:
            self._correct(value)
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None:
                self._complete_initializer(value, tensor)
        for node in graph:
            if node.op_type in SCOPED or not _is_complete(node):
                self.infer(node)

    def infer(self, node: ir.Node) -> None:
        """Fill in the outputs of one node from its inputs. Unknown stays unknown.

        Raises:
            InvalidGraphError: If its inputs do not fit together, or not the declared outputs.
        """
        try:
            self._infer(node)
        except InvalidGraphError as error:
            raise InvalidGraphError(f"{describe(node)}: {error}") from None

    def learn(self, node: ir.Node) -> bool:
        """Infer a node again whose inputs may be better known now; whether its outputs are."""
        if node.op_type in SCOPED or _is_complete(node):
            return False
        before = [(value.type, value.shape and value.shape.copy()) for value in node.outputs]
        self.infer(node)
        return before != [(value.type, value.shape) for value in node.outputs]

    def _infer(self, node: ir.Node) -> None:
        key = (node.domain, node.op_type, node.overload)
        if self._functions and key in self._functions:
            function = self._functions[key]
            inner = self._within(function)
            self._assign_all(node.outputs, self._calls.infer(node, function, inner.infer_graph))
            return
        if not node.domain:
            if node.op_type in SCOPED:
                self._assign_all(node.outputs, infer_scoped(node, self.infer_graph))
                return
            rule = self._rules.get(node.op_type)
            if rule is not None and self._apply(rule, node):
                return
        self._assign_all(node.outputs, _shape_fallback.by_onnx(node, self._opsets))
        if not _is_complete(node):
            self._ask_package(node)

    def _ask_package(self, node: ir.Node) -> None:
        """Take what onnx-shape-inference adds, where it does not contradict what is declared."""
        found = _shape_fallback.by_package(node, self._data, self._opsets, self._mint)
        for value, fact in zip(node.outputs, found or (), strict=False):
            try:
                self._assign_all((value,), (fact,))
            except InvalidGraphError as error:
                logger.debug("onnx-shape-inference on %s: %s", describe(node), error)

    def _apply(self, rule: _shape_rules.Rule, node: ir.Node) -> bool:
        """Whether the rule covers the node; its outputs are then filled in."""
        if has_reference(node):
            return False
        try:
            fact = rule(node, self._data)
        except InvalidGraphError:
            raise
        except (AttributeError, IndexError, TypeError, ValueError):
            return False  # operands or attributes are missing: `verify` says which
        if fact is None:
            return False
        if isinstance(fact, tuple):
            self._assign(node.outputs[0], fact[0], fact[1])
        else:
            for value, (dtype, shape) in zip(node.outputs, fact, strict=False):
                self._assign(value, dtype, shape)
        return True

    def _assign_all(
        self,
        values: Sequence[ir.Value],
        found: Sequence[tuple[ir.TypeProtocol | None, Sequence[Dim] | None]] | None,
    ) -> None:
        for value, (kind, shape) in zip(values, found or (), strict=False):
            if value.type is None and kind is not None:
                value.type = own_type(kind)
                self.changed = True
            self._assign(value, None if kind is None else kind.dtype, shape)

    def _assign(
        self, value: ir.Value, dtype: ir.DataType | None, shape: Sequence[Dim] | None
    ) -> None:
        if dtype is not None:
            if value.type is None:
                value.type = ir.TensorType(dtype)
                self.changed = True
            elif value.type.dtype != dtype:
                raise InvalidGraphError(
                    f"its output {value.name!r} is declared as {value.type.dtype}, "
                    f"but the operands make it {dtype}"
                )
        if shape is None:
            return
        known = value.shape
        if known is None:
            for dim in shape:
                if not isinstance(dim, int):
                    shape = [self._named(d, value) for d in shape]
                    break
            value.shape = ir.Shape(shape)
            self.changed = True
        else:
            self._correct(value)
            self._refine(value, value.shape or known, shape)

    def _named(self, dim: Dim, value: ir.Value) -> Dim:
        """The dimension as it may stand on a value: no invented names in a graph's interface."""
        if isinstance(dim, int):
            return dim
        if value.is_graph_output():
            return UNKNOWN if is_invented(dim) else dim
        return dim if dim.value is not None else self._mint.fresh()

    def _correct(self, value: ir.Value) -> None:
        """Some exporters write -1 for a size that nobody knows."""
        if value.shape is not None and any(isinstance(d, int) and d < 0 for d in value.shape):
            value.shape = ir.Shape(
                [UNKNOWN if isinstance(d, int) and d < 0 else d for d in value.shape]
            )
            self.changed = True

    def _refine(self, value: ir.Value, known: ir.Shape, shape: Sequence[Dim]) -> None:
        if len(known) != len(shape):
            raise InvalidGraphError(
                f"its output {value.name!r} is declared as {show(known)}, "
                f"but the operands make it {show(shape)}"
            )
        result: list[Dim] = []
        for declared, found in zip(known, shape, strict=True):
            if isinstance(declared, int) and isinstance(found, int) and declared != found:
                raise InvalidGraphError(
                    f"its output {value.name!r} is declared as {show(known)}, "
                    f"but the operands make it {show(shape)}"
                )
            is_better = isinstance(found, int) and not value.is_graph_output()
            result.append(
                found
                if is_better and not isinstance(declared, int)
                else declared
                if is_known(declared)
                else self._named(found, value)
            )
        if result != list(known):
            value.shape = ir.Shape(result)
            self.changed = True

    def _complete_initializer(self, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        if value.type is None:
            value.type = ir.TensorType(tensor.dtype)
            self.changed = True
        if value.shape is None:
            value.shape = ir.Shape(tensor.shape.numpy())
            self.changed = True
        elif value.shape != tensor.shape and not value.is_graph_input():
            self._refine_initializer(value, tensor)

    def _refine_initializer(self, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        declared = value.shape
        actual = tensor.shape.numpy()
        fits = declared is not None and len(declared) == len(actual)
        if not fits or any(
            isinstance(d, int) and d != a for d, a in zip(declared or (), actual, strict=True)
        ):
            raise InvalidGraphError(
                f"initializer {value.name!r} is declared as {show(declared)}, "
                f"but its tensor is {show(actual)}: correct the declaration"
            )
        value.shape = ir.Shape(actual)
        self.changed = True


def _is_complete(node: ir.Node) -> bool:
    """Whether inference could add nothing: all is known, and no number can replace a name."""
    has_name = False
    for value in node.outputs:
        if value.name == "":
            continue
        shape = value.shape
        if value.type is None or shape is None:
            return False
        for dim in shape:
            if isinstance(dim, int):
                if dim < 0:
                    return False
            elif dim.value is None:
                return False
            else:
                has_name = True
    return not has_name or not all(v is None or _is_static(v) for v in node.inputs)


def _is_static(value: ir.Value) -> bool:
    return value.shape is not None and value.shape.is_static()


def _dimension_names(model: ir.Model) -> set[str]:
    """Every word in a dimension of the model, so that invented names are new."""
    names: set[str] = set()
    for graph in model.graphs():
        values = [*graph.inputs, *(v for node in graph for v in node.outputs)]
        for value in values:
            if value.shape is not None:
                names.update(d.value for d in value.shape if not isinstance(d, int) and d.value)
    return {word for name in names for word in words(ir.SymbolicDim(name))}
