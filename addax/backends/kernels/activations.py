"""What is done to the activations x[rows, K] of a linear layer before weights meet them.

`quantize`: int8 with one scale for each token and group of columns (ties to even):
    s[g, m] = max_(k in g) |x[m, k]| / 127,  q[g, m, k] = rint(x[m, k] / s[g, m]),
    sum[g, m] = sum_k q[g, m, k]

`tables`: for each four columns the 16 signed sums, int8 with one scale for each token and group:
    s[g, m] = max_j sum_(t < 4) |x[m, 4 j + t]| / 127
    q[g, m, j, c] = rint(sum_t (2 c_t - 1) x[m, 4 j + t] / s[g, m]),  c_t bit t of c

`levels`: int8 by a range that is known beforehand; NaN becomes some number:
    q[m, k] = rint(min(max(x[m, k] / step, low), high)) + shift,  s[m] = 1

`stairs`: the same with at most 16 codes, each for a run of levels:
    q[m, k] = shift + sum_j jumps[j] (1 if rint(...) >= starts[j] else 0)

A NaN or an infinity in a group of the first two kernels makes the scale NaN, and so the
outputs of the token.
"""

from collections.abc import Callable

from addax.backends.kernels.columns import Columns, Total
from addax.backends.kernels.vocabulary import Vocabulary
from addax.backends.kernels.wide import WIDE, exist, floats, partial_load, rounded
from addax.backends.tvm.builder import (
    Builder,
    Value,
    cast,
    maximum,
    minimum,
    select,
    vector,
)

PARAMETERS = {
    "x": "float32*",
    "q": "int8*",
    "s": "float32*",
    "sum": "int32*",
    "rows": "int32",
    "columns": "int32",
    "groups": "int32",
    "group": "int32",
    "r0": "int32",
    "r1": "int32",
}
LEVELS = PARAMETERS | {"step": "float32", "low": "float32", "high": "float32", "shift": "int32"}
STAIRS = LEVELS | {"starts": "int32*", "jumps": "int32*"}
_STEPS = 15


def quantize(k: Builder, isa: Vocabulary) -> None:
    """The rows of this call of q, s and, where it is asked for, sum."""
    columns = isa.columns
    with columns.groups(k) as (m, g):
        extent = columns.extent(k)
        with columns.runs(k) as run:
            x = k.bind(_run(k, columns, m, g, run))
            extent.meet(x, columns.magnitudes(x))
        inverse = _inverse(k, columns, extent.scale(k), g * k["rows"] + m)
        total = columns.total(k)
        with columns.runs(k) as run:
            x = _run(k, columns, m, g, run)
            rounded = k.bind(columns.rounded(columns.scaled(x, inverse)))
            total.add(rounded)
            at = (g * k["rows"] + m) * k["group"] + run * columns.size
            columns.store(k["q"], at, rounded)
        if "sum" in k.parameters:
            total.store(k["sum"], g * k["rows"] + m)


def tables(k: Builder, isa: Vocabulary) -> None:
    """The rows of this call of q and s; sum stays as it is."""
    columns = isa.columns
    with columns.groups(k) as (m, g):
        extent = columns.extent(k)
        with columns.runs(k) as run:
            x = k.bind(_run(k, columns, m, g, run))
            extent.meet(x, columns.magnitudes_of_fours(k, x))
        inverse = _inverse(k, columns, extent.scale(k), g * k["rows"] + m)
        with columns.runs(k) as run:
            scaled = k.bind(columns.scaled(_run(k, columns, m, g, run), inverse))
            for first in range(0, columns.size, 4):
                sums = columns.rounded(columns.signed_sums(scaled, first))
                at = ((g * k["rows"] + m) * k["group"] + run * columns.size + first) * 4
                columns.store(k["q"], at, sums)


def levels(k: Builder) -> None:
    """The rows of this call of q, s and sum; one group, whose columns beyond the last are 0."""
    shift = k.bind(vector(k["shift"], "int32", WIDE))
    _coded(k, lambda level: level + shift)


def stairs(k: Builder) -> None:
    """The same where runs of levels share a code."""
    first, nothing = vector(k["shift"], "int32", WIDE), vector(0, "int32", WIDE)
    steps = [
        tuple(k.bind(vector(k[name].load(j), "int32", WIDE)) for name in ("starts", "jumps"))
        for j in range(_STEPS)
    ]

    def climb(level: Value) -> Value:
        code = first
        for start, jump in steps:
            code = code + select(level >= start, jump, nothing)
        return code

    _coded(k, climb)


def _coded(k: Builder, code_of: Callable[[Value], Value]) -> None:
    """Rows of activations to codes of their levels."""
    columns, group = k["columns"], k["group"]
    step, low, high = (k.bind(floats(k[name])) for name in ("step", "low", "high"))
    nothing = vector(0, "int32", WIDE)
    with k.loop(k["r0"], k["r1"]) as m:
        total = Total(k)
        with k.loop(group // WIDE) as run:
            first = k.bind(run * WIDE)
            x = partial_load(k, k["x"], k.bind(m * columns), first, columns)
            # Divided, not multiplied by 1 / step: the body divides, and both agree.
            level = k.bind(rounded(maximum(minimum(x / step, high), low)))
            code = k.bind(select(exist(first, columns), code_of(level), nothing))
            total.add(code)
            k["q"].store(k.bind(m * group) + first, cast(code, "int8", WIDE), WIDE)
        k["s"].store(m, vector(1.0, "float32", 1))
        total.store(k["sum"], m)


def _run(k: Builder, columns: Columns, m: Value, g: Value, run: Value) -> Value:
    return columns.load(k, m, k.bind(g * k["group"] + run * columns.size))


def _inverse(k: Builder, columns: Columns, scale: Value, place: Value) -> Value:
    """Store the scale of a group; gives 1 / scale."""
    with columns.once(k):
        k["s"].store(place, scale)
    return k.bind(vector(1.0, "float32", 1) / scale)
