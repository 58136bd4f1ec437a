"""GPUs: a tile is a block, a row of it a thread, and bytes come four in a 32-bit word.

A thread reads the word that four columns of its row lie in, its neighbour the next word. No GPU
language but those of C has bytes, so that words are all that the kernels read and write.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from addax.backends.kernels.columns import Columns, Run
from addax.backends.kernels.vocabulary import TILE, Bytes, Scratch, Table
from addax.backends.targets.scalar import Scalar
from addax.backends.tvm.builder import (
    Pointer,
    Value,
    cast,
    maximum,
    minimum,
    reinterpret,
    select,
    shift_left,
    vector,
)
from addax.backends.tvm.grid import nearest, once

Grid = Any  # the `GridBuilder`: where vocabularies take any builder, this one needs a grid's
THREADS = 32  # of a block that rounds one group of a row
_WORDS = 128 // 4  # of the weights of a row of the widest group
_INFINITY = 0x7F800000  # as bits; what lies above are NaNs
_QUIET = 0x00400000
_MAGNITUDE = 0x7FFFFFFF


class _Extent:
    """The largest magnitude; of floats without sign the larger one has the larger bits."""

    def __init__(self, k: Grid) -> None:
        self._largest = k.register("int32")

    def meet(self, _x: Run, magnitudes: Run) -> None:
        for value in magnitudes:
            bits = reinterpret(value, "int32") & _MAGNITUDE
            self._largest.set(maximum(self._largest.get(), bits))

    def scale(self, k: Grid) -> Value:
        everyone = k.shared("int32", THREADS)
        everyone.store(k.thread, self._largest.get())
        k.barrier()
        with k.loop(THREADS) as other:
            self._largest.set(maximum(self._largest.get(), everyone.load(other)))
        bits = k.bind(self._largest.get())
        scale = reinterpret(bits, "float32") / vector(127.0, "float32", 1)
        strange = k.bind(reinterpret(bits | _QUIET, "float32"))
        finite = k.bind(select(bits == 0, vector(1.0, "float32", 1), scale))
        return k.bind(select(bits >= _INFINITY, strange, finite))


class _NoTotal:
    """Weights are signed here, so that nobody needs the sum of a group."""

    def __init__(self, k: Grid) -> None:
        pass

    def add(self, run: Run) -> None:
        pass


class GridColumns(Columns):
    """A block rounds one group of a row; a run is a list of four numbers of a thread."""

    size = 4
    extent = _Extent
    total = _NoTotal

    @contextmanager
    def groups(self, k: Grid) -> Iterator[tuple[Value, Value]]:
        yield k.block

    @contextmanager
    def runs(self, k: Grid) -> Iterator[Value]:
        count = k.bind(k["group"] // self.size)
        with k.loop((count + (THREADS - 1)) // THREADS) as turn:
            run = k.bind(turn * THREADS + k.thread)
            with k.when(run < count):
                yield run

    def once(self, k: Grid) -> AbstractContextManager[None]:
        first: AbstractContextManager[None] = k.when(k.thread == 0)
        return first

    def load(self, k: Grid, m: Value, first: Value) -> Run:
        start, last = k.bind(m * k["columns"]), k["columns"] - 1
        return [
            select(
                first + place <= last,
                k["x"].load(start + minimum(first + place, last)),
                vector(0.0, "float32", 1),
            )
            for place in range(self.size)
        ]

    def scaled(self, run: Run, factor: Value) -> Run:
        return [value * factor for value in run]

    def magnitudes(self, run: Run) -> Run:
        return run  # the extent drops signs

    def magnitudes_of_fours(self, _k: Grid, run: Run) -> Run:
        sizes = [reinterpret(reinterpret(value, "int32") & _MAGNITUDE, "float32") for value in run]
        return [(sizes[0] + sizes[1]) + (sizes[2] + sizes[3])]

    def rounded(self, run: Run) -> Run:
        return [nearest(value) for value in run]

    def signed_sums(self, run: Run, _first: int) -> Run:
        made = []
        for place in range(16):
            a, b, c, d = (x if place >> t & 1 else -x for t, x in enumerate(run))
            made.append((a + b) + (c + d))
        return made

    def store(self, pointer: Pointer, index: Value, integers: Run) -> None:
        for place in range(0, len(integers), 4):
            pointer.store(index // 4 + place // 4, word_of(integers[place : place + 4]))


class _Scratch(Scratch):
    """The weights and sums of one row, which its thread keeps to itself.

    Places are masked, since TVM would size the memory by the largest place that it can prove.
    """

    def __init__(self, k: Grid, tokens: int) -> None:
        self.weights = k.memory("int32", _WORDS)
        self.sums = k.memory("float32", tokens)
        self._tokens = tokens

    def weight_at(self, four: Value, _row: Value) -> Value:
        return (four & (_WORDS - 1)) * 4

    def sum_at(self, m: Value, _row: Value) -> Value:
        return m & (self._tokens - 1)


class Quad(list[Value]):
    """The signed bytes of a word, and the word."""

    def __init__(self, word: Value) -> None:
        super().__init__(shift_left(word, _int(24 - 8 * byte)) >> 24 for byte in range(4))
        self.word = word


class Gpu(Scalar):
    """One row a thread; blocks along x share tokens out, along y tiles."""

    vectors = 1
    sums = 4
    tokens = 4
    columns = GridColumns()

    # the grid

    def tiles(self, k: Grid) -> AbstractContextManager[Value]:
        return nullcontext(k.block[1])

    def each_part(self, k: Grid, _vectors: int) -> AbstractContextManager[Value]:
        return nullcontext(k.thread)

    def span(self, k: Grid, most: int) -> tuple[Value, Value]:
        first = k.bind(k.block[0] * most)
        return first, k.bind(minimum(k["rows"] - first, most))

    def scratch(self, k: Grid, tokens: int) -> Scratch:
        return _Scratch(k, tokens)

    # bytes in words

    def bytes(self, pointer: Pointer, index: Value) -> Bytes:
        return Quad(once(pointer.load(index // 4)))

    def store_bytes(self, pointer: Pointer, index: Value, value: Bytes) -> None:
        pointer.store(index // 4, word_of(value))

    def widened(self, pointer: Pointer, index: Value) -> Value:
        return cast(byte_of(pointer, index) & 255, "float32")

    def multipliers(self, pointer: Pointer, index: Value) -> Bytes:
        return byte_of(pointer, index) & 255

    def codebook(self, k: Grid, pointer: Pointer) -> Table:
        table = k.shared("int32", TILE)  # a bank for each entry
        table.store(k.thread, self.entry(byte_of(pointer, k.thread)))
        k.barrier()
        return table

    def entry(self, byte: Value) -> Value:
        """An entry of the table as it is kept, from what `byte_of` gives."""
        return _signed(byte)

    def decoded(self, packed: Bytes, bits: int, table: Table) -> list[Bytes]:
        last = (1 << bits) - 1
        return [
            [once(table.load(byte >> shift & last)) for byte in packed]
            for shift in range(0, 8, bits)
        ]

    def looked_up(self, table: Table, indices: Bytes) -> Bytes:
        return [
            _signed(byte_of(table.pointer, table.index + 16 * byte + index))
            for byte, index in enumerate(indices)
        ]


def byte_of(pointer: Pointer, index: Value) -> Value:
    """A byte of a word in the low bits, with the bytes above it still above it."""
    return pointer.load(index // 4) >> index % 4 * 8


def _signed(word: Value) -> Value:
    return shift_left(word, _int(24)) >> 24


def word_of(integers: Bytes) -> Value:
    """Four bytes as one word, the first in its low bits."""
    if isinstance(integers, Quad):
        return integers.word
    a, b, c, d = (value & 255 for value in integers)
    return a | shift_left(b, _int(8)) | shift_left(c, _int(16)) | shift_left(d, _int(24))


def _int(value: int) -> Value:
    return vector(value, "int32", 1)
