"""Kernel bodies as TIR: parameters, loops, registers, loads, stores. The one file that makes TIR.

A kernel is a Python function that calls a `Builder`; Python loops unroll, `Builder.loop` loops at
run time. Values (`Value`) are TIR expressions: scalars or vectors with the arithmetic operators.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as emit

Value = Any  # a scalar or vector expression; TIR's classes have no types that mypy could check
_ANY_SIZE = 1 << 30  # buffers are bare pointers: their extent is the caller's affair


class Pointer:
    """Memory of one element type, indexed by element."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer
        self.dtype = str(buffer.dtype)

    def load(self, index: Value, lanes: int = 1) -> Value:
        """`lanes` elements from `index` on."""
        return self._buffer[_span(index, lanes)]

    def store(self, index: Value, value: Value, lanes: int = 1) -> None:
        """Write `lanes` elements from `index` on."""
        emit.buffer_store(self._buffer, value, [_span(index, lanes)])

    def address(self, index: Value) -> Value:
        """Where element `index` lies."""
        return tirx.address_of(self._buffer[index])


class Register:
    """A variable of `lanes` elements that LLVM keeps in a register."""

    def __init__(self, buffer: Any, lanes: int) -> None:
        self._memory, self._lanes = Pointer(buffer), lanes

    def get(self) -> Value:
        """What it holds now."""
        return self._memory.load(0, self._lanes)

    def set(self, value: Value) -> None:
        """Make it hold `value`."""
        self._memory.store(0, value, self._lanes)

    def put(self, lane: int, value: Value) -> None:
        """Make one lane hold `value`."""
        self._memory.store(lane, value)


class Builder:
    """What a kernel body is written with."""

    def __init__(self, parameters: Mapping[str, Value | Pointer]) -> None:
        self.parameters = parameters

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]

    @contextmanager
    def loop(self, start: Value, stop: Value | None = None) -> Iterator[Value]:
        """A loop at run time over start <= i < stop, or over 0 <= i < start."""
        bounds = (0, start) if stop is None else (start, stop)
        with emit.serial(*bounds) as index:
            yield index

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Statements that run if `condition` holds."""
        with emit.If(condition), emit.Then():
            yield

    @contextmanager
    def choice(self, condition: Value) -> Iterator["Choice"]:
        """Two blocks of statements: `with k.choice(c) as c, ...: with c.then(): ... c.other()`."""
        with emit.If(condition):
            yield Choice()

    def bind(self, value: Value) -> Value:
        """Compute `value`, or each of a list, here and once."""
        return [emit.bind(one) for one in value] if isinstance(value, list) else emit.bind(value)

    def register(self, dtype: str, lanes: int = 1, value: Value | None = None) -> Register:
        """A variable of `lanes` elements, set to `value` or to zeros."""
        made = Register(emit.alloc_buffer((lanes,), dtype, scope="local"), lanes)
        made.set(vector(0, dtype, lanes) if value is None else value)
        return made

    def memory(self, dtype: str, size: int) -> Pointer:
        """A small array of the kernel's own, of a size known when it is built."""
        return Pointer(emit.alloc_buffer((size,), dtype, scope="local"))

    def prefetch(self, pointer: Pointer, index: Value) -> None:
        """Ask for the cache line of an element that will be read soon."""
        one = tirx.const(1, "int32")
        call = tirx.call_llvm_intrin(
            "void",
            "llvm.prefetch.p0",
            pointer.address(index),
            one - one,
            tirx.const(3, "int32"),
            one,
        )
        emit.evaluate(call)


class Choice:
    """The two arms of `Builder.choice`."""

    @contextmanager
    def then(self) -> Iterator[None]:
        """What runs if the condition holds."""
        with emit.Then():
            yield

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        """What runs if it does not."""
        with emit.Else():
            yield


def function(name: str, parameters: Mapping[str, str], body: Any) -> Any:
    """A PrimFunc with a plain C symbol: `parameters` are element types, pointers end in `*`.

    `body` is called with the `Builder`. The function needs no runtime of TVM: its calling
    convention is that of C, in the order of `parameters`.
    """
    with IRBuilder() as builder, emit.prim_func(s_tir=True):
        emit.func_name(name)
        made: dict[str, Any] = {}
        for key, kind in parameters.items():
            pointer = kind.endswith("*")
            made[key] = emit.arg(key, emit.handle(kind[:-1]) if pointer else tirx.Var(key, kind))
        emit.func_attr({"global_symbol": name, "tirx.noalias": True, "calling_conv": 3})
        for key, kind in parameters.items():
            if kind.endswith("*"):
                buffer = emit.decl_buffer((_ANY_SIZE,), kind[:-1], data=made[key], align=1)
                made[key] = Pointer(buffer)
        body(Builder(made))
    return builder.get()


def _span(index: Value, lanes: int) -> Value:
    return index if lanes == 1 else tirx.Ramp(index, 1, lanes)


def vector(value: Value, dtype: str, lanes: int) -> Value:
    """A number or scalar in every lane."""
    scalar = tirx.const(value, dtype) if isinstance(value, (int, float)) else value
    return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)


def cast(value: Value, dtype: str, lanes: int = 1) -> Value:
    """The same numbers in another element type."""
    return value.astype(_typed(dtype, lanes))


def reinterpret(value: Value, dtype: str, lanes: int = 1) -> Value:
    """The same bits as another type."""
    return tirx.reinterpret(_typed(dtype, lanes), value)


def intrinsic(name: str, dtype: str, lanes: int, *arguments: Value) -> Value:
    """A call of an LLVM intrinsic without side effects."""
    return tirx.call_llvm_pure_intrin(_typed(dtype, lanes), name, *arguments)


def select(condition: Value, yes: Value, no: Value) -> Value:
    """yes where the condition holds, else no; both are computed."""
    return tirx.Select(condition, yes, no)


def both(a: Value, b: Value) -> Value:
    """Where both conditions hold, lane by lane."""
    return tirx.And(a, b)


def minimum(a: Value, b: Value) -> Value:
    """The smaller one, lane by lane."""
    return tirx.min(a, b)


def maximum(a: Value, b: Value) -> Value:
    """The larger one, lane by lane."""
    return tirx.max(a, b)


def absolute(value: Value) -> Value:
    """|value|, lane by lane."""
    return tirx.abs(value)


def square_root(value: Value) -> Value:
    """The square root, lane by lane."""
    return tirx.sqrt(value)


def shuffled(value: Value, lanes: Sequence[int]) -> Value:
    """The lanes of a vector in another order, some more than once."""
    width = int(str(value.ty).partition("x")[2])
    copies = -(-len(lanes) // width)  # TIR wants as many lanes to choose from
    return tirx.Shuffle([value] * copies, [tirx.const(lane, "int32") for lane in lanes])


def counting(lanes: int) -> Value:
    """0, 1, ..., lanes - 1 as int32."""
    return tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), lanes)


def shift_right(value: Value, bits: int, dtype: str, lanes: int) -> Value:
    """value >> bits, lane by lane."""
    return tirx.shift_right(value, vector(bits, dtype, lanes))


def bit(value: Value, place: int, lanes: int) -> Value:
    """Whether this bit of an int32 is set, lane by lane."""
    return tirx.bitwise_and(value, vector(1 << place, "int32", lanes)) != vector(0, "int32", lanes)


def shift_left(value: Value, bits: Value) -> Value:
    """value << bits, lane by lane."""
    return tirx.shift_left(value, bits)


def _typed(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
