"""Inputs drawn from a model's own types: sizes, numbers, indices that are in range."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import InputError
from addax.ir._equivalence.interface import inputs
from addax.ir.query import shape

Feeds = dict[str, np.ndarray]

KINDS = ("normal numbers", "small whole numbers", "of very different magnitudes")
"""What floating inputs are like, in turn."""

_SIZES = (2, 3, 4, 5, 1)
_NEAR = 32  # readers that are looked at to see what an integer input is for


class Drawing:
    """Draws feeds that fit several models with one interface.

    Args:
        models: They have the same inputs.
        sizes: What named dimensions are; others get small sizes, one for each name.
    """

    def __init__(self, models: Sequence[ir.Model], sizes: Mapping[str, int] | None = None) -> None:
        self._sizes = dict(sizes or {})
        self._wanted = [_Wanted.of(value, models) for value in inputs(models[0])]

    def feeds(self, seed: int, *, alike: bool = False) -> Feeds:
        """The feeds of a seed; the same seed gives the same.

        Args:
            seed: Which; it decides the kind of numbers and the free sizes too.
            alike: Give all named dimensions one size, for models that need it.
        """
        sizes = dict(self._sizes)
        made: Feeds = {}
        for wanted in self._wanted:
            dims = tuple(self._size(d, sizes, seed, alike) for d in wanted.shape)
            made[wanted.name] = wanted.array(dims, seed)
        return made

    def _size(self, dim: Any, sizes: dict[str, int], seed: int, alike: bool) -> int:
        if isinstance(dim, int):
            return dim if dim >= 0 else _SIZES[seed % len(_SIZES)]
        name = str(dim.value)
        if name not in sizes:
            free = [n for n in sizes if n not in self._sizes]
            sizes[name] = _SIZES[(seed + (0 if alike else len(free))) % len(_SIZES)]
        return sizes[name]


@dataclass(frozen=True)
class _Wanted:
    """An input: its type, and one more than the largest integer that it may hold."""

    name: str
    dtype: ir.DataType
    shape: ir.Shape
    limit: int

    @classmethod
    def of(cls, value: ir.Value, models: Sequence[ir.Model]) -> "_Wanted":
        name, dtype = str(value.name), value.dtype
        if dtype is None or value.shape is None:
            raise InputError(
                f"nothing can be drawn for input {name!r}: its element type or rank is not known; "
                "give feeds"
            )
        if not (dtype.is_floating_point() or dtype.is_integer() or dtype == ir.DataType.BOOL):
            raise InputError(
                f"nothing can be drawn for input {name!r} of type {dtype.name.lower()}; give feeds"
            )
        return cls(name, dtype, value.shape, _range(name, models))

    def array(self, dims: tuple[int, ...], seed: int) -> np.ndarray:
        """The array of a seed."""
        key = hashlib.blake2b(f"{seed} {self.name}".encode(), digest_size=8).digest()
        rng = np.random.default_rng(int.from_bytes(key, "little"))
        if self.dtype == ir.DataType.BOOL:
            return rng.integers(0, 2, dims).astype(bool)
        if self.dtype.is_integer():
            return rng.integers(0, self.limit, dims).astype(self.dtype.numpy())
        match KINDS[seed % len(KINDS)]:
            case "small whole numbers":
                drawn = rng.integers(-3, 4, dims).astype(np.float64)
            case "of very different magnitudes":
                drawn = rng.standard_normal(dims) * 10.0 ** rng.integers(-3, 3, dims)
            case _:
                drawn = rng.standard_normal(dims)
        return drawn.astype(self.dtype.numpy())


def _range(name: str, models: Sequence[ir.Model]) -> int:
    """One more than the largest integer that an input may be, by what it is an index of.

    2 where nothing is known: a flag, a mask, a count.
    """
    found = [limit for model in models for limit in _limits(name, model)]
    return min(found, default=2)


_CARRIERS = frozenset(
    {"Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze",
     "Transpose", "Unsqueeze"}
)  # fmt: skip
"""Operators that pass integers on as they are, when they are the first operand."""


def _limits(name: str, model: ir.Model) -> list[int]:
    value = next((v for v in model.graph.inputs if v.name == name), None)
    waiting, limits = [] if value is None else [value], []
    for current in waiting:
        for node, place in current.uses():
            if place == 1 and node.op_type in {"Gather", "GatherElements"}:
                limits += _extent(node)
            elif node.op_type in _CARRIERS and place == 0 and len(waiting) < _NEAR:
                waiting += [v for v in node.outputs if v not in waiting]
    return limits


def _extent(node: ir.Node) -> list[int]:
    dims = shape(node.inputs[0])
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    if dims is None or not -len(dims) <= axis < len(dims):
        return []
    size = dims[axis]
    return [size] if isinstance(size, int) else []
