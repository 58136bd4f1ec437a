"""Arithmetic on dimensions: integers, names, expressions of names, and the unknown.

Equal names are equal sizes. The unknown equals nothing, itself included, so whatever is
computed from it is unknown as well.
"""

import functools
import operator
import re
from collections.abc import Callable, Iterable, Sequence

import onnx_ir as ir

from addax.errors import InvalidGraphError

Dim = int | ir.SymbolicDim

UNKNOWN = ir.SymbolicDim(None)

# "batch-size" and "image/height" are names; "batch - 1" and "floor(width/2)" are expressions.
_NOT_AN_EXPRESSION = re.compile(r"\w[-+%]\w|\w/[^\W\d]|[^\w\s.+*/()%,-]")
INVENTED = re.compile(r"\b_d\d+\b")
_WORD = re.compile(r"[^\W\d]\w*")
_INTEGER = re.compile(r"-?\d+")
_LONGEST = 120


class NameMint:
    """Fresh names `_d0`, `_d1`, ... for sizes of which only the existence is known."""

    def __init__(self, taken: Callable[[], set[str]]) -> None:
        """Make names outside `taken()`, which is asked when the first name is needed."""
        self._ask = taken
        self._taken: set[str] | None = None
        self._count = 0

    def fresh(self) -> ir.SymbolicDim:
        """A name that no dimension of the model has."""
        if self._taken is None:
            self._taken = self._ask()
        while (name := f"_d{self._count}") in self._taken:
            self._count += 1
        self._count += 1
        return ir.SymbolicDim(name)


def is_invented(dim: Dim) -> bool:
    """Whether the dimension is a name that inference made up, or computed from one."""
    return not isinstance(dim, int) and bool(INVENTED.search(dim.value or ""))


def words(dim: Dim) -> set[str]:
    """The names that a dimension is computed from."""
    return set() if isinstance(dim, int) else set(_WORD.findall(dim.value or ""))


def is_known(dim: Dim) -> bool:
    """Whether the dimension is a number or has a name."""
    return isinstance(dim, int) or dim.value is not None


# Comparing a name with a number costs onnx_ir 6 us, so all comparisons look at the class first.


def equals(dim: Dim, number: int) -> bool:
    """Whether the dimension is this number."""
    return isinstance(dim, int) and dim == number


def same(a: Dim, b: Dim) -> bool:
    """Whether two dimensions are equal for every binding of their names."""
    if isinstance(a, int):
        return isinstance(b, int) and a == b
    return not isinstance(b, int) and a.value is not None and a.value == b.value


def broadcast(a: Dim, b: Dim) -> Dim:
    """The size of an axis when `a` is broadcast against `b`.

    Raises:
        InvalidGraphError: If both are numbers that do not fit.
    """
    if isinstance(a, int):
        if a == 1:
            return b
        if isinstance(b, int) and b not in (1, a):
            raise InvalidGraphError(f"sizes {a} and {b} do not broadcast")
        return a
    if isinstance(b, int):
        return a if b == 1 else b
    return a if a.value == b.value else UNKNOWN


def broadcast_shapes(a: Sequence[Dim], b: Sequence[Dim]) -> list[Dim]:
    """The shape of `a` broadcast against `b`, axes aligned from the right."""
    if len(a) < len(b):
        a, b = b, a
    lead = len(a) - len(b)
    try:
        return [*a[:lead], *map(broadcast, a[lead:], b)]
    except InvalidGraphError:
        raise InvalidGraphError(
            f"shapes {show(a)} and {show(b)} do not broadcast: aligned from the right, two "
            "sizes must be equal or one of them 1"
        ) from None


def add(a: Dim, b: Dim) -> Dim:
    """`a + b`."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if equals(a, 0):
        return b
    return a if equals(b, 0) else _symbolic("add", a, b)


def subtract(a: Dim, b: Dim) -> Dim:
    """`a - b`; the difference of equal sizes is 0."""
    if isinstance(a, int) and isinstance(b, int):
        return a - b
    if equals(b, 0):
        return a
    return 0 if same(a, b) else _symbolic("subtract", a, b)


def multiply(a: Dim, b: Dim) -> Dim:
    """`a * b`."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    if equals(a, 0) or equals(b, 0):
        return 0
    if equals(a, 1):
        return b
    return a if equals(b, 1) else _symbolic("multiply", a, b)


def quotient(a: Dim, b: Dim) -> Dim:
    """`a / b` where it is known to leave no rest; the unknown otherwise."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else UNKNOWN
    if equals(b, 1):
        return a
    return UNKNOWN if equals(b, 0) else _symbolic("quotient", a, b)


def floor_divide(a: Dim, b: Dim) -> Dim:
    """`floor(a / b)`."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b else UNKNOWN
    if equals(b, 1):
        return a
    return UNKNOWN if equals(b, 0) else _symbolic("floor_divide", a, b)


def product(dims: Iterable[Dim]) -> Dim:
    """The product of all dimensions: the number of elements of a shape."""
    count = 1
    names: list[Dim] = []
    for dim in dims:
        if isinstance(dim, int):
            count *= dim
        else:
            names.append(dim)
    first: Dim = count
    return functools.reduce(multiply, names, first)


def total(dims: Iterable[Dim]) -> Dim:
    """The sum of all dimensions."""
    zero: Dim = 0
    return functools.reduce(add, dims, zero)


def show(dims: Iterable[Dim] | None) -> str:
    """A shape for a person: `[2, batch, ?]`; `?` where nothing is known."""
    if dims is None:
        return "of unknown rank"
    return f"[{', '.join(str(d) if is_known(d) else '?' for d in dims)}]"


def _symbolic(operation: str, a: Dim, b: Dim) -> Dim:
    left = a if isinstance(a, int) else a.value
    right = b if isinstance(b, int) else b.value
    if left is None or right is None:
        return UNKNOWN
    return _compute(operation, left, right)


_OPERATIONS: dict[str, Callable[[ir.SymbolicDim, ir.SymbolicDim], ir.SymbolicDim]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "quotient": operator.truediv,
    "floor_divide": operator.floordiv,
}


@functools.lru_cache(maxsize=1 << 14)
def _compute(operation: str, a: int | str, b: int | str) -> Dim:
    """The same few expressions come back in every layer, and SymPy takes a millisecond each."""
    left, right = str(a), str(b)
    if _NOT_AN_EXPRESSION.search(left) or _NOT_AN_EXPRESSION.search(right):
        return UNKNOWN
    try:
        result = _OPERATIONS[operation](ir.SymbolicDim(left), ir.SymbolicDim(right))
    except ValueError:  # a name that onnx_ir cannot read as an expression
        return UNKNOWN
    text = str(result)
    if _INTEGER.fullmatch(text):
        return int(text)
    is_exact = operation != "quotient" or "/" not in text
    return result if is_exact and len(text) <= _LONGEST else UNKNOWN
