"""Linear layers for kernels: drawn weights as integers and packed, and what kernels make of them.

Sizes have the letters of the kernels: M tokens, N outputs, K columns, groups of `group` columns.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from tests.backends.kernels.program import Place, Program
from tests.backends.kernels.reference import round_to_int8
from tests.ir.dialect import packing

EDGES = (1, 7, 8, 9, 31, 32, 33, 127, 128, 129)
SIZES = st.sampled_from(EDGES) | st.integers(1, 150)
SEEDS = st.integers(0, 2**32 - 1)

# Kernel -> its form of weights, and what prepares its activations.
KERNELS = {
    **{f"codebook{bits}_few": (f"codebook{bits}", "quantize") for bits in (4, 2)},
    **{f"codebook{bits}_many": (f"codebook{bits}", "quantize") for bits in (4, 2)},
    **{f"binary{planes}_few": (f"binary{planes}", "tables") for planes in (1, 2, 3, 4)},
    **{f"binary{planes}_many": (f"binary{planes}", "quantize") for planes in (1, 2, 3, 4)},
    "int8": ("int8", "quantize"),
}


@dataclass(frozen=True)
class Shape:
    M: int
    N: int
    K: int
    group: int

    @property
    def groups(self) -> int:
        return -(-self.K // self.group)

    @property
    def tiles(self) -> int:
        return -(-self.N // 64)

    @property
    def of_column(self) -> np.ndarray:
        """The group of each column."""
        return np.arange(self.K) // self.group

    def in_one_group(self) -> "Shape":
        """How int8 weights see it."""
        return Shape(self.M, self.N, self.K, -(-self.K // 32) * 32)


SHAPES = st.builds(Shape, SIZES, SIZES, SIZES, st.sampled_from([32, 64, 96, 128])).filter(
    lambda shape: shape.M * shape.N * shape.K <= 600_000
)


@dataclass(frozen=True)
class Layer:
    """y = scale (x weights^T): the integers, and the arrays that kernels read."""

    weights: np.ndarray  # int64[N, K], with the multipliers
    scale: np.ndarray
    codes: np.ndarray
    table: np.ndarray | None = None
    multipliers: np.ndarray | None = None
    planes: np.ndarray | None = None  # int64[N, K, q], the signed multipliers of binary codes


def layer(form: str, shape: Shape, seed: int, padding: int = 0) -> Layer:
    """A drawn layer; of those of one seed, `padding` says what lies where there are no weights.

    Sums of 150 products with int8 stay below 2^24, so float32 holds them in any order.
    """
    rng, rest = np.random.default_rng(seed), np.random.default_rng(padding)
    N, K = shape.N, shape.K
    scale = np.exp2(rng.integers(-3, 4, N)).astype(np.float32)
    if form == "int8":
        return int8(rng.integers(-128, 128, (N, K)), scale, shape, rest)
    bits = int(form[-1])
    if form.startswith("binary"):
        times = rng.integers(0, 127 // bits + 1, (N, shape.groups, bits))
        return binary(rng.random((N, K, bits)) < 0.5, times, scale, shape, rest)
    most, most_times = ((128, 6), (3, 255))[rng.integers(2)]
    table = rng.integers(-most, min(most, 127) + 1, 1 << bits)
    times = rng.integers(0, most_times + 1, (N, shape.groups))
    return codebook(rng.integers(0, 1 << bits, (N, K)), table, times, scale, shape, rest)


def extreme(form: str, shape: Shape, signs: np.ndarray) -> Layer:
    """The largest weights that there may be, each with the sign of its column of [K]."""
    rest, scale = np.random.default_rng(0), np.ones(shape.N, np.float32)
    positive = np.broadcast_to(signs > 0, (shape.N, shape.K))
    if form == "int8":
        return int8(np.where(positive, 127, -128), scale, shape, rest)
    bits = int(form[-1])
    if form.startswith("binary"):
        times = np.full((shape.N, shape.groups, bits), 127 // bits)
        return binary(np.stack([positive] * bits, -1), times, scale, shape, rest)
    table, times = np.resize([-128, 127], 1 << bits), np.full((shape.N, shape.groups), 255)
    return codebook(positive.astype(int), table, times, scale, shape, rest)


def int8(weights: np.ndarray, scale: np.ndarray, shape: Shape, rest: np.random.Generator) -> Layer:
    beyond = rest.integers(-128, 128, (shape.N, shape.in_one_group().group - shape.K))
    packed = packing.pack_int8(np.concatenate([weights, beyond], 1).astype(np.int8), rest)
    return Layer(weights.astype(np.int64), scale, packed)


def binary(
    signs: np.ndarray, times: np.ndarray, scale: np.ndarray, shape: Shape, rest: np.random.Generator
) -> Layer:
    planes = np.where(signs, 1, -1) * times[:, shape.of_column].astype(np.int64)
    packed = packing.pack_planes(signs, shape.group, rest)
    multipliers = packing.pack_multipliers(times.astype(np.uint8), rest)
    return Layer(planes.sum(-1), scale, packed, None, multipliers, planes)


def codebook(
    codes: np.ndarray,
    table: np.ndarray,
    times: np.ndarray,
    scale: np.ndarray,
    shape: Shape,
    rest: np.random.Generator,
) -> Layer:
    bits = len(table).bit_length() - 1
    weights = table[codes].astype(np.int64) * times[:, shape.of_column]
    packed = packing.pack_codes(codes.astype(np.uint8), bits, shape.group, rest)
    repeated = np.resize(table.astype(np.int8).view(np.uint8), 64)
    multipliers = packing.pack_multipliers(times.astype(np.uint8), rest)
    return Layer(weights, scale, packed, repeated, multipliers)


def unrounded(prepare: str, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Integers x[M, K] that are their own rounding: the largest of each group is 127, or where four
    are summed, the largest sum of four magnitudes."""
    fours = prepare == "tables"
    most = 31 if fours else 127
    x = rng.integers(-most, most + 1, (shape.M, shape.K))
    for g in range(shape.groups):
        first = g * shape.group
        some = min(4 if fours else 1, shape.K - first)
        x[:, first : first + some] = 31
        x[:, first + some - 1] = 127 - 31 * (some - 1)
    return (x * rng.choice([-1, 1], x.shape)).astype(np.float32)


