"""Softmax times V in codes of the logarithm, row by row relative to the row's maximum.

    code[l] = min(rint(n log2(e) (max t - t[l])), last),  t = scale S + mask
    y[d] = (s / sum_l p[l]) sum_l p[l] q[l, d],           p = table[code], V ~ s q

`values` rounds one V[L, D] to int8 and lays it out [L / 4, D', 4], D' = D up to a multiple of 16.
`attention` computes rows of Y from as many rows of S. The table has 64 bytes, 0 at `last`.
"""

from collections.abc import Callable

from addax.backends.kernels.columns import Extent
from addax.backends.kernels.linear import token_blocks
from addax.backends.kernels.vocabulary import Table, Vocabulary
from addax.backends.kernels.wide import (
    LOWEST,
    WIDE,
    exist,
    floats,
    largest_lane,
    partial_load,
    partial_store,
    rounded,
)
from addax.backends.tvm.builder import (
    Builder,
    Pointer,
    Value,
    absolute,
    cast,
    maximum,
    minimum,
    reinterpret,
    select,
    shift_left,
    vector,
)

VALUES = {
    "v": "float32*",
    "q": "int8*",
    "s": "float32*",
    "sum": "int32*",
    "length": "int32",
    "width": "int32",
}
ATTENTION = {
    "scores": "float32*",
    "mask": "float32*",
    "q": "int8*",
    "s": "float32*",
    "sum": "int32*",
    "table": "uint8*",
    "y": "float32*",
    "codes": "uint8*",
    "rows": "int32",
    "length": "int32",
    "width": "int32",
    "mask_row": "int32",
    "mask_column": "int32",
    "last": "int32",
    "scale": "float32",
    "steps": "float32",
}
Place = Callable[[Value], Value]  # of a block: where it begins
Load = Callable[[Pointer, Value, Value], Value]  # 16 floats of a row
Inside = Callable[[Value, Value, Value], Value]  # 16 floats, another number beyond the row
_LOG2_E = 1.4426950408889634
_BLOCK = 64  # columns of codes at once: the bytes of the widest register


