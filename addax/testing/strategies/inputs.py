"""Strategies for weights and for what a model is fed, drawn from its own input types."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from hypothesis import assume
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray

from addax.api import Optimized
from addax.errors import EvaluationError
from addax.frontend import to_ir
from addax.ir._equivalence.drawing import Drawing
from addax.ir.evaluate import evaluate
from addax.ir.model import clone
from addax.ir.shapes import infer_shapes
from addax.testing.strategies.arrays import Kind, fill, kinds

__all__ = ["feeds", "weights"]

_LARGEST = 5


def weights(
    shape: Sequence[int],
    dtype: DTypeLike = np.float32,
    *,
    positive: bool = False,
    special: bool = False,
) -> st.SearchStrategy[NDArray[Any]]:
    """Arrays as weights are: whole, normal, small, large, zeros of both signs, mixed in magnitude.

    Args:
        shape: Of the array.
        dtype: Of its elements.
        positive: At least 0.5, as variances and divisors should be.
        special: With infinities and NaN among them, too.
    """
    return st.builds(
        fill,
        st.just(np.dtype(dtype)),
        st.just(tuple(shape)),
        kinds(special=special and not positive),
        st.integers(0, 999),
        positive=st.just(positive),
    )


@st.composite
def feeds(
    draw: st.DrawFn, model: Any, *, sizes: Mapping[str, int] | None = None, special: bool = False
) -> dict[str, NDArray[Any]]:
    """Arrays by name for the inputs of a model, drawn from its own input types.

    A named dimension has one size, from 1 to 5, wherever it occurs. Integers that index a
    dimension stay within it; others are 0 or 1. Sizes on which the model fails are not drawn.

    Args:
        draw: Given by Hypothesis.
        model: An `onnx_ir.Model`, a `ModelProto`, the path or bytes of an ONNX file, or an
            `Optimized`.
        sizes: What some named dimensions are.
        special: Draw infinities and NaN, too.

    Raises:
        InputError: Nothing can be drawn for an input, as its element type or rank is not known.
    """
    copy = clone(model.model if isinstance(model, Optimized) else to_ir(model))
    infer_shapes(copy)
    free = [name for name in _named(copy) if name not in (sizes or {})]
    chosen = {name: draw(st.integers(1, _LARGEST)) for name in free}
    seed, kind = draw(st.integers(0, 999)), draw(kinds(special=special))
    drawn = _filled(copy, {**chosen, **(sizes or {})}, seed, kind)
    if free and not _works(copy, drawn):
        alike = dict.fromkeys(free, max(chosen.values()))
        drawn = _filled(copy, {**alike, **(sizes or {})}, seed, kind)
        assume(_works(copy, drawn))
    return drawn


def _named(model: ir.Model) -> list[str]:
    """The names of the dimensions of its inputs."""
    dims = [d for v in model.graph.inputs for d in v.shape or () if not isinstance(d, int)]
    return list(dict.fromkeys(str(d.value) for d in dims if d.value))


def _filled(
    model: ir.Model, sizes: Mapping[str, int], seed: int, kind: Kind
) -> dict[str, NDArray[Any]]:
    drawn = Drawing([model], sizes).feeds(seed)
    for name, array in drawn.items():
        if array.dtype.kind not in "biu":
            drawn[name] = fill(array.dtype, array.shape, kind, seed, name=name)
    return drawn


def _works(model: ir.Model, feeds: Mapping[str, NDArray[Any]]) -> bool:
    try:
        evaluate(model, feeds)
    except EvaluationError:
        return False
    return True
