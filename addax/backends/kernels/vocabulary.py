"""The instructions that kernel bodies are written in; a target is one implementation of them.

All kernels work on *rows*: a vector of `lanes` 32-bit sums belongs to `lanes` output rows, and four
bytes beside each other meet four columns. What a vector of bytes is, only the vocabulary knows: a
register of 64 bytes, or a list of four scalars.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from addax.backends.kernels.columns import Columns
from addax.backends.tvm.builder import Builder, Pointer, Value, cast, vector

Bytes = Any  # a vector of 4 * lanes bytes, as the vocabulary holds it
Table = Any  # a table of 64 bytes, as the vocabulary holds it

TILE = 64  # output rows packed together


class Scratch:
    """Memory of one tile for kernels that decode a group once, lent by the caller.

    Weights are bytes [group / 4, 64, 4], sums are floats [rows, 64].
    """

    def __init__(self, k: Builder) -> None:
        self.weights: Pointer = k["weights"]
        self.sums: Pointer = k["sums"]

    def weight_at(self, four: Value, row: Value) -> Value:
        """Where the four weights of a row of the tile lie for the columns from 4 * `four` on."""
        return (four * TILE + row) * 4

    def sum_at(self, m: Value, row: Value) -> Value:
        """Where the sum of token `m` and a row of the tile lies."""
        return m * TILE + row


class Vocabulary(ABC):
    """One instruction set.

    Attributes:
        lanes: 32-bit lanes of a vector, so output rows that it serves.
        vectors: Vectors of rows that are summed side by side, at most.
        sums: Sums that are held side by side, as the registers allow.
        tokens: The most tokens that meet a weight while it is in a register, a power of two.
        prefetches: Whether weights are asked for before they are used.
        keeps_tables: Whether the look-up tables of 128 columns fit in registers.
        columns: How activations are read, rounded and written.
        bias: What `codebook` and `biased` add to weights (their bytes are then unsigned), 0 or 128.
    """

    lanes: int
    vectors: int
    sums: int
    tokens: int
    columns: Columns = Columns()
    bias: int = 0
    prefetches: bool = True
    keeps_tables: bool = False

    def beside(self, tokens: int) -> int:
        """Vectors of rows that are summed side by side for so many tokens."""
        return min(self.vectors, self.sums // tokens)

    def parts(self, vectors: int) -> int:
        """How many times a tile must be walked if `vectors` are summed side by side."""
        return TILE // (self.lanes * vectors)

    # what a kernel call walks over: on a GPU the grid does

    def tiles(self, k: Builder) -> AbstractContextManager[Value]:
        """Each tile that this call computes."""
        return k.loop(k["t0"], k["t1"])

    def each_part(self, k: Builder, vectors: int) -> AbstractContextManager[Value]:
        """Each part of a tile if `vectors` are summed side by side."""
        return k.loop(self.parts(vectors))

    def span(self, k: Builder, _most: int) -> tuple[Value, Value]:
        """The first token of this call and how many there are; on a GPU at most `most`."""
        return 0, k["rows"]

    def scratch(self, k: Builder, _tokens: int) -> Scratch:
        """Memory for the decoded weights of a tile and the sums of at most `tokens` tokens."""
        return Scratch(k)

    # memory

    def floats(self, pointer: Pointer, index: Value) -> Value:
        """`lanes` floats."""
        return pointer.load(index, self.lanes)

    @abstractmethod
    def bytes(self, pointer: Pointer, index: Value) -> Bytes:
        """4 * lanes bytes from `index` on."""

    @abstractmethod
    def store_bytes(self, pointer: Pointer, index: Value, value: Bytes) -> None:
        """Write 4 * lanes bytes from `index` on."""

    @abstractmethod
    def four(self, pointer: Pointer, index: Value) -> Bytes:
        """Four bytes from `index` on, the same four for every lane."""

    def widened(self, pointer: Pointer, index: Value) -> Value:
        """`lanes` unsigned bytes as floats."""
        return cast(
            cast(pointer.load(index, self.lanes), "int32", self.lanes), "float32", self.lanes
        )

    # weights

    @abstractmethod
    def codebook(self, k: Builder, pointer: Pointer) -> Table:
        """The 64 entries of a table of weights, each with the bias added."""

    @abstractmethod
    def decoded(self, packed: Bytes, bits: int, table: Table) -> list[Bytes]:
        """The weights of each field of `bits` bits, low bits first, from `codebook`."""

    @abstractmethod
    def biased(self, weights: Bytes) -> Bytes:
        """Signed weights with the bias added."""

    # sums

    def dot_start(self, k: Builder, place: Value) -> Value:
        """The sums of 0 products; `place`: where the activations' sum lies, for the bias."""
        start = k["sum"].load(place) * -self.bias if self.bias else 0
        return vector(start, "int32", self.lanes)

    @abstractmethod
    def dot(self, sums: Value, weights: Bytes, activations: Bytes) -> Value:
        """sums + the four products of each lane; weights from `decoded` or `biased`."""

    def as_floats(self, sums: Value) -> Value:
        """Sums as floats."""
        return cast(sums, "float32", self.lanes)

    # look-up tables of signed sums: 64 entries for 16 columns, 16 for each byte of a lane

    @abstractmethod
    def sign_table(self, pointer: Pointer, index: Value) -> Table:
        """The 64 entries from `index` on: 16 for each of the four bytes of a lane."""

    @abstractmethod
    def nibbles(self, packed: Bytes) -> Sequence[Any]:
        """Indices for `looked_up`: of the low and of the high four bits of each byte."""

    @abstractmethod
    def looked_up(self, table: Table, indices: Any) -> Bytes:
        """The signed entry of each byte."""

    @abstractmethod
    def multipliers(self, pointer: Pointer, index: Value) -> Bytes:
        """`lanes` multipliers of at most 127, each in all four bytes of its lane."""

    @abstractmethod
    def scaled(self, sums: Value, multipliers: Bytes, entries: Bytes) -> Value:
        """sums + multiplier times the four entries of each lane."""

    # planes of signs as bytes

    @abstractmethod
    def plane_weights(self, packed: Sequence[Bytes], multipliers: Sequence[Bytes]) -> list[Bytes]:
        """Weights sum_i multiplier_i (2 bit_i - 1) of 32 columns, biased: 8 vectors in order."""

    # unsigned bytes times signed ones, for attention

    @abstractmethod
    def table64(self, k: Builder, pointer: Pointer) -> Table:
        """The first 64 bytes from `pointer` on, for `entries`."""

    @abstractmethod
    def entries(self, table: Table, indices: Bytes) -> Bytes:
        """The entry of each byte, an index below 64."""

    @abstractmethod
    def mixed(self, sums: Value, unsigned: Bytes, signed: Bytes) -> Value:
        """sums + the four products of each lane, if the sums began with `mixed_start`."""

    def mixed_start(self, total: Value) -> Value:
        """What `mixed` must begin with where the signed bytes of each lane will sum to `total`."""
        return total - total

    @abstractmethod
    def ones(self) -> Bytes:
        """A 1 in every byte."""

    @abstractmethod
    def added(self, sums: Value) -> Value:
        """The sum of the lanes."""