def values(k: Builder) -> None:
    """q[L / 4, D', 4] int8, its scale s[1] = max |v| / 127, its column sums sum[D']."""
    length, width = k["length"], k["width"]
    columns = k.bind((width + WIDE - 1) // WIDE * WIDE)
    inverse = floats(_scale(k, k.bind(length * width)))
    with k.loop(columns // WIDE) as part:
        first = k.bind(part * WIDE)
        total = k.register("int32", WIDE)
        with k.loop((length + 3) // 4) as four:
            packed = vector(0, "int32", WIDE)
            for byte in range(4):
                row = k.bind(four * 4 + byte)
                v = partial_load(k, k["v"], minimum(row, length - 1) * width, first, width)
                q = k.bind(
                    rounded(v * inverse) * vector(cast(row < length, "int32"), "int32", WIDE)
                )
                total.set(total.get() + q)
                kept = q & vector(255, "int32", WIDE)
                packed = packed | shift_left(kept, vector(8 * byte, "int32", WIDE))
            at = (four * columns + first) * 4
            k["q"].store(at, reinterpret(packed, "int8", 4 * WIDE), 4 * WIDE)
        k["sum"].store(first, total.get(), WIDE)


def _scale(k: Builder, size: Value) -> Value:
    """Store s = max |v| / 127, NaN where V has NaN or infinities; gives 1 / s."""
    extent = Extent(k)
    with k.loop((size + WIDE - 1) // WIDE) as block:
        v = k.bind(partial_load(k, k["v"], 0, block * WIDE, size))
        extent.meet(v, absolute(v))
    scale = extent.scale(k)
    k["s"].store(0, scale)
    return k.bind(vector(1.0, "float32", 1) / scale)


def attention(k: Builder, isa: Vocabulary) -> None:
    """`rows` rows of y[rows, width]; codes: 4 rows of scratch, each as long as `length` padded."""
    padded = k.bind((k["length"] + _BLOCK - 1) // _BLOCK * _BLOCK)
    table = isa.table64(k, k["table"])

    def body(m: Value, tokens: int) -> None:
        factors = []
        for j in range(tokens):
            _write_codes(k, m + j, k.bind(padded * j), padded)
            total = _look_up(k, isa, table, k.bind(padded * j), padded)
            factors.append(k.bind(k["s"].load(0) / total))
        _columns(
            k,
            isa,
            lambda first, vectors: _products(k, isa, (m, first), vectors, factors, padded),
            tokens,
        )

    token_blocks(k, min(isa.tokens, 4), body)


def _write_codes(k: Builder, row: Value, at: Value, padded: Value) -> None:
    """The codes of a row of scores, as bytes; `last` where there are no scores."""
    length = k["length"]
    start, mask_start = k.bind(row * length), k.bind(row * k["mask_row"])
    last = floats(k.bind(cast(k["last"], "float32")))
    rate = floats(k.bind(k["steps"] * vector(_LOG2_E, "float32", 1)))

    def row_of(blocks: Value, place: Place, load: Load, there: Inside) -> None:
        def scores(first: Value) -> Value:
            s = load(k["scores"], start, first)
            mask = k.register("float32", WIDE)
            with k.choice(k["mask_column"] == 1) as wide:
                with wide.then():
                    mask.set(load(k["mask"], mask_start, first))
                with wide.otherwise():
                    mask.set(floats(k["mask"].load(mask_start)))
            return k.bind(s * floats(k["scale"]) + mask.get())

        highest = k.register("float32", WIDE, floats(LOWEST))
        with k.loop(blocks) as block:
            first = k.bind(place(block))
            highest.set(maximum(highest.get(), there(first, scores(first), floats(LOWEST))))
        top = floats(k.bind(largest_lane(highest.get())))
        with k.loop(blocks) as block:
            first = k.bind(place(block))
            code = k.bind((top - scores(first)) * rate)
            # Less than, not the minimum: NaN becomes the last code, and no index.
            codes = rounded(there(first, select(code < last, code, last), last))
            k["codes"].store(at + first, cast(codes, "uint8", WIDE), WIDE)

    with k.loop(length // WIDE, padded // WIDE) as block:
        beyond = cast(vector(k["last"], "int32", WIDE), "uint8", WIDE)
        k["codes"].store(at + block * WIDE, beyond, WIDE)
    with k.choice(length >= WIDE) as long:
        with long.then():
            # The last block overlaps the one before it, rather than reach beyond the row.
            row_of(
                (length + WIDE - 1) // WIDE,
                lambda block: minimum(block * WIDE, length - WIDE),
                lambda pointer, begin, first: pointer.load(begin + first, WIDE),
                lambda _first, value, _beyond: value,
            )
        with long.otherwise():
            row_of(
                k.bind(minimum(length, 1)),
                lambda block: block * WIDE,
                lambda pointer, begin, first: partial_load(k, pointer, begin, first, length),
                lambda first, value, beyond: select(exist(first, length), value, beyond),
            )


def _look_up(k: Builder, isa: Vocabulary, table: Table, at: Value, padded: Value) -> Value:
    """Codes become entries of the table, in place; gives their sum as float."""
    total = k.register(
        "int32", isa.lanes, isa.mixed_start(vector(padded // isa.lanes, "int32", isa.lanes))
    )
    step = 4 * isa.lanes
    with k.loop(padded // step) as block:
        entries = k.bind(isa.entries(table, isa.bytes(k["codes"], at + block * step)))
        isa.store_bytes(k["codes"], at + block * step, entries)
        total.set(isa.mixed(total.get(), entries, isa.ones()))
    return k.bind(maximum(cast(isa.added(total.get()), "float32"), vector(1.0, "float32", 1)))


def _columns(k: Builder, isa: Vocabulary, body: Callable[[Value, int], None], tokens: int) -> None:
    """body(first column, vectors) for all columns of V, as many side by side as registers allow."""
    columns = k.bind((k["width"] + WIDE - 1) // WIDE * WIDE)
    some = isa.lanes * isa.beside(tokens)
    with k.loop(columns // some) as part:
        body(k.bind(part * some), some // isa.lanes)
    while some > WIDE:
        some //= 2
        with k.when((columns // some) % 2 == 1):
            body(k.bind(columns // (2 * some) * (2 * some)), some // isa.lanes)


def _products(
    k: Builder,
    isa: Vocabulary,
    place: tuple[Value, Value],
    vectors: int,
    factors: list[Value],
    padded: Value,
) -> None:
    """y of the rows whose entries lie in `codes`, for some columns."""
    m, first = place
    columns = k.bind((k["width"] + WIDE - 1) // WIDE * WIDE)
    sums = []
    for v in range(vectors):
        start = isa.mixed_start(k["sum"].load(first + v * isa.lanes, isa.lanes))
        sums.append([k.register("int32", isa.lanes, start) for _ in factors])
    with k.loop((k["length"] + 3) // 4) as four:
        for v in range(vectors):
            packed = isa.bytes(k["q"], (four * columns + first + v * isa.lanes) * 4)
            for j in range(len(factors)):
                entries = isa.four(k["codes"], padded * j + four * 4)
                sums[v][j].set(isa.mixed(sums[v][j].get(), entries, packed))
    for v in range(vectors):
        for j, factor in enumerate(factors):
            result = k.bind(isa.as_floats(sums[v][j].get()) * vector(factor, "float32", isa.lanes))
            column = k.bind(first + v * isa.lanes)
            partial_store(k, k["y"], (m + j) * k["width"], column, k["width"], result, isa.lanes)
