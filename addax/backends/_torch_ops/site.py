"""What a converter may ask about the node that it converts."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import onnx_ir as ir
import torch

from addax.backends._torch_ops.dtypes import torch_dtype
from addax.backends._torch_ops.scope import Scope
from addax.backends._torch_ops.values import Entry, Integers

Result = TypeVar("Result")


class Unsupported(Exception):  # noqa: N818  # not an error yet: the conversion collects them
    """A converter's refusal: the reason why a node has no meaning in torch."""


@dataclass(slots=True)
class Site:
    """A node being converted, and the ways to record what it does."""

    node: ir.Node
    opset: int
    scope: Scope
    _record: Callable[[ir.Graph, Scope], None]
    _module: Callable[[ir.Graph, Sequence[ir.Value], Scope], torch.fx.GraphModule]

    @property
    def outputs(self) -> int:
        """How many outputs are wanted: those after the last one with a name or a use are not."""
        wanted = [bool(v.name) or bool(v.uses()) for v in self.node.outputs]
        return max((k + 1 for k, is_wanted in enumerate(wanted) if is_wanted), default=1)

    def decline(self, reason: str) -> NoReturn:
        """Refuse the node.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(reason)

    def require(self, condition: bool, reason: str) -> None:
        """Refuse the node unless the condition holds."""
        if not condition:
            self.decline(reason)

    def call(self, target: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Record a call of a function that takes no tensor, or that must not be looked into."""
        made: Result = self.scope.recorder.call(target, *args, **kwargs)
        return made

    @property
    def device(self) -> Any:
        """Where tensors made out of nothing belong."""
        return self.scope.recorder.device

    def as_size(self, item: Any, name: str | None = None) -> int:
        """Remember that a recorded integer is a size: it is never negative.

        Names that inference has made up are forgotten, for each function has its own.
        """
        if isinstance(item, torch.fx.Proxy):
            named = name if name and not _MADE_UP.fullmatch(name) else None
            self.scope.recorder.sizes[item.node] = named
        size: int = item
        return size

    def is_size(self, item: Any) -> bool:
        """Whether an integer, recorded or not, is certainly not negative."""
        if isinstance(item, torch.fx.Proxy):
            return item.node in self.scope.recorder.sizes
        return isinstance(item, int) and item >= 0

    def size_name(self, item: Any) -> str | None:
        """The name of the dimension that a recorded integer is, if the model names it."""
        recorded = isinstance(item, torch.fx.Proxy)
        return self.scope.recorder.sizes.get(item.node) if recorded else None

    def value(self, index: int) -> ir.Value | None:
        """Input number `index`."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def tensor(self, index: int) -> torch.Tensor:
        """An input as a tensor, in whichever form the converter was given it."""
        value = cast("ir.Value", self.node.inputs[index])
        tensor: torch.Tensor = self.scope.entry(value).tensor
        return tensor

    def integers(self, index: int) -> Integers | None:
        """An input as integers in Python, if it is a small constant or came from a shape."""
        value = self.value(index)
        return None if value is None else self.scope.entry(value).integers

    def constant(self, index: int) -> np.ndarray | None:
        """The array of an input that is constant; None otherwise."""
        value = self.value(index)
        tensor = None if value is None else self.scope.entry(value).constant
        return None if tensor is None else np.asarray(tensor.numpy())

    def is_trainable(self, index: int) -> bool:
        """Whether an input is a parameter."""
        value = self.value(index)
        return value is not None and self.scope.entry(value).trainable

    def shape(self, index: int) -> tuple[int | str | None, ...] | None:
        """The dimensions of an input as numbers, names or unknowns; None without a rank."""
        value = self.value(index)
        if value is None or value.shape is None:
            return None
        return tuple(d if isinstance(d, int) else d.value for d in value.shape)

    def static_shape(self, index: int) -> tuple[int, ...] | None:
        """The shape of an input, if every dimension is a number."""
        shape = self.shape(index)
        if shape is None:
            return None
        numbers = tuple(d for d in shape if isinstance(d, int))
        return numbers if len(numbers) == len(shape) else None

    def rank(self, index: int) -> int:
        """The rank of an input; refuses the node where it is unknown."""
        shape = self.shape(index)
        if shape is None:
            self.decline(f"the rank of {self._called(index)} is unknown: {_NO_SHAPE}")
        return len(shape)

    def axis(self, axis: int, index: int = 0) -> int:
        """An axis of an input, counted from the front."""
        return axis + self.rank(index) if axis < 0 else axis

    def sizes(self, index: int, tensor: torch.Tensor) -> tuple[int, ...]:
        """The dimensions of an input: numbers where known, else read from its tensor."""
        shape = self.shape(index)
        if shape is None:
            self.decline(f"the rank of {self._called(index)} is unknown: {_NO_SHAPE}")
        return tuple(
            d if isinstance(d, int) else self.as_size(tensor.size(k)) for k, d in enumerate(shape)
        )

    def size(self, tensor: torch.Tensor, axis: int) -> int:
        """One dimension of input 0: a number where known, else read from its tensor."""
        shape = self.shape(0)
        known = None if shape is None else shape[axis]
        return known if isinstance(known, int) else self.as_size(tensor.size(axis))

    def dtype(self, index: int) -> ir.DataType:
        """The element type of an input; refuses the node where it is unknown."""
        value = self.value(index)
        if value is None or value.dtype is None:
            self.decline(f"the element type of {self._called(index)} is unknown: {_NO_SHAPE}")
        return value.dtype

    def torch_dtype(self, dtype: ir.DataType | int) -> torch.dtype:
        """The torch type of an ONNX type; refuses the node where there is none."""
        found = torch_dtype(ir.DataType(dtype))
        if found is None:
            self.decline(f"torch has no element type {ir.DataType(dtype).name}")
        return found

    def captures(self, *graphs: ir.Graph) -> tuple[ir.Value, ...]:
        """The values that graphs read without making them, in order of first use."""
        found: dict[ir.Value, None] = {}
        for graph in graphs:
            _collect_free(graph, set(), found)
        return tuple(found)

    def inline(self, graph: ir.Graph) -> tuple[Entry, ...]:
        """Record a subgraph without inputs here; what its outputs are."""
        outer = self.scope
        scope = Scope(outer.recorder, outer.opsets, outer.shapes, outer)
        self._record(graph, scope)
        for value, made in zip(self.node.outputs, graph.outputs, strict=False):
            value.type, value.shape = made.type, made.shape
        return tuple(map(scope.entry, graph.outputs))

    def module(self, graph: ir.Graph, captured: Sequence[ir.Value]) -> torch.fx.GraphModule:
        """A subgraph as a module that takes its inputs, then the captured values."""
        return self._module(graph, captured, self.scope)

    def run(self, module: torch.nn.Module, *inputs: Any) -> Any:
        """Record a call of a module, which becomes a submodule under the node's name."""
        return self.scope.recorder.run(module, self.node.name or self.node.op_type, *inputs)

    def tensors(self, values: Sequence[ir.Value]) -> tuple[Any, ...]:
        """The tensors of values that are visible here."""
        return tuple(self.scope.entry(value).tensor for value in values)

    def _called(self, index: int) -> str:
        value = self.value(index)
        return f"input {index}" if value is None else f"input {index} ({value.name!r})"


_MADE_UP = re.compile(r"_d\d+")
_NO_SHAPE = "declare it in the model, or convert the node that makes it to one whose shape is known"


def _collect_free(graph: ir.Graph, bound: set[ir.Value], found: dict[ir.Value, None]) -> None:
    """Add the values that a graph reads from outside; its initializers count as outside."""
    bound = bound | set(graph.inputs)
    for node in graph:
        for value in node.inputs:
            if value is not None and value not in bound:
                found[value] = None
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                _collect_free(attribute.value, bound, found)
        bound.update(node.outputs)
    for value in graph.outputs:
        if value not in bound:
            found[value] = None
