"""x86-64 with AVX2: byte shuffles over 16 entries, products of bytes summed in pairs."""

from collections.abc import Sequence

from addax.backends.kernels.vocabulary import Bytes, Table
from addax.backends.targets.vector import Vector
from addax.backends.tvm.builder import (
    Builder,
    Pointer,
    Value,
    absolute,
    intrinsic,
    reinterpret,
    shuffled,
    vector,
)


class Avx2(Vector):
    """Unsigned times signed bytes: |w| meets x with the sign of w, so no pair of sums overflows."""

    lanes = 8
    vectors = 4
    sums = 8
    tokens = 4

    def codebook(self, k: Builder, pointer: Pointer) -> Table:
        return k.bind(self._twice(pointer, 0))

    def decoded(self, packed: Bytes, bits: int, table: Table) -> list[Bytes]:
        fields = range(0, 8, bits)
        return [_shuffled(table, self.masked(packed, shift, bits)) for shift in fields]

    def dot(self, sums: Value, weights: Bytes, activations: Bytes) -> Value:
        signed = intrinsic("llvm.x86.avx2.psign.b", "int8", 32, activations, weights)
        return self._pairs(sums, absolute(weights), signed)

    def sign_table(self, pointer: Pointer, index: Value) -> Table:
        return [self._twice(pointer, index + 16 * byte) for byte in range(4)]

    def nibbles(self, packed: Bytes) -> Sequence[list[Bytes]]:
        # An index with its high bit set reads 0: one index vector for each byte of a lane.
        others = [self.int8(vector(0x80808080 - (0x80 << 8 * b), "uint32", 8)) for b in range(4)]
        return [[self.masked(packed, s, 4) | other for other in others] for s in (0, 4)]

    def looked_up(self, table: Table, indices: list[Bytes]) -> Bytes:
        a, b, c, d = (_shuffled(t, i) for t, i in zip(table, indices, strict=True))
        return (a | b) | (c | d)

    def scaled(self, sums: Value, multipliers: Bytes, entries: Bytes) -> Value:
        return self._pairs(sums, multipliers, entries)

    def table64(self, k: Builder, pointer: Pointer) -> Table:
        return [k.bind(self._twice(pointer, 16 * part)) for part in range(4)]

    def entries(self, table: Table, indices: Bytes) -> Bytes:
        # 16 p to 16 p + 15 become 0x70 to 0x7f, all others get the high bit, which reads 0.
        inside = [(indices ^ self.all(16 * part)) + self.all(0x70) for part in range(4)]
        return self.looked_up(table, inside)

    def mixed(self, sums: Value, unsigned: Bytes, signed: Bytes) -> Value:
        # 255 * 127 twice does not fit int16: even and odd bytes apart, as int16.
        u, v = (reinterpret(some, "uint16", 16) for some in (unsigned, signed))
        low, eight = vector(255, "uint16", 16), vector(8, "uint16", 16)
        for left, right in ((u & low, v << eight), (u >> eight, v)):
            sums = sums + intrinsic(
                "llvm.x86.avx2.pmadd.wd",
                "int32",
                8,
                reinterpret(left, "int16", 16),
                reinterpret(right, "int16", 16) >> vector(8, "int16", 16),
            )
        return sums

    def _twice(self, pointer: Pointer, index: Value) -> Value:
        """16 bytes in both halves of a register."""
        return self.int8(shuffled(pointer.load(index, 16), [byte % 16 for byte in range(32)]))

    def _pairs(self, sums: Value, unsigned: Bytes, signed: Bytes) -> Value:
        name = "llvm.x86.avx2.pmadd.ub.sw"
        twos = intrinsic(name, "int16", 16, unsigned, signed)
        ones = vector(1, "int16", 16)
        return sums + intrinsic("llvm.x86.avx2.pmadd.wd", "int32", 8, twos, ones)


def _shuffled(table: Value, indices: Value) -> Value:
    return intrinsic("llvm.x86.avx2.pshuf.b", "int8", 32, table, indices)
