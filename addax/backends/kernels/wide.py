"""Float arithmetic sixteen lanes at a time, on any processor: LLVM splits what is too wide."""

from addax.backends.tvm.builder import (
    Builder,
    Pointer,
    Value,
    cast,
    counting,
    intrinsic,
    minimum,
    select,
    vector,
)

WIDE = 16
LOWEST = -3.4028234663852886e38  # of float32


def floats(value: Value) -> Value:
    """A number or scalar in all lanes, as float32."""
    return vector(value, "float32", WIDE)


def rounded(value: Value) -> Value:
    """To the nearest int32, ties to even."""
    return cast(intrinsic("llvm.rint.v16f32", "float32", WIDE, value), "int32", WIDE)


def largest_lane(value: Value) -> Value:
    """The largest lane of floats."""
    return intrinsic("llvm.vector.reduce.fmax.v16f32", "float32", 1, value)


def summed_lanes(value: Value) -> Value:
    """The sum of the lanes of floats, in order."""
    zero = vector(0.0, "float32", 1)
    return intrinsic("llvm.vector.reduce.fadd.v16f32", "float32", 1, zero, value)


def partial_load(k: Builder, pointer: Pointer, start: Value, first: Value, length: Value) -> Value:
    """Elements first to first + 16 of a row that begins at `start`; 0 from `length` on."""
    made = k.register("float32", WIDE)
    with k.choice(first + WIDE <= length) as whole:
        with whole.then():
            made.set(pointer.load(start + first, WIDE))
        with whole.otherwise():
            for lane in range(WIDE):
                value = pointer.load(start + minimum(first + lane, length - 1))
                there = first + lane < length
                made.put(lane, select(there, value, vector(0.0, "float32", 1)))
    return made.get()


def exist(first: Value, length: Value) -> Value:
    """Which of the places first to first + 16 are below `length`."""
    return counting(WIDE) + vector(first, "int32", WIDE) < vector(length, "int32", WIDE)


def partial_store(
    k: Builder,
    pointer: Pointer,
    start: Value,
    first: Value,
    length: Value,
    value: Value,
    lanes: int,
) -> None:
    """Write lanes as elements `first` and on of a row that begins at `start`, below `length`."""
    with k.choice(first + lanes <= length) as whole:
        with whole.then():
            pointer.store(start + first, value, lanes)
        with whole.otherwise():
            rest = k.memory(pointer.dtype, lanes)
            rest.store(0, value, lanes)
            with k.loop(minimum(length - first, lanes)) as lane:
                pointer.store(start + first + lane, rest.load(lane))
