"""What all instruction sets with vectors of bytes share; LLVM finds the shuffles."""

from collections.abc import Sequence

from addax.backends.kernels.vocabulary import Bytes, Vocabulary
from addax.backends.tvm.builder import (
    Pointer,
    Value,
    intrinsic,
    reinterpret,
    select,
    shift_right,
    shuffled,
    vector,
)


class Vector(Vocabulary):
    """Bytes are one register of 4 * lanes int8."""

    def bytes(self, pointer: Pointer, index: Value) -> Bytes:
        return self.int8(pointer.load(index, self.size))

    def store_bytes(self, pointer: Pointer, index: Value, value: Bytes) -> None:
        pointer.store(index, reinterpret(value, pointer.dtype, self.size), self.size)

    def four(self, pointer: Pointer, index: Value) -> Bytes:
        word = reinterpret(pointer.load(index, 4), "int32")
        return self.int8(vector(word, "int32", self.lanes))

    def biased(self, weights: Bytes) -> Bytes:
        return weights ^ self.all(-128) if self.bias else weights

    def multipliers(self, pointer: Pointer, index: Value) -> Bytes:
        spread = [byte // 4 for byte in range(self.size)]
        return self.int8(shuffled(pointer.load(index, self.lanes), spread))

    def plane_weights(self, packed: Sequence[Bytes], multipliers: Sequence[Bytes]) -> list[Bytes]:
        least = self.all(-128 if self.bias else 0)
        for multiplier in multipliers:
            least = least - multiplier
        made = []
        for nibble in range(2):
            # The byte of column block j of each lane, in all four bytes; byte b tests bit b.
            tested = self.int8(vector(_signed(0x08040201 << 4 * nibble), "int32", self.lanes))
            for j in range(4):
                spread = [byte // 4 * 4 + j for byte in range(self.size)]
                weights = least
                for plane, multiplier in zip(packed, multipliers, strict=True):
                    positive = (shuffled(plane, spread) & tested) != self.all(0)
                    weights = select(positive, weights + multiplier + multiplier, weights)
                made.append(weights)
        return made

    def ones(self) -> Bytes:
        return self.all(1)

    def added(self, sums: Value) -> Value:
        return intrinsic(f"llvm.vector.reduce.add.v{self.lanes}i32", "int32", 1, sums)

    @property
    def size(self) -> int:
        """Bytes of a vector."""
        return 4 * self.lanes

    def int8(self, value: Value) -> Value:
        """The same bits as signed bytes."""
        return reinterpret(value, "int8", self.size)

    def all(self, value: int) -> Value:
        """A byte in every place."""
        return vector(value, "int8", self.size)

    def field(self, packed: Value, shift: int) -> Value:
        """Each byte shifted right; bits of the byte above come in from the left."""
        if not shift:
            return packed
        words = self.size // 2
        return self.int8(shift_right(reinterpret(packed, "uint16", words), shift, "uint16", words))

    def masked(self, packed: Value, shift: int, bits: int) -> Value:
        """The field of `bits` bits from `shift` on, alone in each byte."""
        return self.field(packed, shift) & self.all((1 << bits) - 1)


def _signed(word: int) -> int:
    return word - (1 << 32) if word >= 1 << 31 else word
