"""Binary linear attention of one head: signs of queries and keys, so sums in place of products.

    s = kb^T v,  u = value_weight v + sum_weight (qb s),  y = u / max(|u|, epsilon) + filter * v

x[N, heads (2 M + D)] holds the queries of all heads, then keys, then values; M and D are multiples
of 16. scratch: s[D, M], then for each four bits the 16 sums of rows of s, [M / 4, 16, D], then
u[D] and a token's codes [M / 4].
"""

from dataclasses import dataclass

from addax.backends.kernels.wide import WIDE, floats, summed_lanes
from addax.backends.tvm.builder import (
    Builder,
    Value,
    cast,
    counting,
    maximum,
    minimum,
    select,
    shift_left,
    shuffled,
    square_root,
    vector,
)

PARAMETERS = {
    "x": "float32*",
    "filters": "float32*",
    "y": "float32*",
    "scratch": "float32*",
    "tokens": "int32",
    "heads": "int32",
    "head": "int32",
    "bits": "int32",
    "width": "int32",
    "taps": "int32",
    "value_weight": "float32",
    "sum_weight": "float32",
    "epsilon": "float32",
}


def binary_linear_attention(k: Builder) -> None:
    """The columns of one head of y[N, heads D]."""
    heads, bits, width = k["heads"], k["bits"], k["width"]
    place = _Places(
        row=k.bind(heads * (2 * bits + width)),
        query=k.bind(k["head"] * bits),
        key=k.bind(heads * bits + k["head"] * bits),
        value=k.bind(2 * heads * bits + k["head"] * width),
        tables=k.bind(width * bits),
        u=k.bind(5 * width * bits),
        codes=k.bind(5 * width * bits + width),
    )
    _sum_values(k, place)
    _make_tables(k, place)
    with k.loop(k["tokens"]) as n:
        _token(k, place, n)


@dataclass(frozen=True)
class _Places:
    """Where things begin: in a row of x, and in scratch."""

    row: Value
    query: Value
    key: Value
    value: Value
    tables: Value
    u: Value
    codes: Value


def _sum_values(k: Builder, place: _Places) -> None:
    """s[D, M]: for 16 keys' bits and 16 values at a time, a masked addition each."""
    zero = floats(0.0)
    with k.loop(k["bits"] // WIDE) as part, k.loop(k["width"] // WIDE) as some:
        sums = [k.register("float32", WIDE) for _ in range(WIDE)]
        with k.loop(k["tokens"]) as n:
            row = k.bind(n * place.row)
            keys = k.bind(k["x"].load(row + place.key + part * WIDE, WIDE))
            for i, total in enumerate(sums):
                v = floats(k["x"].load(row + place.value + some * WIDE + i))
                total.set(select(keys > zero, total.get() + v, total.get()))
        for i, total in enumerate(sums):
            at = (some * WIDE + i) * k["bits"] + part * WIDE
            k["scratch"].store(at, total.get(), WIDE)


def _make_tables(k: Builder, place: _Places) -> None:
    """For each four bits the sums of the rows of s that they choose."""
    bits, width, memory = k["bits"], k["width"], k["scratch"]
    with k.loop(bits // 4) as four, k.loop(width // WIDE) as part:
        rows = []
        for i in range(4):
            row = k.register("float32", WIDE)
            for lane in range(WIDE):
                row.put(lane, memory.load((part * WIDE + lane) * bits + four * 4 + i))
            rows.append(k.bind(row.get()))
        sums: list[Value] = [floats(0.0)]
        for row in rows:
            sums += [k.bind(some + row) for some in sums]
        for code, some in enumerate(sums):
            memory.store(place.tables + (four * 16 + code) * width + part * WIDE, some, WIDE)


def _token(k: Builder, place: _Places, n: Value) -> None:
    bits, width, memory = k["bits"], k["width"], k["scratch"]
    row = k.bind(n * place.row)
    squares = k.register("float32", WIDE)
    with k.loop(bits // WIDE) as part:
        on = k["x"].load(row + place.query + part * WIDE, WIDE) > floats(0.0)
        places = counting(WIDE) & vector(3, "int32", WIDE)
        ones = shift_left(vector(1, "int32", WIDE), places)
        set_ = k.bind(select(on, ones, vector(0, "int32", WIDE)))
        pairs = k.bind(set_ + shuffled(set_, [lane ^ 1 for lane in range(WIDE)]))
        fours = k.bind(pairs + shuffled(pairs, [lane ^ 2 for lane in range(WIDE)]))
        memory.store(place.codes + part * 4, cast(shuffled(fours, [0, 4, 8, 12]), "float32", 4), 4)
    with k.loop(width // WIDE) as part:
        v = k["x"].load(row + place.value + part * WIDE, WIDE)
        u = k.register("float32", WIDE)
        with k.loop(bits // 4) as four:
            code = cast(memory.load(place.codes + four), "int32")
            at = place.tables + (four * 16 + code) * width + part * WIDE
            u.set(u.get() + memory.load(at, WIDE))
        weighted = u.get() * floats(k["sum_weight"])
        total = k.bind(v * floats(k["value_weight"]) + weighted)
        squares.set(squares.get() + total * total)
        memory.store(place.u + part * WIDE, total, WIDE)
    # In this order: the maximum is its second operand where either is NaN.
    size = maximum(k["epsilon"], square_root(summed_lanes(squares.get())))
    size = floats(k.bind(size))
    first = k.bind(maximum(k["taps"] // 2 - n, 0))
    last = k.bind(minimum(k["taps"], k["tokens"] + k["taps"] // 2 - n))
    with k.loop(width // WIDE) as part:
        y = k.register("float32", WIDE, memory.load(place.u + part * WIDE, WIDE) / size)
        with k.loop(first, last) as tap:
            other = (n + tap - k["taps"] // 2) * place.row + place.value + part * WIDE
            weight = floats(k["filters"].load(k["head"] * k["taps"] + tap))
            y.set(y.get() + k["x"].load(other, WIDE) * weight)
        at = (n * k["heads"] + k["head"]) * width + part * WIDE
        k["y"].store(at, y.get(), WIDE)
