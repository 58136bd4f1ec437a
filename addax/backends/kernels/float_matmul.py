"""Float matmul on packed weights, for experts that multiply.

    y[m, n] = b[n] + sum_k x[m, k] w[k, n]

w lies in tiles of 64 outputs, [N / 64, K, 64], padded with anything. Sums run over k in order.
"""

from addax.backends.kernels.linear import token_blocks
from addax.backends.kernels.vocabulary import TILE
from addax.backends.kernels.wide import WIDE, floats, partial_load, partial_store
from addax.backends.tvm.builder import Builder, Value

PARAMETERS = {
    "x": "float32*",
    "w": "float32*",
    "b": "float32*",
    "y": "float32*",
    "rows": "int32",
    "inner": "int32",
    "columns": "int32",
    "t0": "int32",
    "t1": "int32",
}
_VECTORS = TILE // WIDE
_TOKENS = 4


def float_matmul(k: Builder) -> None:
    """Tiles t0 to t1 of y[rows, columns]."""
    with k.loop(k["t0"], k["t1"]) as tile:
        token_blocks(k, _TOKENS, lambda m, tokens: _block(k, tile, m, tokens))


def _block(k: Builder, tile: Value, m: Value, tokens: int) -> None:
    inner, n = k["inner"], k.bind(tile * TILE)
    sums = []
    for v in range(_VECTORS):
        bias = k.bind(partial_load(k, k["b"], 0, n + v * WIDE, k["columns"]))
        sums.append([k.register("float32", WIDE, bias) for _ in range(tokens)])
    with k.loop(inner) as i:
        for v in range(_VECTORS):
            w = k.bind(k["w"].load((tile * inner + i) * TILE + v * WIDE, WIDE))
            for j in range(tokens):
                x = floats(k["x"].load((m + j) * inner + i))
                sums[v][j].set(sums[v][j].get() + x * w)
    for v in range(_VECTORS):
        for j in range(tokens):
            start, column = (m + j) * k["columns"], n + v * WIDE
            partial_store(k, k["y"], start, column, k["columns"], sums[v][j].get(), WIDE)
