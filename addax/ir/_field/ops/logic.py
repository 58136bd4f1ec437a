"""Conditions and conversions. A computed condition is an element: true is 1, false is 0."""

from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import UnsupportedOpError
from addax.ir._field.element import Field, Kind, element
from addax.ir._field.residues import PRIME
from addax.ir._field.table import FieldSite
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)


def _less(a: Any, b: Any, site: FieldSite) -> Any:
    return site.oracle("Less", (np.asarray(a) - np.asarray(b)) % PRIME)


@KERNELS.op("Less")
def less(a: Any, b: Any, *, site: FieldSite) -> Any:
    """A < B: an oracle of A - B."""
    return element(_less(a, b, site), "truth")


@KERNELS.op("Greater")
def greater(a: Any, b: Any, *, site: FieldSite) -> Any:
    """A > B is B < A."""
    return element(_less(b, a, site), "truth")


@KERNELS.op("LessOrEqual")
def less_or_equal(a: Any, b: Any, *, site: FieldSite) -> Any:
    """A <= B is not B < A, but for NaN."""
    return element((1 - _less(b, a, site)) % PRIME, "truth")


@KERNELS.op("GreaterOrEqual")
def greater_or_equal(a: Any, b: Any, *, site: FieldSite) -> Any:
    """A >= B is not A < B, but for NaN."""
    return element((1 - _less(a, b, site)) % PRIME, "truth")


@KERNELS.op("Equal")
def equal(a: Any, b: Any, *, site: FieldSite) -> Any:
    """A = B: an oracle of A - B that does not see its sign."""
    apart = (np.asarray(a, dtype=np.int64) - np.asarray(b, dtype=np.int64)) % PRIME
    return element(np.where(apart == 0, 1, site.oracle.even("Equal", apart)), "truth")


@KERNELS.op("Not")
def negation(x: Any) -> Any:
    """1 - x."""
    return element((1 - np.asarray(x)) % PRIME, "truth")


@KERNELS.op("And")
def conjunction(a: Any, b: Any) -> Any:
    """A B."""
    return element(_truth(a) * _truth(b) % PRIME, "truth")


@KERNELS.op("Or")
def disjunction(a: Any, b: Any) -> Any:
    """A + B - A B."""
    a, b = _truth(a), _truth(b)
    return element((a + b - a * b % PRIME) % PRIME, "truth")


@KERNELS.op("Xor")
def exclusive(a: Any, b: Any) -> Any:
    """A + B - 2 A B."""
    a, b = _truth(a), _truth(b)
    return element((a + b - 2 * (a * b % PRIME)) % PRIME, "truth")


def _truth(x: Any) -> Any:
    return np.asarray(x).astype(np.int64)


@KERNELS.op("Where")
def where(condition: Any, a: Any, b: Any) -> Any:
    """A where the condition holds, else B: c A + (1 - c) B where the condition is computed."""
    kind = _common(a, b)
    if not isinstance(condition, Field):
        return element(np.where(condition, a, b), kind)
    c, a, b = (np.asarray(x).astype(np.int64) for x in (condition, a, b))
    return element((c * ((a - b) % PRIME) + b) % PRIME, kind)


def _common(*values: Any) -> Kind:
    kinds: set[Kind] = {x.kind for x in values if isinstance(x, Field)}
    return kinds.pop() if len(kinds) == 1 else "real"


@KERNELS.op("Cast")
def cast(x: Any, *, to: int, saturate: int = 1, round_mode: str = "up", site: FieldSite) -> Any:
    """X in another format: the same number among floating ones, an oracle where it is cut."""
    target = ir.DataType(to)
    if target in _ROUNDED or target == ir.DataType.STRING:
        raise UnsupportedOpError(f"the rounding to {target} has no meaning over a field")
    if target.is_floating_point():
        return element(np.asarray(x), "real")
    wanted: Kind = "truth" if target == ir.DataType.BOOL else "whole"
    if x.kind == "truth":
        return element(np.asarray(x), wanted)
    if wanted == "truth":
        return element((1 - equal(x, np.zeros_like(x), site=site)) % PRIME, "truth")
    return element(site.oracle(f"Cast {x.kind} to {target}", x), "whole")


_ROUNDED = frozenset(
    t
    for t in ir.DataType
    if t.is_floating_point()
    and t
    not in {
        ir.DataType.FLOAT,
        ir.DataType.DOUBLE,
        ir.DataType.FLOAT16,
        ir.DataType.BFLOAT16,
    }
)


@KERNELS.op("CastLike")
def cast_like(
    x: Any, like: Any, *, saturate: int = 1, round_mode: str = "up", site: FieldSite
) -> Any:
    """X in the format of another tensor."""
    if isinstance(like, Field):
        targets = {"real": ir.DataType.FLOAT, "truth": ir.DataType.BOOL, "whole": None}
        to = targets[like.kind]
        if to is None:
            raise UnsupportedOpError("which integer type a computed integer has is not known here")
    else:
        to = ir.DataType.from_numpy(like.dtype)
    if not isinstance(x, Field):
        return element(x)
    return cast(x, to=int(to), site=site)


@KERNELS.op("IsNaN", "IsInf")
def is_special(x: Any, *, detect_negative: int = 1, detect_positive: int = 1) -> Any:
    """False: elements stand for finite numbers."""
    return np.zeros(x.shape, dtype=np.bool_)
