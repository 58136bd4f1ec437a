"""What lies between a compiled model and the kernels: functions that share work out and call them.

A kernel is a C function; a model calls functions of tensors. So each layer gets a function that
takes the layer's tensors, allocates what the kernels write in between, and calls them by symbol
from as many threads as are worth it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
from tvm import relax, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as emit

from addax.backends.tvm.builder import Builder, Pointer, Value, cast
from addax.ir.query import shape

_LEAST = 2048  # bytes of scratch: less would lie on the stack, aligned to nothing
_ANY_SIZE = 1 << 30  # of a flat view: what is in range is the kernels' affair
_OPAQUE = 8  # a function that nothing can be fused into

NOWHERE = tirx.reinterpret("handle", tirx.const(0, "uint64"))  # a pointer to no memory

Body = Callable[["Glue"], None]


class _Scratch(Pointer):
    """Memory that TVM manages.

    TVM must see that an address stands for all that lies behind it, or it would keep one element,
    or give the memory to something else in between.
    """

    def address(self, index: Value) -> Value:
        """Where element `index` lies."""
        return self._buffer.access_ptr("rw", offset=index)


class Glue(Builder):
    """What the body of such a function is written with: its tensors by name are pointers.

    Attributes:
        dims: The shape of each tensor, int32; sizes that are open are expressions.
    """

    def __init__(self, tensors: Mapping[str, Pointer], dims: Mapping[str, Sequence[Value]]) -> None:
        super().__init__(tensors)
        self.dims = dims

    def scratch(self, dtype: str, size: Value) -> Pointer:
        """Memory for one call, aligned to 64 bytes."""
        elements = tirx.max(size, _LEAST)
        return _Scratch(emit.alloc_buffer((elements,), dtype, scope="global"))

    @contextmanager
    def tasks(self, count: Value, *, shared: bool) -> Iterator[Value]:
        """A loop over independent tasks, on all threads or on this one."""
        with emit.parallel(0, count) if shared else emit.serial(0, count) as task:
            yield task

    def either(self, condition: Value, body: Callable[[bool], None]) -> None:
        """body(True) where the condition holds, else body(False)."""
        if isinstance(condition, tirx.IntImm):
            body(bool(condition))
            return
        with self.choice(condition) as worth:
            with worth.then():
                body(True)
            with worth.otherwise():
                body(False)

    def number(self, value: Value) -> Value:
        """Compute an int32 here and once; one that is known while this is written stays known.

        A variable, where `bind` only names: TVM's simplifier would put names back into each
        other, until there is more text than it ever gets through.
        """
        if isinstance(value, int | tirx.IntImm):
            return value
        return self.register("int32", 1, value).get()

    def copy(self, to: Value, start: Value, size: int) -> None:
        """Copy bytes from one address to another."""
        self.call("memcpy", to, start, tirx.const(size, "int64"))

    def require(self, condition: Value, message: str) -> None:
        """Fail where the condition does not hold."""
        if not isinstance(condition, tirx.IntImm) or not condition:
            with emit.Assert(condition, message):
                pass

    def call(self, symbol: str, *arguments: Value) -> None:
        """Call a C function that returns nothing; pointers and numbers of C's own types."""
        emit.evaluate(tirx.call_extern("void", symbol, *arguments))


class Functions:
    """The functions of one model, each made once for all layers that are alike."""

    def __init__(self) -> None:
        self._names: dict[Any, str] = {}

    def call(
        self,
        builder: relax.BlockBuilder,
        kind: tuple[Any, ...],
        inputs: Mapping[str, Any],
        output: tuple[Sequence[Any], str],
        body: Body,
    ) -> Any:
        """Call a function of `inputs` that writes one tensor, `y`.

        Args:
            builder: Gets the call, and the function if there is no such yet.
            kind: What the body depends on besides the shapes of the inputs; begins with a name.
            inputs: Tensors of known rank.
            output: Shape and type of the result.
            body: Writes the function.
        """
        tensors: dict[str, tuple[Sequence[Any], str]]
        tensors = {name: (list(one.ty.shape), str(one.ty.dtype)) for name, one in inputs.items()}
        tensors["y"] = output
        sizes: dict[str, str] = {}
        shapes = tuple(
            (name, dtype, tuple(_numbered(size, sizes) for size in dims))
            for name, (dims, dtype) in tensors.items()
        )
        name = self._names.get((kind, shapes))
        if name is None:
            name = self._names[kind, shapes] = f"addax_{kind[0]}_layer{len(self._names)}"
            builder.add_func(_function(name, tensors, body), name)
        dims, dtype = output
        # Not call_tir: a call of constants alone would be run while the model is compiled, where
        # there are no kernels yet.
        call = relax.call_dps_packed(name, list(inputs.values()), relax.TensorType(dims, dtype))
        return builder.emit(call)


def shaped(builder: relax.BlockBuilder, tensor: Any, value: ir.Value | None) -> Any:
    """`tensor`, which is `value`, with a shape where TVM has lost it."""
    if tensor.ty.shape is not None:
        return tensor
    dims = [
        size if isinstance(size, int) else tirx.Var(f"d{i}", "int64")
        for i, size in enumerate(shape(value) or ())
    ]
    return builder.match_cast(tensor, relax.TensorType(dims, str(tensor.ty.dtype)))


def product(dims: Sequence[Value]) -> Value:
    """How many elements dimensions have, int32."""
    made = tirx.const(1, "int32")
    for size in dims:
        made = made * size
    return made


def ceil_div(a: Value, b: Value) -> Value:
    """a / b, rounded up; neither is negative."""
    return tirx.floordiv(a + b - 1, b)


def rounded_up(a: Value, step: int) -> Value:
    """The next multiple of step."""
    return ceil_div(a, step) * step


def _numbered(size: Any, known: dict[str, str]) -> int | str:
    """A size, or which of the open ones it is."""
    if isinstance(size, int | tirx.IntImm):
        return int(size)
    return known.setdefault(str(size), f"n{len(known)}")


def _function(name: str, tensors: Mapping[str, tuple[Sequence[Any], str]], body: Body) -> Any:
    with IRBuilder() as builder, emit.prim_func(s_tir=True):
        emit.func_name(name)
        handles = {key: emit.arg(key, emit.handle()) for key in tensors}
        emit.func_attr({"global_symbol": name, "tirx.is_scheduled": True, "op_pattern": _OPAQUE})
        known: dict[str, str] = {}
        variables: dict[int | str, Any] = {}
        dims = {
            key: [_size(size, known, variables) for size in shape]
            for key, (shape, _) in tensors.items()
        }
        buffers = {
            key: emit.match_buffer(handles[key], dims[key], dtype)
            for key, (_, dtype) in tensors.items()
        }
        pointers = {key: _view(buffer) for key, buffer in buffers.items()}
        sizes = {key: [cast(size, "int32") for size in shape] for key, shape in dims.items()}
        body(Glue(pointers, sizes))
    return builder.get()


def _view(buffer: Any) -> Pointer:
    return Pointer(emit.decl_buffer((_ANY_SIZE,), buffer.dtype, data=buffer.data))


def _size(size: Any, known: dict[str, str], variables: dict[int | str, Any]) -> Any:
    """A number, or the function's own variable for a size that is open."""
    name = _numbered(size, known)
    if isinstance(name, int):
        return tirx.const(name, "int64")
    return variables.setdefault(name, tirx.Var(name, "int64"))
