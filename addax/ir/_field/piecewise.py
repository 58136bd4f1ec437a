"""Piecewise polynomial functions of one number, with rational coefficients and breakpoints.

All of Relu, Clip, Max, Min, Abs, LeakyRelu, HardSigmoid of such a function is one again, so two of
them are compared exactly: on every interval between breakpoints, and beyond them.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import UnsupportedOpError
from addax.ir.builder import Derivation
from addax.ir.query import constant_tensor

Polynomial = tuple[Fraction, ...]

_ZERO, _ONE = Fraction(0), Fraction(1)
_BEYOND = Fraction(2) ** 4096
"""What an infinite bound is: larger than any number of any format."""


@dataclass(frozen=True)
class Piecewise:
    """Continuous: `pieces[k]`, lowest coefficient first, holds between `cuts[k - 1]` and [k]."""

    cuts: tuple[Fraction, ...]
    pieces: tuple[Polynomial, ...]

    @classmethod
    def constant(cls, number: Fraction | int) -> "Piecewise":
        """The function that is `number` everywhere."""
        return cls((), (_trimmed((Fraction(number),)),))

    @classmethod
    def variable(cls) -> "Piecewise":
        """The function x."""
        return cls((), ((_ZERO, _ONE),))

    @property
    def number(self) -> Fraction | None:
        """What the function is everywhere, if it is constant."""
        first = self.pieces[0]
        if len(first) > 1 or any(piece != first for piece in self.pieces):
            return None
        return first[0] if first else _ZERO

    def __add__(self, other: "Piecewise") -> "Piecewise":
        return _combined(self, other, _sum)

    def __mul__(self, other: "Piecewise") -> "Piecewise":
        return _combined(self, other, _product)

    def __neg__(self) -> "Piecewise":
        return self * Piecewise.constant(-1)

    def __sub__(self, other: "Piecewise") -> "Piecewise":
        return self + -other

    def positive(self) -> "Piecewise":
        """max(f, 0).

        Raises:
            UnsupportedOpError: a piece is of degree two or more, whose zeros may be irrational.
        """
        roots = set()
        for (low, high), piece in zip(_intervals(self.cuts), self.pieces, strict=True):
            if len(piece) > 2:
                raise UnsupportedOpError(
                    f"max(f, 0) of a polynomial f of degree {len(piece) - 1} is not decided exactly"
                )
            if len(piece) == 2:
                root = -piece[0] / piece[1]
                if (low is None or low < root) and (high is None or root < high):
                    roots.add(root)
        finer = _refined(self, tuple(sorted({*self.cuts, *roots})))
        inside = map(_inside, _intervals(finer.cuts))
        pieces = [
            piece if _at(piece, point) > 0 else ()
            for piece, point in zip(finer.pieces, inside, strict=True)
        ]
        return Piecewise(finer.cuts, tuple(pieces))

    def equals(self, other: "Piecewise", largest: Fraction | None = None) -> tuple[bool, str]:
        """Whether both are the same function, and where they part or on how many intervals not.

        Only numbers up to `largest` either way count, if that is given.
        """
        cuts = tuple(sorted({*self.cuts, *other.cuts}))
        pairs = zip(_refined(self, cuts).pieces, _refined(other, cuts).pieces, strict=True)
        for (a, b), (low, high) in zip(pairs, _intervals(cuts), strict=True):
            outside = largest is not None and (
                (low is not None and low >= largest) or (high is not None and high <= -largest)
            )
            if a != b and not outside:
                ends = ("-inf" if low is None else str(low), "inf" if high is None else str(high))
                return False, f"the functions differ between {ends[0]} and {ends[1]}"
        return True, f"the functions are equal on all {len(cuts) + 1} intervals"


def _intervals(cuts: tuple[Fraction, ...]) -> list[tuple[Fraction | None, Fraction | None]]:
    ends = [None, *cuts, None]
    return list(itertools.pairwise(ends))


def _inside(interval: tuple[Fraction | None, Fraction | None]) -> Fraction:
    low, high = interval
    if low is None:
        return _ZERO if high is None else high - 1
    return low + 1 if high is None else (low + high) / 2


def _at(piece: Polynomial, x: Fraction) -> Fraction:
    return reduce(lambda total, coefficient: total * x + coefficient, reversed(piece), _ZERO)


def _refined(f: Piecewise, cuts: tuple[Fraction, ...]) -> Piecewise:
    pieces, k = [], 0
    for _, high in _intervals(cuts):
        pieces.append(f.pieces[k])
        if k < len(f.cuts) and high == f.cuts[k]:
            k += 1
    return Piecewise(cuts, tuple(pieces))


def _combined(
    f: Piecewise, g: Piecewise, call: Callable[[Polynomial, Polynomial], Polynomial]
) -> Piecewise:
    cuts = tuple(sorted({*f.cuts, *g.cuts}))
    pairs = zip(_refined(f, cuts).pieces, _refined(g, cuts).pieces, strict=True)
    return Piecewise(cuts, tuple(call(a, b) for a, b in pairs))


def _trimmed(coefficients: Iterable[Fraction]) -> Polynomial:
    kept = list(coefficients)
    while kept and kept[-1] == 0:
        kept.pop()
    return tuple(kept)


def _sum(a: Polynomial, b: Polynomial) -> Polynomial:
    length = max(len(a), len(b))
    longer = ((*p, *[_ZERO] * (length - len(p))) for p in (a, b))
    return _trimmed(x + y for x, y in zip(*longer, strict=True))


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    made = [_ZERO] * max(len(a) + len(b) - 1, 0)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            made[i + j] += x * y
    return _trimmed(made)


def exact(number: float) -> Fraction:
    """The rational number that a constant means: 1/3 times a power of two, or what it is.

    Raises:
        UnsupportedOpError: it is NaN or infinite.
    """
    if not math.isfinite(number):
        raise UnsupportedOpError(f"the constant {number} is no rational number")
    third = Fraction(number) * 3
    near = Fraction(2) ** round(math.log2(abs(third))) if third else _ZERO
    if third and abs(third) != near and abs(abs(third) - near) <= near * _rounding(number):
        return (near if third > 0 else -near) / 3
    return Fraction(number)


def _rounding(number: float) -> Fraction:
    """Two units in the last place of the narrowest format that holds a number, relative to it."""
    with np.errstate(over="ignore"):
        bits = next((bits for t, bits in _FORMATS if float(t(number)) == number), 51)
    return Fraction(1, 1 << bits)


_FORMATS = ((np.float16, 9), (np.float32, 22))


def evaluate(
    nodes: Iterable[ir.Node], known: dict[ir.Value, Piecewise], wanted: ir.Value
) -> Piecewise:
    """The function that `wanted` is, given those that the `known` values are.

    Raises:
        UnsupportedOpError: a node is not elementwise and piecewise polynomial, or reads more.
    """
    for node in nodes:
        if not all(v is None or v in known or _is_lone(v) for v in node.inputs):
            continue
        bounds = node.op_type in {"Clip", "Max", "Min"}
        given = [None if v is None else _value(v, known, bounds) for v in node.inputs]
        known[node.outputs[0]] = apply(node.op_type, given, node.attributes)
    return _value(wanted, known)


def derive(value: ir.Value, derivation: Derivation, known: dict[ir.Value, Piecewise]) -> None:
    """Add a constant computed from others to the `known` ones, if it is a number."""
    if value.shape is None or value.shape.numpy() not in {(), (1,)}:
        return
    if not all(v is None or v in known or _is_lone(v) for v in derivation.inputs):
        return
    given = [None if v is None else _value(v, known) for v in derivation.inputs]
    attributes = {
        name: item if isinstance(item, ir.Attr) else ir.convenience.convert_attribute(name, item)
        for name, item in derivation.attributes.items()
    }
    known[value] = apply(derivation.op_type, given, attributes)


def _is_lone(value: ir.Value) -> bool:
    tensor = constant_tensor(value)
    return tensor is not None and tensor.size == 1 and tensor.dtype.is_floating_point()


def _value(value: ir.Value, known: Mapping[ir.Value, Piecewise], bound: bool = False) -> Piecewise:
    if value in known:
        return known[value]
    tensor = constant_tensor(value)
    if tensor is None or not _is_lone(value):
        raise UnsupportedOpError(
            f"{value.name!r} is no function of the one input: expected elementwise operators "
            "and constants of one element"
        )
    number = float(np.asarray(tensor.numpy()).astype(np.float64).reshape(()))
    if bound and math.isinf(number):
        return Piecewise.constant(_BEYOND if number > 0 else -_BEYOND)
    return Piecewise.constant(exact(number))


def apply(
    op_type: str, given: list[Piecewise | None], attributes: Mapping[str, ir.Attr]
) -> Piecewise:
    """An elementwise operator on such functions.

    Raises:
        UnsupportedOpError: the operator is not among those known.
    """
    call = _OPERATORS.get(op_type)
    if call is None:
        raise UnsupportedOpError(f"{op_type} is no piecewise polynomial operator known here")
    numbers = {
        name: exact(float(np.float32(attr.value)))
        for name, attr in attributes.items()
        if attr.type == ir.AttributeType.FLOAT
    }
    return call(given, numbers)


def _clip(given: list[Any], _: Mapping[str, Fraction]) -> Piecewise:
    x, low, high = (*given, None, None)[:3]
    x = x if low is None else _larger(x, low)
    return x if high is None else _smaller(x, high)


def _clip_numbers(given: list[Any], numbers: Mapping[str, Fraction]) -> Piecewise:
    bounds = [Piecewise.constant(numbers[n]) if n in numbers else None for n in ("min", "max")]
    return _clip([*given, *bounds] if len(given) == 1 else given, numbers)


def _larger(a: Piecewise, b: Piecewise) -> Piecewise:
    return b + (a - b).positive()


def _smaller(a: Piecewise, b: Piecewise) -> Piecewise:
    return a - (a - b).positive()


def _leaky(x: Piecewise, slope: Piecewise) -> Piecewise:
    return x.positive() + slope * (x - x.positive())


def _hard_sigmoid(x: Piecewise, alpha: Fraction, beta: Fraction) -> Piecewise:
    line = x * Piecewise.constant(alpha) + Piecewise.constant(beta)
    return _clip([line, Piecewise.constant(0), Piecewise.constant(1)], {})


def _quotient(given: list[Any], _: Mapping[str, Fraction]) -> Piecewise:
    x, y = given
    if not y.number:
        raise UnsupportedOpError("the division by a variable is no polynomial")
    return x * Piecewise.constant(1 / y.number)  # type: ignore[no-any-return]


def _power(given: list[Any], _: Mapping[str, Fraction]) -> Piecewise:
    x, exponent = given[0], given[1].number
    if exponent is None or exponent.denominator != 1 or not 0 <= exponent <= 8:
        raise UnsupportedOpError(f"the exponent {exponent} makes no polynomial known here")
    return reduce(lambda a, b: a * b, [x] * int(exponent), Piecewise.constant(1))


_OPERATORS: dict[str, Callable[[list[Any], Mapping[str, Fraction]], Piecewise]] = {
    "Abs": lambda g, _: g[0].positive() + (-g[0]).positive(),
    "Add": lambda g, _: g[0] + g[1],
    "Clip": _clip_numbers,
    "Div": _quotient,
    "HardSigmoid": lambda g, n: _hard_sigmoid(
        g[0], n.get("alpha", exact(float(np.float32(0.2)))), n.get("beta", Fraction(1, 2))
    ),
    "HardSwish": lambda g, _: g[0] * _hard_sigmoid(g[0], Fraction(1, 6), Fraction(1, 2)),
    "Identity": lambda g, _: g[0],
    "LeakyRelu": lambda g, n: _leaky(
        g[0], Piecewise.constant(n.get("alpha", exact(float(np.float32(0.01)))))
    ),
    "Max": lambda g, _: reduce(_larger, g),
    "Min": lambda g, _: reduce(_smaller, g),
    "Mul": lambda g, _: g[0] * g[1],
    "Neg": lambda g, _: -g[0],
    "PRelu": lambda g, _: _leaky(g[0], g[1]),
    "Pow": _power,
    "Relu": lambda g, _: g[0].positive(),
    "Sub": lambda g, _: g[0] - g[1],
    "Sum": lambda g, _: reduce(lambda a, b: a + b, g),
}
