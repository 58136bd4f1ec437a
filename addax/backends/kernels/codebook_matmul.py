"""Codebook and int8 matmul: table entries (or bytes) times int8 activations, summed in int32.

    y[m, n] = scale[n] sum_g s[g, m] multiplier[n, g] sum_(k in g) table[code[n, k]] q[m, k]

`few` decodes each vector of weights in registers, where it meets up to eight tokens; `many`
decodes 64 rows of a group once, to memory of the first cache, where they meet all tokens.
"""

from collections.abc import Callable

from addax.backends.kernels.linear import (
    AHEAD,
    Sums,
    add_group,
    dot_group,
    float_sums,
    store_rows,
    token_blocks,
)
from addax.backends.kernels.vocabulary import TILE, Bytes, Scratch, Vocabulary
from addax.backends.tvm.builder import Builder, Register, Value

MANY = 16  # tokens that meet a decoded group in one block of a GPU


def few(k: Builder, isa: Vocabulary, bits: int) -> None:
    """All tokens, a few at a time; `bits` is 4 or 2, or 8 for int8 weights of one group."""
    table = isa.codebook(k, k["table"]) if bits < 8 else None
    steps = k.bind(k["group"] * bits // 32)
    most = isa.tokens

    def body(tile: Value, m: Value, tokens: int) -> None:
        vectors = isa.beside(tokens)
        with isa.each_part(k, vectors) as part:
            row = k.bind(part * (isa.lanes * vectors))
            totals = float_sums(k, isa, vectors, tokens)
            with k.loop(k["groups"]) as g:
                start = k.bind(((tile * k["groups"] + g) * steps * TILE + row) * 4)

                def weights(step: Value, v: int) -> list[Bytes]:
                    at = start + step * (4 * TILE) + v * 4 * isa.lanes
                    if tokens == 1 and isa.prefetches and v * isa.lanes % 16 == 0:  # once a line
                        k.prefetch(k["codes"], at + AHEAD)
                    packed = isa.bytes(k["codes"], at)
                    return [isa.biased(packed)] if bits == 8 else isa.decoded(packed, bits, table)

                sums = dot_group(k, isa, weights, (vectors, tokens), steps, 8 // bits, g, m)
                add_group(k, isa, totals, sums, (tile, row, g, m), multiplied=bits < 8)
            store_rows(k, isa, totals, tile, row, m)

    with isa.tiles(k) as tile:
        token_blocks(k, most, lambda m, tokens: body(tile, m, tokens), isa.span(k, most))


def many(k: Builder, isa: Vocabulary, bits: int) -> None:
    """The same for many tokens: a group of a tile is decoded once."""
    table = isa.codebook(k, k["table"])
    fields = 8 // bits

    def decode(to: Scratch, tile: Value, g: Value) -> None:
        steps = k.bind(k["group"] * bits // 32)
        start = k.bind((tile * k["groups"] + g) * steps * TILE * 4)
        with k.loop(steps) as step, isa.each_part(k, 1) as v:
            packed = isa.bytes(k["codes"], start + (step * TILE + v * isa.lanes) * 4)
            for field, some in enumerate(isa.decoded(packed, bits, table)):
                at = to.weight_at(step * fields + field, v * isa.lanes)
                isa.store_bytes(to.weights, at, some)

    decoded_matmul(k, isa, decode, multiplied=True)


def decoded_matmul(
    k: Builder,
    isa: Vocabulary,
    decode: Callable[[Scratch, Value, Value], None],
    *,
    multiplied: bool,
) -> None:
    """`decode(to, tile, g)` writes the biased weights of a group to scratch; all tokens meet them.

    `multiplied`: the sums of a group still want its multiplier.
    """
    most = min(isa.tokens, 4)

    def body(to: Scratch, tile: Value, g: Value, m: Value, tokens: int) -> None:
        def at(v: int, j: int) -> Value:
            return to.sum_at(m + j, row + v * isa.lanes)

        vectors = isa.beside(tokens)
        with isa.each_part(k, vectors) as part:
            row = k.bind(part * (isa.lanes * vectors))

            def weights(step: Value, v: int) -> list[Bytes]:
                return [isa.bytes(to.weights, to.weight_at(step, row + v * isa.lanes))]

            sums = dot_group(k, isa, weights, (vectors, tokens), k["group"] // 4, 1, g, m)
            totals = float_sums(k, isa, vectors, tokens)
            with k.when(g > 0):
                _each(totals, lambda v, j, total: total.set(isa.floats(to.sums, at(v, j))))
            add_group(k, isa, totals, sums, (tile, row, g, m), multiplied=multiplied)
            _each(totals, lambda v, j, total: to.sums.store(at(v, j), total.get(), isa.lanes))

    with isa.tiles(k) as tile:
        first, count = span = isa.span(k, MANY)
        to = isa.scratch(k, MANY)
        with k.loop(k["groups"]) as g:
            decode(to, tile, g)
            token_blocks(k, most, lambda m, tokens: body(to, tile, g, m, tokens), span)
        vectors = isa.beside(1)
        with k.loop(first, first + count) as m, isa.each_part(k, vectors) as part:
            row = k.bind(part * (isa.lanes * vectors))
            totals = float_sums(k, isa, vectors, 1)
            for v, (total,) in enumerate(totals):
                total.set(isa.floats(to.sums, to.sum_at(m, row + v * isa.lanes)))
            store_rows(k, isa, totals, tile, row, m)


def _each(totals: Sums, do: Callable[[int, int, Register], None]) -> None:
    for v, tokens in enumerate(totals):
        for j, total in enumerate(tokens):
            do(v, j, total)
