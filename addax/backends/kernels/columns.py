"""Runs of columns of a row of activations, as the kernels that round them see them.

Here a run is a vector of sixteen floats, on any processor; on a GPU it is four numbers of a thread.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from addax.backends.kernels.wide import (
    WIDE,
    floats,
    largest_lane,
    partial_load,
    rounded,
    summed_lanes,
)
from addax.backends.tvm.builder import (
    Builder,
    Pointer,
    Value,
    absolute,
    bit,
    cast,
    counting,
    intrinsic,
    maximum,
    select,
    shuffled,
    vector,
)

Run = Any  # neighbouring columns, as the vocabulary holds them


class Extent:
    """The largest magnitude of a group, and whether it holds a NaN or an infinity."""

    def __init__(self, k: Builder) -> None:
        self._largest, self._strange = k.register("float32", WIDE), k.register("float32", WIDE)

    def meet(self, x: Run, magnitudes: Run) -> None:
        """Take in a run `x` whose magnitudes are these."""
        self._largest.set(maximum(self._largest.get(), magnitudes))
        self._strange.set(self._strange.get() + x * floats(0.0))

    def scale(self, k: Builder) -> Value:
        """The largest magnitude / 127; 1 for a group of zeros, NaN for one that is not finite."""
        most = k.bind(largest_lane(self._largest.get()))
        odd = summed_lanes(self._strange.get())
        one = vector(1.0, "float32", 1)
        return k.bind(select(most > 0, most / vector(127.0, "float32", 1), one) + odd)


class Total:
    """A sum of integers over a group."""

    def __init__(self, k: Builder) -> None:
        self._sums = k.register("int32", WIDE)

    def add(self, run: Run) -> None:
        """Take in the integers of a run."""
        self._sums.set(self._sums.get() + run)

    def store(self, pointer: Pointer, index: Value) -> None:
        """Write the sum."""
        summed = intrinsic("llvm.vector.reduce.add.v16i32", "int32", 1, self._sums.get())
        pointer.store(index, summed)


class Columns:
    """Runs of `size` columns; groups are whole runs.

    Attributes:
        size: Columns of a run.
        extent: What finds the scale of a group, made with the `Builder`.
        total: What sums integers of a group, made with the `Builder`.
    """

    size: int = WIDE
    extent: type[Any] = Extent
    total: type[Any] = Total

    @contextmanager
    def groups(self, k: Builder) -> Iterator[tuple[Value, Value]]:
        """Each row and group of columns (m, g) that this call serves."""
        with k.loop(k["r0"], k["r1"]) as m, k.loop(k["groups"]) as g:
            yield m, g

    def runs(self, k: Builder) -> AbstractContextManager[Value]:
        """Each run of a group."""
        return k.loop(k["group"] // self.size)

    def once(self, _k: Builder) -> AbstractContextManager[None]:
        """What is done once for a group."""
        return nullcontext()

    def load(self, k: Builder, m: Value, first: Value) -> Run:
        """Columns of row m from `first` on, zeros where there are none."""
        return partial_load(k, k["x"], k.bind(m * k["columns"]), first, k["columns"])

    def scaled(self, run: Run, factor: Value) -> Run:
        """A run times a number."""
        return run * floats(factor)

    def magnitudes(self, run: Run) -> Run:
        """The magnitude of each column."""
        return absolute(run)

    def magnitudes_of_fours(self, k: Builder, run: Run) -> Run:
        """For each four columns the sum of their magnitudes."""
        sizes = absolute(run)
        pairs = k.bind(sizes + shuffled(sizes, [i ^ 1 for i in range(WIDE)]))
        return pairs + shuffled(pairs, [i ^ 2 for i in range(WIDE)])

    def rounded(self, run: Run) -> Run:
        """Each column to the nearest integer, ties to even."""
        return rounded(run)

    def signed_sums(self, run: Run, first: int) -> Run:
        """The 16 sums +-x[first] ... +-x[first + 3]; bit t of the place is the sign of term t."""
        terms = [shuffled(run, [first + t] * WIDE) for t in range(4)]
        one = floats(1.0)
        plus = [bit(counting(WIDE), t, WIDE) for t in range(4)]
        signed = [terms[t] * select(plus[t], one, -one) for t in range(4)]
        return (signed[0] + signed[1]) + (signed[2] + signed[3])

    def store(self, pointer: Pointer, index: Value, integers: Run) -> None:
        """Write integers from -127 to 127 as bytes from `index` on."""
        pointer.store(index, cast(integers, "int8", WIDE), WIDE)
