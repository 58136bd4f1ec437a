"""Any processor: one row at a time, and the same with shifts and additions in place of products."""

from collections.abc import Sequence
from typing import NamedTuple

from addax.backends.kernels.vocabulary import Bytes, Table, Vocabulary
from addax.backends.tvm.builder import (
    Builder,
    Pointer,
    Value,
    absolute,
    bit,
    cast,
    reinterpret,
    select,
    shift_left,
    vector,
)


class _Place(NamedTuple):
    pointer: Pointer
    index: Value


class Scalar(Vocabulary):
    """A vector of bytes is a list of four int32."""

    lanes = 1
    vectors = 2
    sums = 2
    tokens = 2
    prefetches = False

    def bytes(self, pointer: Pointer, index: Value) -> Bytes:
        return [_signed(pointer, index + byte) for byte in range(4)]

    def store_bytes(self, pointer: Pointer, index: Value, value: Bytes) -> None:
        for byte, one in enumerate(value):
            pointer.store(index + byte, cast(one, pointer.dtype))

    def four(self, pointer: Pointer, index: Value) -> Bytes:
        return self.bytes(pointer, index)

    def codebook(self, k: Builder, pointer: Pointer) -> Table:
        return pointer

    def decoded(self, packed: Bytes, bits: int, table: Table) -> list[Bytes]:
        return [
            [_signed(table, _bits(byte, shift, bits)) for byte in packed]
            for shift in range(0, 8, bits)
        ]

    def biased(self, weights: Bytes) -> Bytes:
        return weights

    def dot(self, sums: Value, weights: Bytes, activations: Bytes) -> Value:
        for weight, activation in zip(weights, activations, strict=True):
            sums = sums + self.product(activation, weight)
        return sums

    def product(self, value: Value, weight: Value) -> Value:
        """value * weight, for a weight from -255 to 255."""
        return value * weight

    def sign_table(self, pointer: Pointer, index: Value) -> Table:
        return _Place(pointer, index)

    def nibbles(self, packed: Bytes) -> Sequence[Bytes]:
        return [[_bits(byte, shift, 4) for byte in packed] for shift in (0, 4)]

    def looked_up(self, table: Table, indices: Bytes) -> Bytes:
        return [
            _signed(table.pointer, table.index + 16 * byte + index)
            for byte, index in enumerate(indices)
        ]

    def multipliers(self, pointer: Pointer, index: Value) -> Bytes:
        return cast(pointer.load(index), "int32")

    def scaled(self, sums: Value, multipliers: Bytes, entries: Bytes) -> Value:
        return sums + self.product(entries[0] + entries[1] + entries[2] + entries[3], multipliers)

    def plane_weights(self, packed: Sequence[Bytes], multipliers: Sequence[Bytes]) -> list[Bytes]:
        made = []
        for nibble in range(2):
            for j in range(4):
                weights = [vector(0, "int32", 1)] * 4
                for plane, multiplier in zip(packed, multipliers, strict=True):
                    signs = [bit(plane[j], 4 * nibble + b, 1) for b in range(4)]
                    weights = [
                        weight + select(sign, multiplier, -multiplier)
                        for weight, sign in zip(weights, signs, strict=True)
                    ]
                made.append(weights)
        return made

    def table64(self, k: Builder, pointer: Pointer) -> Table:
        return _Place(pointer, 0)

    def entries(self, table: Table, indices: Bytes) -> Bytes:
        return [cast(table.pointer.load(index), "int32") for index in indices]

    def mixed(self, sums: Value, unsigned: Bytes, signed: Bytes) -> Value:
        for left, right in zip(unsigned, signed, strict=True):
            sums = sums + self.product(right, left & 255)
        return sums

    def ones(self) -> Bytes:
        return [vector(1, "int32", 1)] * 4

    def added(self, sums: Value) -> Value:
        return sums


class NoMultiplier(Scalar):
    """The papers' arithmetic: a product is the value shifted once for each bit of the weight.

    The reference of all the others. What is left of multiplication is the scales: one float product
    for each output, token and group.
    """

    vectors = 1
    sums = 1
    tokens = 1

    def product(self, value: Value, weight: Value) -> Value:
        """sign(weight) sum_b (bit b of |weight|) (value << b)."""
        size = absolute(weight)
        made = vector(0, "int32", 1)
        for place in range(8):
            shifted = shift_left(value, vector(place, "int32", 1))
            made = made + select(bit(size, place, 1), shifted, vector(0, "int32", 1))
        return select(weight < 0, -made, made)


def _signed(pointer: Pointer, index: Value) -> Value:
    return cast(reinterpret(pointer.load(index), "int8"), "int32")


def _bits(byte: Value, shift: int, bits: int) -> Value:
    return byte >> shift & ((1 << bits) - 1)
