"""AArch64: NEON with the dot product of bytes (Armv8.2 and later), and without."""

from collections.abc import Sequence

from addax.backends.kernels.vocabulary import Bytes, Table
from addax.backends.targets.vector import Vector
from addax.backends.tvm.builder import Builder, Pointer, Value, intrinsic, shuffled, vector


class NeonDot(Vector):
    """`tbl` reads tables of 16 or 64 bytes, `sdot` sums four products a lane."""

    lanes = 4
    vectors = 4
    sums = 16
    tokens = 8

    def codebook(self, k: Builder, pointer: Pointer) -> Table:
        return k.bind(self.bytes(pointer, 0))

    def decoded(self, packed: Bytes, bits: int, table: Table) -> list[Bytes]:
        return [
            intrinsic("llvm.aarch64.neon.tbl1.v16i8", "int8", 16, table, index)
            for index in (self.masked(packed, shift, bits) for shift in range(0, 8, bits))
        ]

    def dot(self, sums: Value, weights: Bytes, activations: Bytes) -> Value:
        name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
        return intrinsic(name, "int32", 4, sums, weights, activations)

    def sign_table(self, pointer: Pointer, index: Value) -> Table:
        return [self.bytes(pointer, index + 16 * byte) for byte in range(4)]

    def nibbles(self, packed: Bytes) -> Sequence[Bytes]:
        place = self.int8(vector(0x30201000, "int32", 4))  # byte j reads entries 16 j and up
        return [self.masked(packed, shift, 4) | place for shift in (0, 4)]

    def looked_up(self, table: Table, indices: Bytes) -> Bytes:
        return intrinsic("llvm.aarch64.neon.tbl4.v16i8", "int8", 16, *table, indices)

    def scaled(self, sums: Value, multipliers: Bytes, entries: Bytes) -> Value:
        return self.dot(sums, multipliers, entries)

    def table64(self, k: Builder, pointer: Pointer) -> Table:
        # There is no product of mixed signs before i8mm: entries less 128, as signed bytes, and
        # 128 times the other bytes to begin with.
        parts = range(0, 64, 16)
        return [k.bind(self.bytes(pointer, part) ^ self.all(-128)) for part in parts]

    def entries(self, table: Table, indices: Bytes) -> Bytes:
        return self.looked_up(table, indices)

    def mixed(self, sums: Value, unsigned: Bytes, signed: Bytes) -> Value:
        return self.dot(sums, unsigned, signed)

    def mixed_start(self, total: Value) -> Value:
        return total * vector(128, "int32", 4)


class Neon(NeonDot):
    """Without `sdot`: products of bytes as int16, added in pairs, then into the sums."""

    def dot(self, sums: Value, weights: Bytes, activations: Bytes) -> Value:
        low, high = (_products(weights, activations, first) for first in (0, 8))
        pairs = intrinsic("llvm.aarch64.neon.addp.v8i16", "int16", 8, low, high)
        return sums + intrinsic("llvm.aarch64.neon.saddlp.v4i32.v8i16", "int32", 4, pairs)


def _products(a: Bytes, b: Bytes, first: int) -> Value:
    half = range(first, first + 8)
    halves = (shuffled(a, half), shuffled(b, half))
    return intrinsic("llvm.aarch64.neon.smull.v8i16", "int16", 8, *halves)
