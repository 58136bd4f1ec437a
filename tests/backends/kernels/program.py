"""Calls of kernels as data: one stretch of memory and calls that point into it.

The same program runs here through ctypes, and as another processor's machine code under QEMU. All
memory between the arrays is filled with ones (NaN as a float, -1 as an integer): who reads beyond
an array computes nonsense, and who writes there is found out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

LINE = 64  # bytes: what arrays are aligned to, and the least space between them
FILL = 0xFF


@dataclass(frozen=True)
class Place:
    """Where an array lies in the memory of a program, in bytes."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


Argument = Place | int | float | None  # pointer, int32, float32, null pointer


@dataclass(frozen=True)
class Call:
    kernel: str  # its symbol is addax_KERNEL_ISA
    arguments: tuple[Argument, ...]


class Machine(Protocol):
    """What runs the kernels of one instruction set."""

    def run(self, memory: np.ndarray, calls: Sequence[Call]) -> np.ndarray:
        """The memory, uint8, after all calls."""
        ...


class Program:
    def __init__(self) -> None:
        self._memory = bytearray([FILL]) * LINE
        self._calls: list[Call] = []
        self._written: list[Place] = []

    def put(self, array: np.ndarray, shift: int = 0) -> Place:
        """An array that kernels only read, `shift` bytes behind a multiple of 64."""
        array = np.ascontiguousarray(array)
        place = self._reserve(array.shape, array.dtype, shift)
        self._memory[place.start : place.start + place.size] = array.tobytes()
        return place

    def room(self, shape: Sequence[int], dtype: type, shift: int = 0) -> Place:
        """An array that kernels write to; it begins as ones in every bit."""
        place = self._reserve(tuple(shape), np.dtype(dtype), shift)
        self._written.append(place)
        return place

    def call(self, kernel: str, *arguments: Argument) -> None:
        self._calls.append(Call(kernel, arguments))

    def run(self, machine: Machine) -> "Outcome":
        before = np.frombuffer(bytes(self._memory), np.uint8)
        after = machine.run(before.copy(), self._calls)
        kept = np.ones(len(before), bool)
        for place in self._written:
            kept[place.start : place.start + place.size] = False
        changed = np.flatnonzero(kept & (before != after))
        assert [] == changed.tolist(), "memory changed that is nobody's, or an input"
        return Outcome(after)

    def _reserve(self, shape: tuple[int, ...], dtype: np.dtype, shift: int) -> Place:
        place = Place(len(self._memory) + shift, shape, dtype)
        end = -(-(place.start + place.size + LINE) // LINE) * LINE
        self._memory.extend(bytes([FILL]) * (end - len(self._memory)))
        return place


@dataclass(frozen=True)
class Outcome:
    """The arrays of a program after its run, by their places."""

    memory: np.ndarray

    def __getitem__(self, place: Place) -> np.ndarray:
        data = self.memory[place.start : place.start + place.size].tobytes()
        return np.frombuffer(data, place.dtype).reshape(place.shape)
