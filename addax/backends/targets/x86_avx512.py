"""x86-64 with AVX-512 VBMI (byte shuffles over 64 entries) and VNNI (dot products of bytes)."""

from collections.abc import Sequence

from addax.backends.kernels.vocabulary import Bytes, Table
from addax.backends.targets.vector import Vector
from addax.backends.tvm.builder import Builder, Pointer, Value, intrinsic, vector


class Avx512(Vector):
    """A table of 64 bytes is one register, four products a lane are one instruction."""

    lanes = 16
    vectors = 4
    sums = 16
    tokens = 8
    keeps_tables = True
    bias = 128  # vpdpbusd takes unsigned weights and signed activations

    def codebook(self, k: Builder, pointer: Pointer) -> Table:
        return k.bind(self.biased(self.bytes(pointer, 0)))

    def decoded(self, packed: Bytes, bits: int, table: Table) -> list[Bytes]:
        # An index uses six bits and the table repeats, so that the junk above a field is harmless.
        fields = range(0, 8, bits)
        return [self.looked_up(table, self.field(packed, shift)) for shift in fields]

    def dot(self, sums: Value, weights: Bytes, activations: Bytes) -> Value:
        name = "llvm.x86.avx512.vpdpbusd.512"
        return intrinsic(name, "int32", 16, sums, weights, activations)

    def sign_table(self, pointer: Pointer, index: Value) -> Table:
        return self.bytes(pointer, index)

    def nibbles(self, packed: Bytes) -> Sequence[Bytes]:
        place = self.int8(vector(0x30201000, "int32", 16))  # byte j reads entries 16 j and up
        return [self.masked(packed, shift, 4) | place for shift in (0, 4)]

    def looked_up(self, table: Table, indices: Bytes) -> Bytes:
        return intrinsic("llvm.x86.avx512.permvar.qi.512", "int8", 64, table, indices)

    def scaled(self, sums: Value, multipliers: Bytes, entries: Bytes) -> Value:
        return self.dot(sums, multipliers, entries)

    def table64(self, k: Builder, pointer: Pointer) -> Table:
        return k.bind(self.bytes(pointer, 0))

    def entries(self, table: Table, indices: Bytes) -> Bytes:
        return self.looked_up(table, indices)

    def mixed(self, sums: Value, unsigned: Bytes, signed: Bytes) -> Value:
        return self.dot(sums, unsigned, signed)
