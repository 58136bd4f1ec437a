"""Pieces of random graphs with bodies: If and Loop that read outer values, calls of functions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.testing.strategies.sketch import Sketch, at_least, dims_of

Piece = Callable[[Sketch], object]

FUNCTIONS = "local"
_DEEPEST = 2


def _steps(s: Sketch, x: ir.Value) -> ir.Value:
    """A few elementwise nodes that keep the shape of x, redexes among them."""
    for _ in range(1 + s.genes.below(3)):
        match s.genes.below(6):
            case 0:
                x = s.unary(s.genes.pick(["Relu", "Tanh", "Neg"]), x)
            case 1:
                x = s.unary("Neg", s.unary("Neg", x))
            case 2:
                x = s.binary("Add", x, s.constant(s.genes.pick([0.0, 1.0, -0.5]), x.dtype))
            case 3:
                x = s.binary("Mul", s.constant(s.genes.pick([1.0, 2.0, 0.5]), x.dtype), x)
            case 4:
                x = s.binary("Add", x, s.unary("Identity", x))
            case _:
                x = s.binary("Mul", s.unary("Tanh", x), s.unary("Tanh", x))
    return x


def _depth(s: Sketch) -> int:
    return 0 if s.outer is None else 1 + _depth(s.outer)


def _condition(s: Sketch) -> ir.Value:
    """A truth value: constant, computed from a value, or an input."""
    root = s.outer is None and not s.is_function
    kind = s.genes.below(3)
    if kind == 0 or (kind == 2 and not root):
        return s.constant(np.array(bool(s.genes.below(2))))
    if kind == 2:
        return s.input((), ir.DataType.BOOL)
    x = s.operand()
    shape = s.emit("Shape", [x], (len(dims_of(x)),), ir.DataType.INT64)
    axes = s.constant(np.array([0], np.int64))
    count = s.emit("ReduceSum", [shape, axes], (), ir.DataType.INT64, keepdims=0)
    return s.emit("Greater", [count, s.constant(np.array(5))], (), ir.DataType.BOOL)


def if_(s: Sketch) -> ir.Value:
    """An If whose branches read outer values, and may hold another If."""
    if s.is_function or _depth(s) >= _DEEPEST:
        return s.unary("Relu", s.operand())
    condition = _condition(s)
    x = s.operand()
    branches = []
    for number in range(2):
        inner = s.child()
        if number == 0 and s.genes.flip(0.2):
            if_(inner)
        y = inner.unary("Identity", x) if s.genes.flip(0.2) else _steps(inner, x)
        inner.live.append(y)
        branches.append(_graph(inner, [], [y], f"branch{number}"))
    return s.emit(
        "If", [condition], dims_of(x), x.dtype, then_branch=branches[0], else_branch=branches[1]
    )


def loop(s: Sketch) -> ir.Value:
    """A Loop with one carried value, which reads an outer one, and perhaps a stacked output."""
    if s.is_function or _depth(s) >= _DEEPEST:
        return s.unary("Neg", s.operand())
    x = s.operand()
    dims, trips = dims_of(x), s.genes.pick([2, 1, 0, 3])
    body = s.child()
    count = body.value((), ir.DataType.INT64, "i")
    going = body.value((), ir.DataType.BOOL, "going")
    state = body.value(dims, x.dtype or s.dtype, "state")
    after = _steps(body, state)
    if s.genes.flip(0.7):
        after = body.binary("Add", after, body.unary("Tanh", x))
    again = body.emit("Identity", [going], (), ir.DataType.BOOL)
    outputs = [again, after]
    shapes = [dims]
    # What a loop that never runs stacks is as large as declared: known sizes only.
    if s.genes.flip(0.3) and (trips or all(isinstance(d, int) for d in dims)):
        outputs.append(body.unary("Neg", state))
        shapes.append((trips, *dims))
    graph = _graph(body, [count, going, state], outputs, "body")
    limit = s.constant(np.array(trips, np.int64))
    start = s.constant(np.array(True)) if s.genes.flip() else None
    made = s.emit(
        "Loop",
        [limit, start, x],
        shapes if len(shapes) > 1 else dims,
        x.dtype,
        outputs=len(shapes),
        body=graph,
    )
    return made if len(shapes) == 1 else made[0]


def _graph(s: Sketch, inputs: list[ir.Value], outputs: list[ir.Value], name: str) -> ir.Graph:
    return ir.Graph(
        inputs, outputs, nodes=s.nodes, initializers=s.initializers, name=s.names.fresh(name)
    )


def call(s: Sketch) -> ir.Value:
    """A call of a model-local function, new or known, with an attribute that it refers to."""
    x = s.operand()
    if s.is_function:
        return s.unary("Relu", x)
    known = s.functions
    function = s.genes.pick(known) if known and s.genes.flip() else _function(s, x)
    attributes: dict[str, Any] = {"slope": 0.25} if s.genes.flip() else {}
    return s.emit(function.name, [x], dims_of(x), x.dtype, domain=FUNCTIONS, **attributes)


def _function(s: Sketch, like: ir.Value) -> ir.Function:
    """A new function of one value; its values have no types, as a function is of any type."""
    inner = Sketch(s.genes, s.names, s.opset, s.dtype, is_function=True)
    x = inner.value(dims_of(like), like.dtype or s.dtype, "a")
    y = _steps(inner, x)
    reference = ir.RefAttr("alpha", "slope", ir.AttributeType.FLOAT)
    y = inner.emit("LeakyRelu", [y], dims_of(y), alpha=reference)
    for node in inner.nodes:
        for value in node.outputs:
            if node.op_type != "Constant":
                value.shape = value.type = None
    # Constants have the caller's type: only callers of that type may use the function.
    x.shape = x.type = None
    name = s.names.fresh("Function")
    graph = ir.Graph([x], [y], nodes=inner.nodes, opset_imports={"": s.opset}, name=name)
    slope = ir.Attr("slope", ir.AttributeType.FLOAT, 0.1)
    function = ir.Function(FUNCTIONS, name, graph=graph, attributes=[slope])
    s.functions.append(function)
    return function


def empty(s: Sketch) -> ir.Value:
    """Something with an axis of size zero."""
    x = s.operand(at_least(1))
    dims = dims_of(x)
    bounds = [s.constant(np.array([n], np.int64)) for n in (0, 0, len(dims) - 1)]
    nothing = s.emit("Slice", [x, *bounds], (*dims[:-1], 0))
    if s.genes.flip():
        return s.emit("Concat", [nothing, x], dims, axis=-1)
    return s.unary("Relu", nothing)


PIECES: tuple[Piece, ...] = (if_, loop, call, empty)
