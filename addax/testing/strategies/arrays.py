"""Arrays for weights and inputs: a kind and a seed, so that they draw quickly and shrink well."""

import enum
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray


class Kind(enum.Enum):
    """What the elements of an array are like; the simplest first, for shrinking."""

    WHOLE = "small whole numbers"
    PLAIN = "normal numbers"
    ZEROS = "zeros of both signs among ones"
    SMALL = "around 1e-4"
    LARGE = "around 1e4"
    MIXED = "of very different magnitudes"
    SPECIAL = "infinities and NaN among numbers"


FINITE = tuple(kind for kind in Kind if kind is not Kind.SPECIAL)


def kinds(*, special: bool = False) -> st.SearchStrategy[Kind]:
    """One kind of elements; infinities and NaN only on request."""
    return st.sampled_from(tuple(Kind) if special else FINITE)


def fill(
    dtype: DTypeLike,
    shape: Sequence[int],
    kind: Kind = Kind.PLAIN,
    seed: int = 0,
    *,
    name: str = "",
    positive: bool = False,
) -> NDArray[Any]:
    """The array of this kind that belongs to a seed and a name."""
    dtype = np.dtype(dtype)
    key = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(key, "little"))
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        high = 2 if kind in {Kind.WHOLE, Kind.ZEROS} else 5
        return rng.integers(
            0 if dtype.kind == "u" or kind is Kind.ZEROS else 1 - high, high, shape
        ).astype(dtype)
    x = _reals(kind, shape, rng)
    if positive:
        x = np.abs(x) + 0.5
    return x.astype(dtype)


def _reals(kind: Kind, shape: Sequence[int], rng: np.random.Generator) -> NDArray[Any]:
    match kind:
        case Kind.WHOLE:
            return rng.integers(-4, 5, shape).astype(np.float64)
        case Kind.ZEROS:
            return rng.choice(np.array([0.0, -0.0, 1.0]), shape)
        case Kind.SMALL:
            return 1e-4 * rng.standard_normal(shape)
        case Kind.LARGE:
            return 1e4 * rng.standard_normal(shape)
        case Kind.MIXED:
            return rng.standard_normal(shape) * 10.0 ** rng.integers(-4, 5, shape)
        case Kind.SPECIAL:
            x = rng.standard_normal(shape)
            odd = np.array([np.inf, -np.inf, np.nan, -0.0, 0.0])
            return np.where(rng.random(shape) < 0.25, rng.choice(odd, shape), x)
        case _:
            return rng.standard_normal(shape)


def feeds_for(
    inputs: Sequence[ir.Value],
    kind: Kind = Kind.PLAIN,
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
) -> dict[str, NDArray[Any]]:
    """An array for each graph input; `sizes` says how large symbolic dimensions are (else 2)."""
    sizes = sizes or {}
    feeds = {}
    for value in inputs:
        if value.dtype is None or value.shape is None:
            raise ValueError(f"input {value.name!r} has no type or no rank to draw an array by")
        dims = [d if isinstance(d, int) else sizes.get(str(d.value), 2) for d in value.shape]
        feeds[str(value.name)] = fill(value.dtype.numpy(), dims, kind, seed, name=str(value.name))
    return feeds
