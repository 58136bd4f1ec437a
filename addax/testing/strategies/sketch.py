"""A graph under construction: every value carries its shape, so that what is added fits.

Choices come from genes, short byte strings that Hypothesis draws and shrinks: byte 0 makes the
simplest choice, and a gene that is too short reads as zeros.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir

Dims = tuple[int | str, ...]
T = TypeVar("T")

FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


class Genes:
    """Choices read from a byte string."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def below(self, count: int) -> int:
        """A number in range(count)."""
        self._at += 1
        return self._data[self._at - 1] % count if self._at <= len(self._data) else 0

    def pick(self, options: Sequence[T]) -> T:
        """One of the options; the first is the simplest."""
        return options[self.below(len(options))]

    def flip(self, chance: float = 0.5) -> bool:
        """True with this probability."""
        return self.below(256) >= 256 * (1 - chance)


class Names:
    """Fresh names, and one generator of numbers, for a whole model."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._counts: dict[str, int] = {}

    def fresh(self, hint: str) -> str:
        """`hint` with the next number."""
        self._counts[hint] = count = self._counts.get(hint, 0) + 1
        return f"{hint}{count}"


class Sketch:
    """One scope. `live` lists the values that later nodes may read, the newest last."""

    def __init__(
        self,
        genes: Genes,
        names: Names,
        opset: int,
        dtype: ir.DataType,
        outer: "Sketch | None" = None,
        *,
        is_function: bool = False,
    ) -> None:
        self.genes, self.names, self.opset, self.dtype = genes, names, opset, dtype
        self.outer, self.is_function = outer, is_function
        self.nodes: list[ir.Node] = []
        self.inputs: list[ir.Value] = []
        self.initializers: list[ir.Value] = []
        self.live: list[ir.Value] = []
        self.functions: list[ir.Function] = [] if outer is None else outer.functions

    def child(self) -> "Sketch":
        """A subgraph, which may read what this scope has made so far."""
        inner = Sketch(self.genes, self.names, self.opset, self.dtype, self)
        inner.live = list(self.live)
        return inner

    # Values

    def value(self, dims: Dims, dtype: ir.DataType, hint: str) -> ir.Value:
        """A value that nothing makes yet."""
        name = self.names.fresh(hint)
        return ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(dtype))

    def input(self, dims: Dims, dtype: ir.DataType | None = None) -> ir.Value:
        """A new input of this scope."""
        made = self.value(dims, dtype or self.dtype, "x")
        self.inputs.append(made)
        self.live.append(made)
        return made

    def constant(self, array: Any, dtype: ir.DataType | None = None) -> ir.Value:
        """A constant: an initializer, or the output of a Constant node.

        Floating arrays get the graph's element type unless told otherwise.
        """
        array = np.asarray(array)
        if dtype is not None or array.dtype.kind == "f":
            array = array.astype((dtype or self.dtype).numpy())
        tensor = ir.tensor(array)
        made = self.value(array.shape, tensor.dtype, "c")
        tensor.name = made.name
        if self.is_function or self.genes.flip(0.2):
            attribute = ir.AttrTensor("value", tensor)
            self.nodes.append(ir.Node("", "Constant", (), [attribute], outputs=[made]))
        else:
            made.const_value = tensor
            self.initializers.append(made)
        return made

    def numbers(self, dims: Sequence[int]) -> np.ndarray:
        """Numbers of moderate size, in one of several styles."""
        rng = self.names.rng
        match self.genes.below(8):
            case 0 | 1 | 2:
                return np.round(rng.standard_normal(dims), 3)
            case 3:
                return rng.integers(-3, 4, dims).astype(np.float64)
            case 4:
                return np.ones(dims)
            case 5:
                return np.zeros(dims)
            case 6:
                return np.full(dims, self.genes.pick([-1.0, 2.0, 0.5, 9e-9, 1 + 1e-6]))
            case _:
                return rng.random(dims) + 0.5

    # Nodes

    def emit(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        dims: Any,
        dtype: ir.DataType | None = None,
        *,
        domain: str = "",
        outputs: int = 1,
        **attributes: Any,
    ) -> Any:
        """Add a node; `dims` is the shape of its output, or a list of shapes for several."""
        shapes: list[Dims] = [dims] if outputs == 1 else list(dims)
        dtype = dtype or next((v.dtype for v in inputs if v is not None), None) or self.dtype
        made = [self.value(tuple(shape), dtype, "v") for shape in shapes]
        attrs = [
            item if isinstance(item, ir.Attr) else ir.convenience.convert_attribute(name, item)
            for name, item in attributes.items()
        ]
        name = self.names.fresh(op_type.lower())
        self.nodes.append(ir.Node(domain, op_type, inputs, attrs, outputs=made, name=name))
        self.live += made
        return made[0] if outputs == 1 else made

    def unary(self, op_type: str, x: ir.Value, **attributes: Any) -> ir.Value:
        """Add a node whose output is like its input."""
        return self.emit(op_type, [x], dims_of(x), **attributes)

    def binary(self, op_type: str, a: ir.Value, b: ir.Value, dtype: Any = None) -> ir.Value:
        """Add an elementwise node with broadcasting; its operands must fit."""
        dims = broadcast(dims_of(a), dims_of(b))
        if dims is None:
            raise ValueError(f"{dims_of(a)} and {dims_of(b)} do not broadcast")
        return self.emit(op_type, [a, b], dims, dtype)

    # Operands

    def operand(self, fits: Callable[[ir.Value], bool] | None = None, rank: int = 3) -> ir.Value:
        """A live value that fits, newer ones rather than older; else a new input of this rank."""
        found = self.find(fits)
        return found if found is not None else self.fresh_operand(rank)

    def find(self, fits: Callable[[ir.Value], bool] | None = None) -> ir.Value | None:
        """A live floating value that fits, if there is one."""
        able = [v for v in self.live[::-1] if v.dtype in FLOATS and (fits is None or fits(v))]
        if not able:
            return None
        return able[min(self.genes.below(8) // 2, len(able) - 1)]

    def fresh_operand(self, rank: int) -> ir.Value:
        """A new value of this rank: an input where the scope may have one, else a constant."""
        sizes = [2, 3, 4, 1, 5]
        dims: list[int | str] = [self.genes.pick(sizes) for _ in range(rank)]
        root = self
        while root.outer is not None:
            root = root.outer
        if root.is_function or root is not self:
            made = self.constant(self.numbers([d for d in dims if isinstance(d, int)]))
            self.live.append(made)
            return made
        if dims and self.genes.flip(0.4):
            dims[0] = "N"
        elif dims and self.genes.flip(0.05):
            dims[self.genes.below(len(dims))] = 0
        return self.input(tuple(dims))


def dims_of(value: ir.Value) -> Dims:
    """The dimensions of a value: numbers, or names of symbolic ones."""
    if value.shape is None:
        raise ValueError(f"{value.name} has no shape")
    return tuple(d if isinstance(d, int) else str(d.value) for d in value.shape)


def static(dims: Dims) -> bool:
    """Whether every dimension is a number and none is 0."""
    return all(isinstance(d, int) and d > 0 for d in dims)


def broadcast(a: Dims, b: Dims) -> Dims | None:
    """The shape of an elementwise operator's output; None where the operands do not fit."""
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    if any(i != j and i != 1 and j != 1 for i, j in zip(a, b, strict=True)):
        return None
    return tuple(j if i == 1 else i for i, j in zip(a, b, strict=True))


def at_least(rank: int, *, known: int = 0) -> Callable[[ir.Value], bool]:
    """A condition for operands: this rank or more, the last `known` sizes static and not 0."""

    def fits(v: ir.Value) -> bool:
        dims = dims_of(v)
        return rank <= len(dims) <= 5 and static(dims[len(dims) - known :])

    return fits
