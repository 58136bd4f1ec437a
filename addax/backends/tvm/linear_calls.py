"""Linear layers of the dialect as calls of kernels: CodebookMatMul, BinaryMatMul, Int8MatMul.

Activations are made integers once, then blocks of rows are multiplied by runs of tiles of 64
outputs, on as many threads as the work is worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import tvm
from tvm import relax, tirx

from addax.backends.ort import form_of, paths_of
from addax.backends.ort.sources import FORMS, Kernel
from addax.backends.target import InstructionSet, Target
from addax.backends.tvm.builder import Pointer, Value, cast, maximum, minimum
from addax.backends.tvm.glue import NOWHERE, Functions, Glue, ceil_div, product, rounded_up, shaped
from addax.ir.query import constant, shape

TILE = 64  # outputs
INT8_COLUMNS = 32  # the int8 kernel takes a multiple of them
_BLOCK_ROWS = 256  # of activations at once: their sums stay in the cache
_ROW_STEP = 8  # blocks are multiples of it
_CHUNKS = 32  # about so many tasks: small enough for uneven cores
WORTH_SHARING = 1 << 19  # multiplications; fewer are done before a thread wakes up
_WORTH_SHARING_ROWS = 1 << 17  # activations to prepare
_WEIGHTS = ("codes", "table", "multipliers", "scale")

Prepared = Sequence[tuple[Pointer, int]]  # activations as integers, scales, sums: elements a row


@dataclass(frozen=True)
class Layer:
    """The weights of a layer as kernels take them.

    Attributes:
        form: A key of `FORMS`.
        columns: K, of the activations.
        outputs: N.
        groups: Of columns, with a scale each; `groups * group` columns, the last ones padded.
        group: Columns of a group.
        weights: Codes, table, multipliers and scale; one element where a form has none.
    """

    form: str
    columns: int
    outputs: int
    groups: int
    group: int
    weights: tuple[np.ndarray, ...]

    @property
    def kind(self) -> tuple[Any, ...]:
        """All but the numbers."""
        return self.form, self.columns, self.outputs, self.groups, self.group


def linear_call(
    functions: Functions,
    isa: InstructionSet,
    builder: relax.BlockBuilder,
    node: ir.Node,
    inputs: Sequence[Any],
) -> Any:
    """The result of a linear layer, by the kernels of an instruction set."""
    layer = _layer(node)
    x = shaped(builder, inputs[0], node.inputs[0])
    tensors = {
        name: relax.const(tvm.runtime.tensor(array))
        for name, array in zip(_WEIGHTS, layer.weights, strict=True)
    }
    dims = [*list(x.ty.shape)[:-1], layer.outputs]
    return functions.call(
        builder,
        layer.kind,
        {"x": x, **tensors},
        (dims, "float32"),
        lambda k: _Product(k, layer, isa).write(),
    )


def _layer(node: ir.Node) -> Layer:
    form, dims = str(form_of(node)), shape(node.inputs[0]) or ()
    columns = next(size for size in dims[-1:] if isinstance(size, int))  # as the form demands
    first, *others, scale = (np.asarray(constant(value)) for value in node.inputs[1:])
    none = np.zeros(TILE, np.uint8)
    if form == "int8":
        group = -(-columns // INT8_COLUMNS) * INT8_COLUMNS
        weights = _flat(padded_int8(first, group), none, none, scale)
        return Layer(form, columns, len(scale), 1, group, weights)
    group = node.attributes["group"].as_int()
    if form.startswith("codebook"):
        table, multipliers = others
        table = np.resize(table, TILE).view(np.uint8)
    else:
        table, (multipliers,) = none, others
    weights = _flat(first, table, multipliers, scale)
    return Layer(form, columns, len(scale), first.shape[1], group, weights)


def padded_int8(weights: np.ndarray, group: int) -> np.ndarray:
    """Weights of Int8MatMul as uint8, with `group` columns."""
    missing = group // 4 - weights.shape[1]
    return np.pad(weights, [(0, 0), (0, missing), (0, 0), (0, 0)]).view(np.uint8)


def _flat(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.ascontiguousarray(array).reshape(-1) for array in arrays)


class _Product:
    """The function of a layer while it is written.

    A block is some rows of activations that are prepared and multiplied together.
    """

    def __init__(self, k: Glue, layer: Layer, isa: InstructionSet) -> None:
        self.k, self.layer, self.isa = k, layer, isa
        self.rows = product(k.dims["x"][:-1])
        self.tiles = -(-layer.outputs // TILE)
        work = layer.columns * layer.outputs
        self.is_shared = self.rows > WORTH_SHARING // work
        blocks = ceil_div(self.rows, _BLOCK_ROWS)
        few = tirx.all(self.is_shared, blocks * self.tiles < _CHUNKS // 2, self.rows > 2 * TILE)
        more = minimum(-(-(_CHUNKS // 2) // self.tiles), tirx.floordiv(self.rows, TILE))
        blocks = k.number(tirx.if_then_else(few, more, maximum(blocks, 1)))
        rows_each = rounded_up(ceil_div(self.rows, blocks), _ROW_STEP)
        self.rows_each = k.number(maximum(rows_each, _ROW_STEP))
        self.blocks = k.number(maximum(ceil_div(self.rows, self.rows_each), 1))

    def write(self) -> None:
        """The kernel for few rows or the one for many."""
        (path,) = (p for p in paths_of(Target("", "", (self.isa,))) if p.form == self.layer.form)
        few, many = FORMS[self.layer.form]
        if few == many:
            self._multiply(few)
        else:
            few_rows = self.rows < path.many_from
            self.k.either(few_rows, lambda is_few: self._multiply(few if is_few else many))

    def _multiply(self, kernel: Kernel) -> None:
        k, layer = self.k, self.layer
        columns = layer.groups * layer.group * (4 if kernel.prepare == "tables" else 1)
        rows = cast(self.rows, "int64")
        prepared = (
            (k.scratch("int8", rows * columns), columns),
            (k.scratch("float32", rows * layer.groups), layer.groups),
            (k.scratch("int32", rows * layer.groups), layer.groups),
        )
        k.either(
            self.rows > _WORTH_SHARING_ROWS // layer.columns,
            lambda shared: self._prepare(kernel, prepared, shared=shared),
        )
        k.either(self.is_shared, lambda shared: self._run(kernel, prepared, shared=shared))

    def _prepare(self, kernel: Kernel, prepared: Prepared, *, shared: bool) -> None:
        k, layer = self.k, self.layer
        steps = k.number(tirx.floordiv(self.rows_each, _ROW_STEP))
        with k.tasks(self.blocks * steps, shared=shared) as task:
            row, rows = self._block(tirx.floordiv(task, steps))
            first = tirx.floormod(task, steps) * _ROW_STEP
            with k.when(first < rows):
                k.call(
                    self._symbol(kernel.prepare),
                    _at(k["x"], row, layer.columns),
                    *(_at(pointer, row, width) for pointer, width in prepared),
                    rows,
                    layer.columns,
                    layer.groups,
                    layer.group,
                    first,
                    minimum(first + _ROW_STEP, rows),
                )

    def _run(self, kernel: Kernel, prepared: Prepared, *, shared: bool) -> None:
        k, layer = self.k, self.layer
        runs = ceil_div(_CHUNKS, self.blocks) if shared else 1
        tiles = k.number(ceil_div(self.tiles, runs))
        with k.tasks(self.blocks * ceil_div(self.tiles, tiles), shared=shared) as task:
            row, rows = self._block(tirx.floormod(task, self.blocks))
            first = tirx.floordiv(task, self.blocks) * tiles
            memory = NOWHERE, NOWHERE
            if kernel.name.endswith("_many"):
                decoded, sums = k.scratch("uint8", TILE * layer.group), TILE * _BLOCK_ROWS
                memory = decoded.address(0), k.scratch("float32", sums).address(0)
            k.call(
                self._symbol(kernel.name),
                *(_at(pointer, row, width) for pointer, width in prepared),
                *(k[name].address(0) for name in _WEIGHTS),
                _at(k["y"], row, layer.outputs),
                *memory,
                rows,
                layer.outputs,
                layer.groups,
                layer.group,
                first,
                minimum(first + tiles, self.tiles),
            )

    def _block(self, number: Value) -> tuple[Value, Value]:
        """The first row of a block, and how many it has."""
        row = self.k.number(number * self.rows_each)
        return row, self.k.number(minimum(self.rows_each, self.rows - row))

    def _symbol(self, kernel: str) -> str:
        return f"addax_{kernel}_{self.isa.name}"


def _at(pointer: Pointer, row: Value, width: int) -> Value:
    return pointer.address(cast(row, "int64") * width)
