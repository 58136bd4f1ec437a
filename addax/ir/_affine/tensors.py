"""Constants that are not computed yet: a shape, and how to build the value."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx_ir as ir

from addax.ir.query import constant_tensor


@dataclass(frozen=True, eq=False)
class Tensor:
    """A constant as an expression over the constants of a graph.

    `build(op)` writes it with the operators of a rewrite's builder, which computes them in float64,
    rounds once and keeps the derivation. Nothing is computed before that: searching for the
    cheapest form of a region needs shapes alone.
    """

    shape: tuple[int, ...]
    _build: Callable[[Any], Any]

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    def build(self, op: Any) -> Any:
        """The value, built once for each builder."""
        made = _built(op)
        if self not in made:
            made[self] = self._build(op)
        return made[self]


def _built(op: Any) -> dict[Tensor, Any]:
    """What a builder has built already; it lives as long as the builder."""
    made: dict[Tensor, Any] = op.__dict__.setdefault("_tensors", {})
    return made


def given(value: ir.Value) -> Tensor:
    """A constant of the graph."""
    tensor = constant_tensor(value)
    shape = () if tensor is None else tuple(int(d) for d in tensor.shape.numpy())
    return Tensor(shape, lambda op: value)


def reshaped(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements in another shape."""
    shape = tuple(shape)
    if shape == x.shape:
        return x
    return Tensor(shape, lambda op: op.Reshape(x.build(op), list(shape)))


def multiplied(a: Tensor, b: Tensor) -> Tensor:
    """a b, broadcast."""
    return Tensor(_broadcast(a.shape, b.shape), lambda op: op.Mul(a.build(op), b.build(op)))


def added(a: Tensor, b: Tensor) -> Tensor:
    """a + b, broadcast."""
    return Tensor(_broadcast(a.shape, b.shape), lambda op: op.Add(a.build(op), b.build(op)))


def negated(a: Tensor) -> Tensor:
    """-a."""
    return Tensor(a.shape, lambda op: op.Neg(a.build(op)))


def expanded(a: Tensor, shape: Sequence[int]) -> Tensor:
    """a, broadcast to a shape."""
    shape = tuple(shape)
    if shape == a.shape:
        return a
    return Tensor(shape, lambda op: op.Expand(a.build(op), list(shape)))


def product(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product a[..., K] b[K, N]."""
    shape = (*a.shape[:-1], b.shape[-1])
    return Tensor(shape, lambda op: op.MatMul(a.build(op), b.build(op)))


def taken(a: Tensor, indices: Sequence[int], axis: int) -> Tensor:
    """The elements of a at these places along an axis."""
    shape = (*a.shape[:axis], len(indices), *a.shape[axis + 1 :])
    first, last = indices[0], indices[-1] + 1
    if list(indices) == list(range(first, last)):
        return Tensor(shape, lambda op: op.Slice(a.build(op), [first], [last], [axis]))
    return Tensor(shape, lambda op: op.Gather(a.build(op), list(indices), axis=axis))


def eye(size: int, like: Tensor) -> Tensor:
    """The identity matrix, in the element type of another constant."""

    def build(op: Any) -> Any:
        line = op.Range(0, size, 1)
        same = op.Equal(op.Unsqueeze(line, [0]), op.Unsqueeze(line, [1]))
        return op.CastLike(same, like.build(op))

    return Tensor((size, size), build)


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    rank = max(len(a), len(b))
    left, right = ((1,) * (rank - len(s)) + s for s in (a, b))
    return tuple(j if i == 1 else i for i, j in zip(left, right, strict=True))
