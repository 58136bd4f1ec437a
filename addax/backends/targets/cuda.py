"""CUDA: as any GPU, but four products of bytes are one instruction."""

from addax.backends.kernels.vocabulary import Bytes, Table
from addax.backends.targets.gpu import Gpu, Quad, word_of
from addax.backends.tvm.builder import Value, shift_left, vector
from addax.backends.tvm.grid import dot_of_bytes, once


class Cuda(Gpu):
    """Weights meet activations as words."""

    def entry(self, byte: Value) -> Value:
        return byte & 255  # so that entries need no mask when they are put side by side

    def decoded(self, packed: Bytes, bits: int, table: Table) -> list[Bytes]:
        last = (1 << bits) - 1
        return [
            Quad(once(_beside([table.load(byte >> shift & last) for byte in packed])))
            for shift in range(0, 8, bits)
        ]

    def dot(self, sums: Value, weights: Bytes, activations: Bytes) -> Value:
        return dot_of_bytes(word_of(weights), word_of(activations), sums)


def _beside(entries: list[Value]) -> Value:
    made = entries[0]
    for place, entry in enumerate(entries[1:], start=1):
        made = made | shift_left(entry, vector(8 * place, "int32", 1))
    return made
