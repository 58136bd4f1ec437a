"""What a build function builds with: new nodes and constants that hang beside the graph.

Nothing in the graph changes while a build function runs; `addax.ir.rewriter` commits the
finished replacement, or drops it whole.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir import folding
from addax.ir.dialect import DOMAIN, operators
from addax.ir.query import constant_tensor
from addax.ir.rule import decline
from addax.ir.shapes import ShapeInference


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a folded constant was computed: output `index` of `count` of an operator on constants."""

    op_type: str
    inputs: tuple[ir.Value | None, ...]
    attributes: dict[str, Any]
    index: int = 0
    count: int = 1

    @property
    def onnx_attributes(self) -> dict[str, ir.Attr]:
        """The attributes as those of a node."""
        return {attr.name: attr for attr in _as_attributes(self.attributes)}


@dataclass(slots=True)
class Replacement:
    """A prepared rewrite: new values for a root node's outputs, and what makes them.

    `constants` maps each new constant to the name it would like, `folded` each one that was
    computed to its derivation (oldest first), `exact` to its unrounded array. `bodies` are
    subgraphs of the root whose nodes move to the root's own graph.
    """

    root: ir.Node
    in_function: bool = False
    outputs: tuple[ir.Value, ...] = ()
    nodes: list[ir.Node] = field(default_factory=list)
    constants: dict[ir.Value, str] = field(default_factory=dict)
    folded: dict[ir.Value, Derivation] = field(default_factory=dict)
    exact: dict[ir.Value, np.ndarray] = field(default_factory=dict)
    bodies: list[ir.Graph] = field(default_factory=list)


class Builder:
    """The `op` of a build function: `op.MatMul(x, w)` makes a node and returns its output.

    Numbers, lists and arrays among the inputs become constants. An operator whose inputs are
    all constants is computed on the spot, in float64, and rounded once, to the element type
    that the operator would have had, where the graph reads it.
    """

    def __init__(
        self, replacement: Replacement, shapes: ShapeInference, opset: int, domain: str = ""
    ) -> None:
        self._replacement, self._shapes, self._domain = replacement, shapes, domain
        self._opset = opset

    @property
    def root(self) -> ir.Node:
        """The node whose outputs are being replaced."""
        return self._replacement.root

    @property
    def opset(self) -> int:
        """The version of the standard domain that the model imports."""
        return self._opset

    @property
    def in_function(self) -> bool:
        """Whether the root belongs to a model-local function, which has no initializers."""
        return self._replacement.in_function

    def domain(self, name: str) -> "Builder":
        """The same builder for the operators of another domain."""
        return Builder(self._replacement, self._shapes, self._opset, name)

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if op_type.startswith("_"):
            raise AttributeError(op_type)
        return functools.partial(self._make, op_type)

    def _make(self, op_type: str, *inputs: Any, _outputs: int = 1, **attributes: Any) -> Any:
        like = next((v.dtype for v in inputs if isinstance(v, ir.Value)), None)
        values = tuple(self._value(item, like) for item in inputs)
        given = {name: item for name, item in attributes.items() if item is not None}
        if not self._domain and values and all(map(self._is_constant, values)):
            made = self._fold(op_type, values, given, _outputs)
        else:
            node = ir.Node(
                self._domain, op_type, values, _as_attributes(given), num_outputs=_outputs
            )
            self._replacement.nodes.append(node)
            self._shapes.infer(node)
            if self._domain == DOMAIN:
                operators()[op_type].shape(node)
            made = tuple(node.outputs)
        return made[0] if _outputs == 1 else made

    def _is_constant(self, value: ir.Value | None) -> bool:
        made = self._replacement.exact
        return value is None or value in made or constant_tensor(value) is not None

    def _fold(
        self,
        op_type: str,
        values: tuple[ir.Value | None, ...],
        attributes: dict[str, Any],
        outputs: int,
    ) -> tuple[ir.Value, ...]:
        take = self._stored if op_type in folding.MOVEMENT else self.exact
        arrays = [None if v is None else take(v) for v in values]
        dtypes = [None if v is None else v.dtype for v in values]
        results = folding.compute(op_type, arrays, dtypes, attributes, self._opset, outputs)
        made = []
        for index, (array, dtype) in enumerate(results):
            value = self._register(array, dtype, _largest_name(values))
            self._replacement.folded[value] = Derivation(
                op_type, values, attributes, index, outputs
            )
            made.append(value)
        return tuple(made)

    def _register(self, array: np.ndarray, dtype: ir.DataType, hint: str) -> ir.Value:
        value = ir.Value(
            const_value=folding.round_to(array, dtype),
            type=ir.TensorType(dtype),
            shape=ir.Shape(array.shape),
        )
        self._replacement.exact[value] = array
        self._replacement.constants[value] = hint
        return value

    def exact(self, value: ir.Value) -> np.ndarray:
        """The array of a constant: in float64, and unrounded where this rewrite computed it."""
        array = self._stored(value)
        is_floating = value.dtype is not None and value.dtype.is_floating_point()
        return array.astype(np.float64, copy=False) if is_floating else array

    def _stored(self, value: ir.Value) -> np.ndarray:
        """The array of a constant, in whatever precision there is."""
        made = self._replacement.exact.get(value)
        if made is not None:
            return made
        tensor = constant_tensor(value)
        if tensor is None:
            decline("operand is not constant", value)
        return np.asarray(tensor.numpy())

    def inline(self, body: ir.Graph) -> tuple[ir.Value, ...]:
        """The outputs of a subgraph of the root, whose nodes are to move to the root's graph."""
        self._replacement.bodies.append(body)
        return tuple(body.outputs)

    def contents(self, value: ir.Value) -> tuple[int | str | None, ...] | None:
        """The elements of an integer tensor of rank 0 or 1: numbers, names of sizes, or None.

        None in place of the tuple if not even the number of elements is known.
        """
        return self._shapes.contents(value)

    def source(self, name: str) -> tuple[ir.Value, int] | None:
        """The first input of the model with an axis whose size is called `name`, and that axis."""
        return None if self.in_function else self._shapes.source(name)

    def initializer(self, array: np.ndarray, name: str = "constant") -> ir.Value:
        """A new constant with the array's own element type."""
        return self._register(array, ir.DataType.from_numpy(array.dtype), name)

    def _value(self, item: Any, like: ir.DataType | None) -> ir.Value | None:
        """A value for what a build function passed: values as they are, numbers as constants."""
        if item is None or isinstance(item, ir.Value):
            return item
        array = np.asarray(item)
        if isinstance(item, np.ndarray):
            return self.initializer(array)
        if array.size and array.dtype.kind == "f":
            return self.initializer(array.astype((like or ir.DataType.FLOAT).numpy()))
        return self.initializer(array.astype(np.int64) if array.size == 0 else array)


def _as_attributes(given: dict[str, Any]) -> list[ir.Attr]:
    return [
        item if isinstance(item, ir.Attr) else ir.convenience.convert_attribute(name, item)
        for name, item in given.items()
    ]


def _largest_name(values: tuple[ir.Value | None, ...]) -> str:
    """The name of the largest constant that a folded constant is made of."""
    named = [(v.const_value.size, v.name) for v in values if v is not None and v.const_value]
    return max(((size, name) for size, name in named if name), default=(0, "folded"))[1]
