"""Kernels for a grid of threads: the builder that knows where a thread stands, and the function."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from tvm import ir, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as emit

from addax.backends.gpu.launch import Extent, Launch
from addax.backends.tvm.builder import Builder, Pointer, Value

_ANY_SIZE = 1 << 30
_AXES = ("blockIdx.x", "blockIdx.y", "threadIdx.x")
_ON_DEVICE = 2  # TVM then makes no host function and leaves the parameters as they are


class GridBuilder(Builder):
    """A kernel body as one thread of a block of a grid sees it.

    Attributes:
        block: Where its block stands: x, y.
        thread: Its number in the block.
    """

    def __init__(
        self,
        parameters: Mapping[str, Value | Pointer],
        block: tuple[Value, Value],
        thread: Value,
    ) -> None:
        super().__init__(parameters)
        self.block = block
        self.thread = thread

    def shared(self, dtype: str, size: int) -> Pointer:
        """A small array that all threads of a block see."""
        return Pointer(emit.alloc_buffer((size,), dtype, scope="shared"))

    def barrier(self) -> None:
        """Wait until all threads of the block are here and see what the others wrote."""
        emit.evaluate(tirx.call_intrin("void", "tirx.tvm_storage_sync", "shared"))


def grid_function(launch: Launch, body: Any) -> Any:
    """A PrimFunc that a grid of threads runs, as `launch` says; `body` takes a `GridBuilder`."""
    with IRBuilder() as builder, emit.prim_func(s_tir=True):
        emit.func_name(launch.name)
        made: dict[str, Any] = {}
        for key, kind in launch.parameters.items():
            typed = _pointer(kind[:-1]) if kind.endswith("*") else kind
            made[key] = emit.arg(key, tirx.Var(key, typed))
        emit.func_attr(
            {
                "global_symbol": launch.name,
                "tirx.noalias": True,
                "calling_conv": _ON_DEVICE,
                "tirx.kernel_launch_params": list(_AXES),
            }
        )
        for key, kind in launch.parameters.items():
            if kind.endswith("*"):
                buffer = emit.decl_buffer((_ANY_SIZE,), kind[:-1], data=made[key])
                made[key] = Pointer(buffer)
        with ExitStack() as stack:
            extents = [*(_blocks(extent, made) for extent in launch.grid), launch.threads]
            x, y, thread = (
                stack.enter_context(emit.launch_thread(axis, extent))
                for axis, extent in zip(_AXES, extents, strict=True)
            )
            body(GridBuilder(made, (x, y), thread))
    return builder.get()


def _blocks(extent: Extent, parameters: Mapping[str, Any]) -> Value:
    total = parameters[extent.parameter]
    return total if extent.per == 1 else tirx.floordiv(total + (extent.per - 1), extent.per)


def _pointer(dtype: str) -> Any:
    return ir.PointerType(ir.PrimType(dtype), "global")


def nearest(value: Value) -> Value:
    """A float32 to the nearest integer, ties to even, as int32."""
    return tirx.round(value).astype("int32")


def once(value: Value) -> Value:
    """`value`, computed here; compilers of GPU languages load again what is only written twice."""
    return emit.bind(value)


def dot_of_bytes(a: Value, b: Value, total: Value) -> Value:
    """CUDA's total + the four products of signed bytes of two words (compute capability 6.1)."""
    return tirx.call_pure_extern("int32", "__dp4a", a, b, total)
