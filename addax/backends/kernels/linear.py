"""What the kernels of linear layers share: parameters, blocks of tokens, sums of a group, the end.

    y[m, n] = scale[n] sum_g s[g, m] multiplier[n, g] sum_(k in g) weight[n, k] q[m, k]

q int8 [groups, rows, group] (or look-up tables), s float [groups, rows] and sum int32
[groups, rows] come from `activations`; weights are packed in tiles of 64 rows.
"""

from collections.abc import Callable, Sequence

from addax.backends.kernels.vocabulary import TILE, Bytes, Vocabulary
from addax.backends.tvm.builder import Builder, Register, Value, minimum, vector

PARAMETERS = {
    "q": "int8*",
    "s": "float32*",
    "sum": "int32*",
    "codes": "uint8*",
    "table": "uint8*",
    "multipliers": "uint8*",
    "scale": "float32*",
    "y": "float32*",
    "weights": "uint8*",
    "sums": "float32*",
    "rows": "int32",
    "columns": "int32",
    "groups": "int32",
    "group": "int32",
    "t0": "int32",
    "t1": "int32",
}

AHEAD = 8192  # bytes: how far before its use a line of weights is asked for

Sums = list[list[Register]]  # [vector of rows][token]
Weights = Callable[[Value, int], Sequence[Bytes]]  # (step, vector) -> weights of each field


def token_blocks(
    k: Builder,
    most: int,
    body: Callable[[Value, int], None],
    span: tuple[Value, Value] | None = None,
) -> None:
    """body(first token, tokens) for blocks of `most` tokens, a power of two, then for the rest.

    `span` is the first token and how many there are; by default all rows.
    """
    start, rows = (0, k["rows"]) if span is None else span
    with k.loop(rows // most) as block:
        body(k.bind(start + block * most), most)
    size = most // 2
    while size:
        with k.when((rows // size) % 2 == 1):
            body(k.bind(start + rows // (2 * size) * (2 * size)), size)
        size //= 2


def float_sums(k: Builder, isa: Vocabulary, vectors: int, tokens: int) -> Sums:
    """A float sum of 0 for each vector of rows and token."""
    return [[k.register("float32", isa.lanes) for _ in range(tokens)] for _ in range(vectors)]


def dot_group(
    k: Builder,
    isa: Vocabulary,
    weights: Weights,
    shape: tuple[int, int],
    steps: Value,
    fields: int,
    g: Value,
    m: Value,
) -> list[list[Value]]:
    """Integer sums of a group of 4 * steps * fields columns for [vectors, tokens] = `shape`."""
    vectors, tokens = shape
    # One token leaves registers idle and sums waiting for each other: two sums a vector then.
    ways = min(fields, 2) if tokens == 1 else 1
    starts = [isa.dot_start(k, g * k["rows"] + m + j) for j in range(tokens)]
    sums = [
        [
            [k.register("int32", isa.lanes, starts[j] if way == 0 else None) for way in range(ways)]
            for j in range(tokens)
        ]
        for _ in range(vectors)
    ]
    first = k.bind((g * k["rows"] + m) * k["group"])
    with k.loop(steps) as step:
        for v in range(vectors):
            for field, some in enumerate(weights(step, v)):
                for j in range(tokens):
                    at = first + j * k["group"] + (step * fields + field) * 4
                    sum_ = sums[v][j][field % ways]
                    sum_.set(isa.dot(sum_.get(), some, isa.four(k["q"], at)))
    return [[k.bind(total(token)) for token in row] for row in sums]


def total(ways: Sequence[Register]) -> Value:
    """What one or two registers sum to."""
    return ways[0].get() if len(ways) == 1 else ways[0].get() + ways[1].get()


def add_group(
    k: Builder,
    isa: Vocabulary,
    totals: Sums,
    sums: list[list[Value]],
    place: tuple[Value, Value, Value, Value],
    *,
    multiplied: bool,
) -> None:
    """totals += s[g, m] multiplier[n, g] sums, at `place`: the tile, its row, g and m."""
    tile, row, g, m = place
    for v, tokens in enumerate(sums):
        if multiplied:
            at = (tile * k["groups"] + g) * TILE + row + v * isa.lanes
            factor = k.bind(isa.widened(k["multipliers"], at))
        for j, some in enumerate(tokens):
            s = vector(k["s"].load(g * k["rows"] + m + j), "float32", isa.lanes)
            scaled = isa.as_floats(some) * (factor * s if multiplied else s)
            totals[v][j].set(totals[v][j].get() + scaled)


def store_rows(
    k: Builder, isa: Vocabulary, totals: Sums, tile: Value, row: Value, m: Value
) -> None:
    """y[m, n] = scale[n] totals, for the rows that exist."""
    for v, tokens in enumerate(totals):
        n = k.bind(tile * TILE + row + v * isa.lanes)
        with k.choice(n + isa.lanes <= k["columns"]) as whole:
            with whole.then():
                for j, total in enumerate(tokens):
                    result = total.get() * isa.floats(k["scale"], n)
                    k["y"].store((m + j) * k["columns"] + n, result, isa.lanes)
            if isa.lanes == 1:
                continue
            with whole.otherwise():
                for j, total in enumerate(tokens):
                    rest = k.memory("float32", isa.lanes)
                    rest.store(0, total.get(), isa.lanes)
                    with k.loop(minimum(k["columns"] - n, isa.lanes)) as lane:
                        result = rest.load(lane) * k["scale"].load(n + lane)
                        k["y"].store((m + j) * k["columns"] + n + lane, result)
