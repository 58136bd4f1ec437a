"""Binary codes: planes of signs, each with an integer multiplier for a row and group.

    y[m, n] = scale[n] sum_g s[g, m] sum_i multiplier[n, g, i] sum_(k in g) sign_i[n, k] x[m, k] / s

`few` reads the sum of four signed activations from the table that `activations.tables` made, one
byte shuffle for four columns of a row; `many` decodes planes to int8 weights and multiplies.
"""

import functools

from addax.backends.kernels.codebook_matmul import decoded_matmul
from addax.backends.kernels.linear import add_group, float_sums, store_rows, token_blocks, total
from addax.backends.kernels.vocabulary import TILE, Scratch, Vocabulary
from addax.backends.tvm.builder import Builder, Value

_AHEAD = 2048  # bytes: how far before its use a line of planes is asked for


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
    block = k.bind((tile * k["groups"] + g) * planes)
    first = k.bind((g * k["rows"] + m) * k["group"] * 4)
    for plane in range(planes):
        at_row = k.bind((block + plane) * TILE + row)
        factors = [
            k.bind(isa.multipliers(k["multipliers"], at_row + v * isa.lanes))
            for v in range(vectors)
        ]
        with k.loop(steps) as step:
            for v in range(vectors):
                at = _place(block + plane, row + v * isa.lanes, step, steps)
                if tokens == 1 and isa.prefetches and v * isa.lanes % 16 == 0:  # once a line
                    k.prefetch(k["codes"], at + _AHEAD)
                indices = isa.nibbles(isa.bytes(k["codes"], at))
                for j in range(tokens):
                    for half, index in enumerate(indices):
                        table_at = first + j * k["group"] * 4 + (step * 2 + half) * 64
                        entries = isa.looked_up(isa.sign_table(k["q"], table_at), index)
                        sum_ = sums[v][j][half % ways]
                        sum_.set(isa.scaled(sum_.get(), factors[v], entries))
    return [[k.bind(total(ways_)) for ways_ in tokens_] for tokens_ in sums]


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