def padded(x: np.ndarray, shape: Shape) -> np.ndarray:
    """x[M, K] with zeros behind it, by groups: [groups, M, group]."""
    made = np.zeros((shape.M, shape.groups * shape.group), np.float32)
    made[:, : shape.K] = x
    return np.moveaxis(made.reshape(shape.M, shape.groups, shape.group), 1, 0)


def quantized(x: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """q and s of `quantize`."""
    rounded = round_to_int8(padded(x, shape))
    return rounded.q, rounded.scale[..., 0]


def tabled(x: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """q and s of `tables`; each float32 operation by itself, in the kernel's order."""
    fours = padded(x, shape).reshape(shape.groups, shape.M, shape.group // 4, 4)
    sizes = np.abs(fours)
    largest = ((sizes[..., 0] + sizes[..., 1]) + (sizes[..., 2] + sizes[..., 3])).max(-1)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1))
    scaled = fours * (np.float32(1) / scale)[..., None, None]
    signs = np.where(np.arange(16)[:, None] >> np.arange(4) & 1, 1, -1).astype(np.float32)
    terms = scaled[..., None, :] * signs
    sums = (terms[..., 0] + terms[..., 1]) + (terms[..., 2] + terms[..., 3])
    q = np.rint(sums).astype(np.int8).reshape(shape.groups, shape.M, 4 * shape.group)
    return q, scale


def group_sums(q: np.ndarray, layer: Layer, shape: Shape) -> np.ndarray:
    """sum_k q w of each group from the bytes of `quantize` [groups, M, N]."""
    weights = np.zeros((shape.groups * shape.group, shape.N))
    weights[: shape.K] = layer.weights.T
    return q.astype(np.float64) @ weights.reshape(shape.groups, shape.group, shape.N)


def group_look_ups(q: np.ndarray, layer: Layer, shape: Shape) -> np.ndarray:
    """The same from the bytes of `tables`: the entry of each four signs, times its multiplier."""
    assert layer.planes is not None
    entries = q.reshape(shape.groups, shape.M, shape.group // 4, 16).astype(np.float64)
    sums = np.zeros((shape.groups, shape.M, shape.N))
    columns = np.arange(shape.K)
    for plane in np.moveaxis(layer.planes, 2, 0):
        codes = np.zeros((shape.N, shape.groups * shape.group // 4), int)
        np.add.at(codes, (slice(None), columns // 4), (plane > 0) << columns % 4)
        for j in range(-(-shape.K // 4)):
            g, four = divmod(j, shape.group // 4)
            sums[g] += entries[g, :, four, codes[:, j]].T * np.abs(plane[:, 4 * j])
    return sums


@dataclass(frozen=True)
class Rounded:
    """Activations as a kernel reads them: q int8, s float, and the sums of q."""

    q: Place
    s: Place
    sum: Place


Spans = Iterable[tuple[int, int]]


def prepare(
    program: Program, kernel: str, x: Place, shape: Shape, rows: Spans | None = None
) -> Rounded:
    """What the kernel makes of x, in calls for the spans of rows; all at once by default."""
    width = shape.group * (4 if kernel == "tables" else 1)
    q = program.room((shape.groups, shape.M, width), np.int8)
    s = program.room((shape.groups, shape.M), np.float32)
    sums = program.room((shape.groups, shape.M), np.int32)
    for span in ((0, shape.M),) if rows is None else rows:
        program.call(kernel, x, q, s, sums, shape.M, shape.K, shape.groups, shape.group, *span)
    return Rounded(q, s, sums)


def multiply(
    program: Program,
    kernel: str,
    rounded: Rounded,
    layer: Layer,
    shape: Shape,
    *,
    tiles: Spans | None = None,
    shift: int = 0,
) -> Place:
    """y[M, N] of a kernel, in calls for the spans of tiles; `shift` bytes off of alignment."""
    codes, scale = program.put(layer.codes, shift), program.put(layer.scale, shift)
    table = None if layer.table is None else program.put(layer.table)
    times = None if layer.multipliers is None else program.put(layer.multipliers, shift)
    y = program.room((shape.M, shape.N), np.float32, shift)
    many = kernel.endswith("_many")
    weights = program.room((64 * shape.group,), np.uint8) if many else None
    sums = program.room((64 * shape.M,), np.float32) if many else None
    read = (rounded.q, rounded.s, rounded.sum, codes, table, times, scale, y, weights, sums)
    for span in ((0, shape.tiles),) if tiles is None else tiles:
        program.call(kernel, *read, shape.M, shape.N, shape.groups, shape.group, *span)
    return y
