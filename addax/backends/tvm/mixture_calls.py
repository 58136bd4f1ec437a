"""RoutedMoE as calls of kernels: tokens are sorted by expert, each expert gets its own at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import tvm
from tvm import relax, tirx

from addax.backends.target import InstructionSet
from addax.backends.tvm.builder import Pointer, Value, cast, minimum
from addax.backends.tvm.glue import NOWHERE, Functions, Glue, ceil_div, product, shaped
from addax.backends.tvm.linear_calls import INT8_COLUMNS, TILE, WORTH_SHARING, padded_int8
from addax.ir.query import constant

_RUN = 4  # tiles in a task
_ROWS = 16  # tokens in a task
_WEIGHTS = ("floats", "bias", "integers", "scale", "other")


def mixture_call(
    functions: Functions,
    isa: InstructionSet,
    builder: relax.BlockBuilder,
    node: ir.Node,
    inputs: Sequence[Any],
) -> Any:
    """The result of a RoutedMoE, by the kernels of an instruction set."""
    x, expert = (shaped(builder, *pair) for pair in zip(inputs[:2], node.inputs[:2], strict=True))
    floats, bias, integers, *others = (np.asarray(constant(value)) for value in node.inputs[2:])
    columns, outputs = floats.shape
    group = -(-columns // INT8_COLUMNS) * INT8_COLUMNS
    arrays = (_packed(floats), bias, padded_int8(integers, group), *others)
    tensors = {
        name: relax.const(tvm.runtime.tensor(np.ascontiguousarray(array).reshape(-1)))
        for name, array in zip(_WEIGHTS, arrays, strict=True)
    }
    return functions.call(
        builder,
        ("mixture", columns, outputs),
        {"x": x, "expert": expert, **tensors},
        ([*list(x.ty.shape)[:-1], outputs], "float32"),
        lambda k: _Mixture(k, isa.name, columns, outputs, group).write(),
    )


def _packed(weights: np.ndarray) -> np.ndarray:
    """w[K, N] in tiles of 64 outputs, [tiles, K, 64]."""
    columns, outputs = weights.shape
    wide = np.pad(weights, [(0, 0), (0, -outputs % TILE)])
    return wide.reshape(columns, -1, TILE).swapaxes(0, 1)


@dataclass(frozen=True)
class _Tokens:
    """Tokens are numbered expert by expert: number m is row order[m] of x and y."""

    order: Pointer
    firsts: Value  # tokens of the first expert
    gathered: Pointer  # their rows
    made: Pointer  # results by number
    prepared: tuple[Pointer, Pointer, Pointer]  # the others' rows as integers, scales, sums


class _Mixture:
    """The function of a mixture while it is written."""

    def __init__(self, k: Glue, isa: str, columns: int, outputs: int, group: int) -> None:
        self.k, self.isa, self.group = k, isa, group
        self.columns, self.outputs = columns, outputs
        self.rows = product(k.dims["x"][:-1])

    def write(self) -> None:
        """Sort, prepare, multiply, put where it belongs."""
        k = self.k
        rows = cast(self.rows, "int64")
        for one, other in zip(k.dims["x"][:-1], k.dims["expert"], strict=True):
            k.require(one == other, "there is not an expert for each row of X")
        order = k.scratch("int32", rows)
        tokens = _Tokens(
            order,
            self._sort(order),
            k.scratch("float32", rows * self.columns),
            k.scratch("float32", rows * self.outputs),
            (
                k.scratch("int8", rows * self.group),
                k.scratch("float32", rows),
                k.scratch("int32", rows),
            ),
        )

        def run(shared: bool) -> None:
            self._prepare(tokens, shared=shared)
            self._multiply(tokens, shared=shared)
            self._scatter(tokens, shared=shared)

        k.either(self.rows > WORTH_SHARING // (self.columns * self.outputs), run)

    def _sort(self, order: Pointer) -> Value:
        k, zero, one = self.k, tirx.const(0, "int32"), tirx.const(1, "int32")
        firsts, next_first, next_other = (k.register("int32") for _ in range(3))
        with k.loop(self.rows) as row, k.when(k["expert"].load(row) == 0):
            firsts.set(firsts.get() + one)
        next_first.set(zero)
        next_other.set(firsts.get())
        with k.loop(self.rows) as row, k.choice(k["expert"].load(row) == 0) as is_first:
            for arm, place in ((is_first.then, next_first), (is_first.otherwise, next_other)):
                with arm():
                    order.store(place.get(), row)
                    place.set(place.get() + one)
        return firsts.get()

    def _prepare(self, tokens: _Tokens, *, shared: bool) -> None:
        """The rows of x by number: gathered as they are, or made integers."""
        k, size = self.k, self.columns
        q, s, sums = tokens.prepared
        with self._some_tokens(shared) as number:
            row = k["x"].address(cast(tokens.order.load(number), "int64") * size)
            with k.choice(number < tokens.firsts) as is_first:
                with is_first.then():
                    k.copy(tokens.gathered.address(cast(number, "int64") * size), row, 4 * size)
                with is_first.otherwise():
                    at = cast(number - tokens.firsts, "int64")
                    k.call(
                        f"addax_quantize_{self.isa}",
                        row,
                        q.address(at * self.group),
                        s.address(at),
                        sums.address(at),
                        1,
                        size,
                        1,
                        self.group,
                        0,
                        1,
                    )

    def _multiply(self, tokens: _Tokens, *, shared: bool) -> None:
        """Some tiles of all tokens of both experts."""
        k, tiles = self.k, -(-self.outputs // TILE)
        with k.tasks(tirx.const(-(-tiles // _RUN), "int32"), shared=shared) as task:
            span = (task * _RUN, minimum(task * _RUN + _RUN, tiles))
            with k.when(tokens.firsts > 0):
                k.call(
                    f"addax_float_matmul_{self.isa}",
                    tokens.gathered.address(0),
                    k["floats"].address(0),
                    k["bias"].address(0),
                    tokens.made.address(0),
                    tokens.firsts,
                    self.columns,
                    self.outputs,
                    *span,
                )
            with k.when(tokens.firsts < self.rows):
                k.call(
                    f"addax_int8_{self.isa}",
                    *(pointer.address(0) for pointer in tokens.prepared),
                    k["integers"].address(0),
                    NOWHERE,
                    NOWHERE,
                    k["scale"].address(0),
                    tokens.made.address(cast(tokens.firsts, "int64") * self.outputs),
                    NOWHERE,
                    NOWHERE,
                    self.rows - tokens.firsts,
                    self.outputs,
                    1,
                    self.group,
                    *span,
                )

    def _scatter(self, tokens: _Tokens, *, shared: bool) -> None:
        """Results to the rows of y that they belong to."""
        k, size = self.k, self.outputs
        with self._some_tokens(shared) as number:
            made = cast(number, "int64") * size
            y = cast(tokens.order.load(number), "int64") * size
            with k.choice(number < tokens.firsts) as is_first:
                with is_first.then():  # has its bias
                    k.copy(k["y"].address(y), tokens.made.address(made), 4 * size)
                with is_first.otherwise(), k.loop(size) as n:
                    k["y"].store(y + n, tokens.made.load(made + n) + k["other"].load(n))

    @contextmanager
    def _some_tokens(self, shared: bool) -> Iterator[Value]:
        """A loop over the numbers of tokens, some in each task."""
        k = self.k
        with k.tasks(ceil_div(self.rows, _ROWS), shared=shared) as task:
            first = task * _ROWS
            with k.loop(first, minimum(first + _ROWS, self.rows)) as number:
                yield number
