"""Attention of the dialect as calls of kernels: LogCodeAttention, BinaryLinearAttention."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import tvm
from tvm import relax, tirx

from addax.backends.target import InstructionSet
from addax.backends.tvm.builder import Value, cast, maximum, minimum
from addax.backends.tvm.glue import Functions, Glue, ceil_div, product, rounded_up, shaped

_ROWS = 32  # of scores in a task
_LANES = 16  # columns of V are padded to a multiple of it
_CODES = 64  # and codes of a row
_WORTH_SHARING = 1 << 14  # scores; fewer are done before a thread wakes up
_WORTH_SHARING_SUMS = 1 << 16


def log_code_call(
    functions: Functions,
    isa: InstructionSet,
    builder: relax.BlockBuilder,
    node: ir.Node,
    inputs: Sequence[Any],
) -> Any:
    """The result of a LogCodeAttention, by the kernels of an instruction set."""
    s, mask, v = (shaped(builder, *pair) for pair in zip(inputs, node.inputs, strict=True))
    last = 2 ** node.attributes["bits"].as_int() - 1
    steps, scale = node.attributes["codes_per_octave"].as_int(), node.attributes["scale"].as_float()
    table = np.zeros(_CODES, np.uint8)
    table[:last] = np.rint(255 * np.exp2(-np.arange(last) / steps))
    dims = [*list(s.ty.shape)[:-1], list(v.ty.shape)[-1]]
    return functions.call(
        builder,
        ("log_code", last, steps, scale),
        {"s": s, "mask": mask, "v": v, "table": relax.const(tvm.runtime.tensor(table))},
        (dims, "float32"),
        functools.partial(_log_code, isa=isa.name, last=last, steps=steps, scale=scale),
    )


def _log_code(k: Glue, *, isa: str, last: int, steps: int, scale: float) -> None:
    *lead, rows, length = k.dims["s"]
    width, heads = k.dims["v"][-1], product(lead)
    for one, other in zip([*lead, length], k.dims["v"][:-1], strict=True):
        k.require(one == other, "the leading sizes and the length of scores and values differ")
    strides = _broadcast(k)
    padded = rounded_up(width, _LANES)
    size = ceil_div(length, 4) * padded * 4
    q, s = k.scratch("int8", cast(heads, "int64") * size), k.scratch("float32", heads)
    sums = k.scratch("int32", cast(heads, "int64") * padded)
    work = cast(heads, "int64") * rows * length

    def run(shared: bool) -> None:
        with k.tasks(heads, shared=shared) as head:
            at = cast(head, "int64")
            k.call(
                f"addax_values_{isa}",
                k["v"].address(at * length * width),
                q.address(at * size),
                s.address(at),
                sums.address(at * padded),
                length,
                width,
            )
        blocks = ceil_div(rows, _ROWS)
        with k.tasks(heads * blocks, shared=shared) as task:
            head, first = tirx.floordiv(task, blocks), tirx.floormod(task, blocks) * _ROWS
            at, row = cast(head, "int64"), cast(head, "int64") * rows + first
            codes = k.scratch("uint8", cast(rounded_up(length, _CODES), "int64") * 4)
            k.call(
                f"addax_log_code_attention_{isa}",
                k["s"].address(row * length),
                k["mask"].address(_mask_of(head, lead, strides) + first * strides[-2]),
                q.address(at * size),
                s.address(at),
                sums.address(at * padded),
                k["table"].address(0),
                k["y"].address(row * width),
                codes.address(0),
                minimum(rows - first, _ROWS),
                length,
                width,
                strides[-2],
                strides[-1],
                last,
                tirx.const(scale, "float32"),
                tirx.const(float(steps), "float32"),
            )

    def compute(has_keys: bool) -> None:
        if has_keys:
            k.either(work > _WORTH_SHARING, run)
            return
        with k.loop(heads * rows * width) as i:
            k["y"].store(i, tirx.const(0, "float32"))

    k.either(tirx.all(length > 0, rows > 0), compute)


def _broadcast(k: Glue) -> list[Value]:
    """By how much the mask's index grows along each dimension of the scores."""
    dims, mask = k.dims["s"], k.dims["mask"]
    sizes = [tirx.const(1, "int32")] * (len(dims) - len(mask)) + list(mask)
    strides: list[Value] = []
    stride: Value = tirx.const(1, "int32")
    for size, own in zip(reversed(dims), reversed(sizes), strict=True):
        k.require(tirx.any(own == 1, own == size), "the mask does not fit the scores")
        strides.append(tirx.if_then_else(own == 1, tirx.const(0, "int32"), stride))
        stride = stride * own
    return strides[::-1]


def _mask_of(head: Value, lead: Sequence[Value], strides: Sequence[Value]) -> Value:
    """Where the mask of a head begins."""
    offset: Value = tirx.const(0, "int32")
    for size, stride in zip(reversed(lead), reversed(strides[:-2]), strict=True):
        at_least_one = maximum(size, 1)
        offset = offset + tirx.floormod(head, at_least_one) * stride
        head = tirx.floordiv(head, at_least_one)
    return offset


def binary_attention_call(
    functions: Functions,
    isa: InstructionSet,
    builder: relax.BlockBuilder,
    node: ir.Node,
    inputs: Sequence[Any],
) -> Any:
    """The result of a BinaryLinearAttention, by the kernel of an instruction set."""
    x, filters = (shaped(builder, *pair) for pair in zip(inputs, node.inputs, strict=True))
    heads, bits, width = (node.attributes[name].as_int() for name in ("heads", "bits", "width"))
    weights = [
        node.attributes[name].as_float() for name in ("value_weight", "sum_weight", "epsilon")
    ]

    def body(k: Glue) -> None:
        batch, tokens, columns = k.dims["x"]
        work = cast(batch, "int64") * tokens * columns * bits

        def run(shared: bool) -> None:
            with k.tasks(batch * heads, shared=shared) as task:
                entry, head = tirx.floordiv(task, heads), tirx.floormod(task, heads)
                at = cast(entry, "int64") * tokens
                scratch = k.scratch("float32", 5 * bits * width + width + bits)
                k.call(
                    f"addax_binary_linear_attention_{isa.name}",
                    k["x"].address(at * columns),
                    k["filters"].address(0),
                    k["y"].address(at * (heads * width)),
                    scratch.address(0),
                    tokens,
                    heads,
                    head,
                    bits,
                    width,
                    k.dims["filters"][2],
                    *(tirx.const(weight, "float32") for weight in weights),
                )

        k.either(work > _WORTH_SHARING_SUMS, run)

    dims = [*list(x.ty.shape)[:-1], heads * width]
    kind = ("linear_attention", heads, bits, width, *weights)
    return functions.call(builder, kind, {"x": x, "filters": filters}, (dims, "float32"), body)
