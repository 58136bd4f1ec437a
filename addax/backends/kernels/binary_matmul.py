"""Binary codes: planes of signs, each with an integer multiplier for a row and group.

    y[m, n] = scale[n] sum_g s[g, m] sum_i multiplier[n, g, i] sum_(k in g) sign_i[n, k] x[m, k] / s

`few` reads the sum of four signed activations from the table that `activations.tables` made, one
byte shuffle for four columns of a row; `many` decodes planes to int8 weights and multiplies.
"""

import functools
from typing import Any

from addax.backends.kernels.codebook_matmul import decoded_matmul
from addax.backends.kernels.linear import (
    AHEAD,
    add_group,
    float_sums,
    store_rows,
    token_blocks,
    total,
)
from addax.backends.kernels.vocabulary import TILE, Bytes, Scratch, Vocabulary
from addax.backends.tvm.builder import Builder, Register, Value

_WHOLE = 4  # steps of 32 columns in the largest group


def few(k: Builder, isa: Vocabulary, planes: int) -> None:
    """All tokens, a few at a time, through look-up tables of signed sums."""
    steps = k.bind(k["group"] // 32)

    def body(tile: Value, m: Value, tokens: int) -> None:
        vectors = isa.beside(tokens)
        with isa.each_part(k, vectors) as part:
            row = k.bind(part * (isa.lanes * vectors))
            totals = float_sums(k, isa, vectors, tokens)
            with k.loop(k["groups"]) as g:
                sums = _look_up_group(k, isa, planes, (vectors, tokens), (tile, row, g, m), steps)
                add_group(k, isa, totals, sums, (tile, row, g, m), multiplied=False)
            store_rows(k, isa, totals, tile, row, m)

    most = isa.tokens
    with isa.tiles(k) as tile:
        token_blocks(k, most, lambda m, tokens: body(tile, m, tokens), isa.span(k, most))


def _look_up_group(
    k: Builder,
    isa: Vocabulary,
    planes: int,
    shape: tuple[int, int],
    place: tuple[Value, Value, Value, Value],
    steps: Value,
) -> list[list[Value]]:
    """sum_i multiplier_i sum_k sign_i q over a group, for [vectors, tokens] = `shape`."""
    tile, row, g, m = place
    vectors, tokens = shape
    ways = 2 if tokens == 1 else 1  # one token leaves registers idle
    sums = [
        [[k.register("int32", isa.lanes) for _ in range(ways)] for _ in range(tokens)]
        for _ in range(vectors)
    ]
    group = _Group(k, isa, (tile * k["groups"] + g) * planes, row, (g * k["rows"] + m) * k["group"])
    if tokens == 1 and isa.keeps_tables:
        with k.choice(steps == _WHOLE) as whole:
            with whole.then():
                group.look_up_whole(planes, sums)
            with whole.otherwise():
                group.look_up(planes, sums, steps)
    else:
        group.look_up(planes, sums, steps)
    return [[k.bind(total(ways_)) for ways_ in tokens_] for tokens_ in sums]


class _Group:
    """The planes of a group of a tile, and the tables of some tokens."""

    def __init__(self, k: Builder, isa: Vocabulary, block: Value, row: Value, first: Value) -> None:
        self._k, self._isa, self._row = k, isa, row
        self._block, self._first = k.bind(block), k.bind(first * 4)

    def look_up(self, planes: int, sums: list[list[list[Register]]], steps: Value) -> None:
        """Step by step of 32 columns, all vectors of rows at a step."""
        k = self._k
        for plane in range(planes):
            factors = self._factors(plane, len(sums))
            with k.loop(steps) as step:
                for v, row in enumerate(sums):
                    indices = self._indices(plane, v, step, steps, ahead=len(row) == 1)
                    for j, ways in enumerate(row):
                        tables = [self._table(step, half, j) for half in range(2)]
                        self._add(ways, factors[v], indices, tables)

    def look_up_whole(self, planes: int, sums: list[list[list[Register]]]) -> None:
        """One token and 128 columns: tables stay in registers, planes are read front to back."""
        k = self._k
        tables = [[k.bind(self._table(s, half, 0)) for half in range(2)] for s in range(_WHOLE)]
        for plane in range(planes):
            factors = self._factors(plane, len(sums))
            for v, (ways,) in enumerate(sums):
                for step in range(_WHOLE):
                    indices = self._indices(plane, v, step, _WHOLE, ahead=True)
                    self._add(ways, factors[v], indices, tables[step])

    def _factors(self, plane: int, vectors: int) -> list[Bytes]:
        k, isa = self._k, self._isa
        first = k.bind((self._block + plane) * TILE + self._row)
        at = (first + v * isa.lanes for v in range(vectors))
        return [k.bind(isa.multipliers(k["multipliers"], place)) for place in at]

    def _indices(self, plane: int, v: int, step: Value, steps: Value, *, ahead: bool) -> Any:
        k, isa = self._k, self._isa
        at = _place(self._block + plane, self._row + v * isa.lanes, step, steps)
        if ahead and isa.prefetches and v * isa.lanes % 16 == 0:  # once a line
            k.prefetch(k["codes"], at + AHEAD)
        return isa.nibbles(isa.bytes(k["codes"], at))

    def _table(self, step: Value, half: int, token: int) -> Any:
        at = self._first + token * self._k["group"] * 4 + (step * 2 + half) * 64
        return self._isa.sign_table(self._k["q"], at)

    def _add(self, ways: list[Register], factor: Bytes, indices: Any, tables: Any) -> None:
        for half, (index, table) in enumerate(zip(indices, tables, strict=True)):
            sum_ = ways[half % len(ways)]
            entries = self._isa.looked_up(table, index)
            sum_.set(self._isa.scaled(sum_.get(), factor, entries))


def many(k: Builder, isa: Vocabulary, planes: int) -> None:
    """The same for many tokens: a group of a tile is decoded to int8 weights once."""
    decode = functools.partial(_decode, k, isa, planes)
    decoded_matmul(k, isa, decode, multiplied=False)


def _decode(k: Builder, isa: Vocabulary, planes: int, to: Scratch, tile: Value, g: Value) -> None:
    steps = k.bind(k["group"] // 32)
    block = k.bind((tile * k["groups"] + g) * planes)
    with isa.each_part(k, 1) as v:
        row = k.bind(v * isa.lanes)
        factors = [
            k.bind(isa.multipliers(k["multipliers"], (block + plane) * TILE + row))
            for plane in range(planes)
        ]
        with k.loop(steps) as step:
            packed = [
                k.bind(isa.bytes(k["codes"], _place(block + plane, row, step, steps)))
                for plane in range(planes)
            ]
            for j, weights in enumerate(isa.plane_weights(packed, factors)):
                isa.store_bytes(to.weights, to.weight_at(step * 8 + j, row), weights)


def _place(plane: Value, row: Value, step: Value, steps: Value) -> Value:
    """Where a vector of a plane lies: [4, steps, 16, 4] bytes a plane of a tile's group."""
    return ((plane * 4 + row // 16) * steps + step) * 64 + row % 16 * 4
