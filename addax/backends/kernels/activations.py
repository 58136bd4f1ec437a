"""What is done to the activations x[rows, K] of a linear layer before weights meet them.

`quantize`: int8 with one scale for each token and group of columns (ties to even):
    s[g, m] = max_(k in g) |x[m, k]| / 127,  q[g, m, k] = rint(x[m, k] / s[g, m]),
    sum[g, m] = sum_k q[g, m, k]

`tables`: for each four columns the 16 signed sums, int8 with one scale for each token and group:
    s[g, m] = max_j sum_(t < 4) |x[m, 4 j + t]| / 127
    q[g, m, j, c] = rint(sum_t (2 c_t - 1) x[m, 4 j + t] / s[g, m]),  c_t bit t of c

A NaN or an infinity in a group makes the scale NaN, and so the outputs of the token.
"""

from addax.backends.tvm.builder import (
    Builder,
    Value,
    absolute,
    bit,
    cast,
    counting,
    intrinsic,
    maximum,
    minimum,
    select,
    shuffled,
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
_WIDE = 16  # any instruction set: LLVM splits what is wider than its registers


def quantize(k: Builder) -> None:
    """Rows r0 to r1 of q, s and sum."""
    with k.loop(k["r0"], k["r1"]) as m, k.loop(k["groups"]) as g:
        largest, strange = k.register("float32", _WIDE), k.register("float32", _WIDE)
        with k.loop(k["group"] // _WIDE) as block:
            x = k.bind(_columns(k, m, g, block))
            largest.set(maximum(largest.get(), absolute(x)))
            strange.set(strange.get() + x * vector(0.0, "float32", _WIDE))
        inverse = _scale(k, m, g, largest.get(), strange.get())
        total = k.register("int32", _WIDE)
        with k.loop(k["group"] // _WIDE) as block:
            rounded = k.bind(_rounded(_columns(k, m, g, block) * inverse))
            total.set(total.get() + rounded)
            at = (g * k["rows"] + m) * k["group"] + block * _WIDE
            k["q"].store(at, cast(rounded, "int8", _WIDE), _WIDE)
        summed = intrinsic("llvm.vector.reduce.add.v16i32", "int32", 1, total.get())
        k["sum"].store(g * k["rows"] + m, summed)


def tables(k: Builder) -> None:
    """Rows r0 to r1 of q and s; sum stays as it is."""
    with k.loop(k["r0"], k["r1"]) as m, k.loop(k["groups"]) as g:
        largest, strange = k.register("float32", _WIDE), k.register("float32", _WIDE)
        with k.loop(k["group"] // _WIDE) as block:
            x = k.bind(_columns(k, m, g, block))
            pairs = k.bind(absolute(x) + shuffled(absolute(x), [i ^ 1 for i in range(_WIDE)]))
            fours = pairs + shuffled(pairs, [i ^ 2 for i in range(_WIDE)])
            largest.set(maximum(largest.get(), fours))
            strange.set(strange.get() + x * vector(0.0, "float32", _WIDE))
        inverse = _scale(k, m, g, largest.get(), strange.get())
        with k.loop(k["group"] // _WIDE) as block:
            scaled = k.bind(_columns(k, m, g, block) * inverse)
            for four in range(_WIDE // 4):
                sums = _signed_sums(scaled, 4 * four)
                at = ((g * k["rows"] + m) * k["group"] + block * _WIDE + 4 * four) * 4
                k["q"].store(at, cast(_rounded(sums), "int8", _WIDE), _WIDE)


def _columns(k: Builder, m: Value, g: Value, block: Value) -> Value:
    """Columns of one row, zeros where there are none."""
    made = k.register("float32", _WIDE)
    first = k.bind(g * k["group"] + block * _WIDE)
    row = k.bind(m * k["columns"])
    with k.choice(first + _WIDE <= k["columns"]) as whole:
        with whole.then():
            made.set(k["x"].load(row + first, _WIDE))
        with whole.otherwise():
            for lane in range(_WIDE):
                there = first + lane < k["columns"]
                value = k["x"].load(row + minimum(first + lane, k["columns"] - 1))
                made.put(lane, select(there, value, vector(0.0, "float32", 1)))
    return made.get()


def _scale(k: Builder, m: Value, g: Value, largest: Value, strange: Value) -> Value:
    """Store s = largest / 127 and give 1 / s in every lane; 1 for a group of zeros."""
    most = k.bind(intrinsic("llvm.vector.reduce.fmax.v16f32", "float32", 1, largest))
    odd = intrinsic(
        "llvm.vector.reduce.fadd.v16f32", "float32", 1, vector(0.0, "float32", 1), strange
    )
    one = vector(1.0, "float32", 1)
    scale = k.bind(select(most > 0, most / vector(127.0, "float32", 1), one) + odd)
    k["s"].store(g * k["rows"] + m, scale)
    return vector(k.bind(one / scale), "float32", _WIDE)


def _rounded(x: Value) -> Value:
    """To the nearest integer from -127 to 127, ties to even."""
    return cast(intrinsic("llvm.rint.v16f32", "float32", _WIDE, x), "int32", _WIDE)


def _signed_sums(x: Value, first: int) -> Value:
    """The 16 sums of +-x[first], ..., +-x[first + 3]; bit t of the lane is the sign of term t."""
    terms = [shuffled(x, [first + t] * _WIDE) for t in range(4)]
    one = vector(1.0, "float32", _WIDE)
    plus = [bit(counting(_WIDE), t, _WIDE) for t in range(4)]
    signed = [terms[t] * select(plus[t], one, -one) for t in range(4)]
    return (signed[0] + signed[1]) + (signed[2] + signed[3])
