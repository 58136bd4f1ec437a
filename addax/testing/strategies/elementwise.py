"""Pieces of random graphs that work element by element, and normalizations spelt out."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from addax.testing.strategies.sketch import Dims, Sketch, at_least, broadcast, dims_of, static

Piece = Callable[[Sketch], object]


def unary(s: Sketch) -> ir.Value:
    """One function of one value."""
    op = s.genes.pick(
        ["Relu", "Neg", "Abs", "Sigmoid", "Tanh", "Erf", "Identity", "Floor", "Softplus", "Sqrt",
         "Exp", "Reciprocal", "HardSwish", "Elu", "LeakyRelu", "Dropout", "Sign"]
    )  # fmt: skip
    if op == "HardSwish" and s.opset < 14:
        op = "HardSigmoid"
    x = s.operand()
    if op == "Sqrt":
        x = s.unary("Abs", x)
    elif op == "Exp":
        x = s.unary("Tanh", x)
    elif op == "Reciprocal":
        x = s.binary("Add", s.unary("Abs", x), s.constant(0.5, x.dtype))
    return s.unary(op, x)


def twice(s: Sketch) -> ir.Value:
    """A function of itself."""
    op = s.genes.pick(["Neg", "Relu", "Abs", "Identity", "Reciprocal", "Sigmoid"])
    x = s.operand()
    if op == "Reciprocal":
        x = s.binary("Add", s.unary("Abs", x), s.constant(0.5, x.dtype))
    return s.unary(op, s.unary(op, x))


def constant_for(s: Sketch, x: ir.Value) -> ir.Value:
    """A constant that broadcasts against x: a scalar, a channel vector, a tensor, a higher rank."""
    dims = dims_of(x)
    choices: list[tuple[int, ...]] = [(), (1,)]
    if dims and static(dims[-1:]):
        choices.append((int(dims[-1]),))
    if len(dims) >= 3 and static(dims[1:2]):
        choices.append((int(dims[1]), *(1,) * (len(dims) - 2)))
        choices.append((1, int(dims[1]), *(1,) * (len(dims) - 2)))
    if static(dims):
        choices.append(tuple(int(d) for d in dims))
    if len(dims) < 4 and s.genes.flip(0.1):
        choices = [(1,) * (len(dims) + 1)]
    shape = s.genes.pick(choices)
    return s.constant(s.numbers(shape), x.dtype)


def with_constant(s: Sketch, x: ir.Value | None = None) -> ir.Value:
    """Arithmetic with a constant, on either side."""
    x = s.operand() if x is None else x
    op = s.genes.pick(["Add", "Mul", "Sub", "Div", "Max", "Min", "Pow"])
    if op == "Pow":
        base = s.unary("Abs", x)
        exponent = s.genes.pick([1.0, 2.0, 0.5, 3.0, 0.0])
        shape = s.genes.pick([(), (1,), (1,) * (len(dims_of(x)) + 1)])
        return s.binary("Pow", base, s.constant(np.full(shape, exponent), x.dtype))
    c = constant_for(s, x)
    if op == "Div":
        magnitude = np.abs(c.const_value.numpy()) + 0.5 if c.const_value is not None else 2.0
        c = s.constant(magnitude, x.dtype)
    return s.binary(op, c, x) if s.genes.flip(0.3) and op != "Div" else s.binary(op, x, c)


def chain(s: Sketch) -> ir.Value:
    """Several constants in a row."""
    x = s.operand()
    for _ in range(2 + s.genes.below(3)):
        x = with_constant(s, x)
    return x


def combine(s: Sketch) -> ir.Value:
    """Two live values together, or one with itself."""
    a = s.operand()
    dims = dims_of(a)
    b = s.find(lambda v: v.dtype == a.dtype and broadcast(dims, dims_of(v)) is not None)
    op = s.genes.pick(["Add", "Mul", "Sub", "Max", "Min", "Sum", "Mean"])
    return s.binary(op, a, a if b is None else b)


def branches(s: Sketch) -> ir.Value:
    """The same thing computed twice, and both used."""
    x = s.operand()
    op = s.genes.pick(["Relu", "Tanh", "Neg", "Abs"])
    return s.binary(s.genes.pick(["Add", "Sub", "Mul"]), s.unary(op, x), s.unary(op, x))


def clips(s: Sketch) -> ir.Value:
    """Clips in a row, clips that share an input, activations of clips; also empty intervals."""
    x = s.operand()
    bounds = [(0.0, 6.0), (-1.5, -0.5), (-1.0, 1.0), (2.0, 1.0), (0.0, None), (None, 0.5)]

    def clip(value: ir.Value) -> ir.Value:
        low, high = (
            None if b is None else s.constant(b, value.dtype) for b in s.genes.pick(bounds)
        )
        return s.emit(
            "Clip", [value, low, high] if high is not None else [value, low], dims_of(value)
        )

    first = clip(x)
    match s.genes.below(4):
        case 0:
            return s.unary("Relu", first)
        case 1:
            return clip(first)
        case 2:
            return s.binary("Add", first, clip(x))
        case _:
            return clip(s.unary("Relu", x))


def variadic_of_one(s: Sketch) -> ir.Value:
    """Sum, Max, Min, Mean, Concat of one value."""
    x = s.operand(at_least(1))
    op = s.genes.pick(["Sum", "Max", "Min", "Mean", "Concat"])
    return s.unary(op, x, axis=0) if op == "Concat" else s.unary(op, x)


def choice(s: Sketch) -> ir.Value:
    """Where, with a constant or computed condition."""
    x = s.operand()
    y = s.unary("Neg", x)
    if s.genes.flip():
        mask = s.genes.pick([np.array(True), np.array(False), np.array([True])])
        if static(dims_of(x)) and s.genes.flip():
            mask = s.names.rng.random([int(d) for d in dims_of(x)]) < 0.5
        condition = s.constant(mask)
    else:
        condition = s.binary("Greater", x, s.constant(0.25, x.dtype), ir.DataType.BOOL)
    dims = broadcast(dims_of(condition), dims_of(x))
    return s.emit("Where", [condition, x, y], dims or dims_of(x), x.dtype)


def casts(s: Sketch) -> ir.Value:
    """Casts there and back, through wider and narrower types."""
    x = s.operand()
    home = x.dtype or s.dtype
    through = [ir.DataType.DOUBLE, ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT32, home]
    middle = s.genes.pick(through)
    there = s.emit("Cast", [x], dims_of(x), middle, to=middle.value)
    if s.genes.flip(0.3):
        there = s.emit("Cast", [there], dims_of(x), ir.DataType.DOUBLE, to=ir.DataType.DOUBLE.value)
    return s.emit("Cast", [there], dims_of(x), home, to=home.value)


def integers(s: Sketch) -> ir.Value:
    """Integer arithmetic between casts."""
    x = s.operand()
    kind = s.genes.pick([ir.DataType.INT64, ir.DataType.INT32])
    i = s.emit("Cast", [s.unary("Tanh", x)], dims_of(x), kind, to=kind.value)
    for _ in range(1 + s.genes.below(3)):
        op = s.genes.pick(["Add", "Mul", "Sub", "Max"])
        number = s.genes.pick([1, 0, 2, -3])
        i = s.binary(op, i, s.constant(np.array(number), kind))
    return s.emit("Cast", [i], dims_of(x), x.dtype, to=x.dtype.value)  # type: ignore[union-attr]  # drawn


def gelu(s: Sketch) -> ir.Value:
    """Gelu as exporters spell it: by erf in two orders, or by tanh."""
    x = s.operand()

    def c(number: float) -> ir.Value:
        return s.constant(number, x.dtype)

    spelling = s.genes.below(3)
    if spelling == 2:
        cubed = s.binary("Pow", x, c(3.0))
        inner = s.binary("Add", x, s.binary("Mul", cubed, c(0.044715)))
        phi = s.unary("Tanh", s.binary("Mul", inner, c(0.7978845608028654)))
    elif s.genes.flip():
        phi = s.unary("Erf", s.binary("Mul", x, c(0.7071067811865476)))
    else:
        phi = s.unary("Erf", s.binary("Div", x, c(1.4142135623730951)))
    phi = s.binary("Add", phi, c(1.0))
    if spelling == 0:
        return s.binary("Mul", s.binary("Mul", x, phi), c(0.5))
    return s.binary("Mul", s.binary("Mul", x, c(0.5)), phi)


def gates(s: Sketch) -> ir.Value:
    """x sigmoid(x), and hard swish spelt out."""
    x = s.operand()
    if s.genes.flip():
        return s.binary("Mul", x, s.unary("Sigmoid", x))
    three, six = s.constant(3.0, x.dtype), s.constant(6.0, x.dtype)
    inner = s.binary("Add", x, three)
    gate = s.emit("Clip", [inner, s.constant(0.0, x.dtype), six], dims_of(x))
    return s.binary("Div", s.binary("Mul", x, gate), six)


def reduce_last(s: Sketch, op: str, x: ir.Value, *, keep: bool = True) -> ir.Value:
    """A reduction over the last axis, its axes where the opset wants them."""
    dims: Dims = (*dims_of(x)[:-1], 1) if keep else dims_of(x)[:-1]
    if s.opset >= 18 or op == "ReduceSum":
        return s.emit(op, [x, s.constant(np.array([-1]))], dims, keepdims=int(keep))
    return s.emit(op, [x], dims, axes=[-1], keepdims=int(keep))


def layer_norm(s: Sketch) -> ir.Value:
    """LayerNormalization or RMSNormalization spelt out; an intermediate may be used elsewhere."""
    x = s.operand(at_least(2, known=1))
    size = int(dims_of(x)[-1])
    centred = s.genes.flip(0.7)
    c = s.binary("Sub", x, reduce_last(s, "ReduceMean", x)) if centred else x
    square = (
        s.binary("Pow", c, s.constant(2.0, x.dtype)) if s.genes.flip() else s.binary("Mul", c, c)
    )
    variance = reduce_last(s, "ReduceMean", square)
    deviation = s.unary("Sqrt", s.binary("Add", variance, s.constant(1e-5, x.dtype)))
    if s.genes.flip(0.3):
        y = s.binary("Mul", c, s.unary("Reciprocal", deviation))
    else:
        y = s.binary("Div", c, deviation)
    if s.genes.flip(0.7):
        y = s.binary("Mul", y, s.constant(s.numbers((size,)), x.dtype))
        y = s.binary("Add", y, s.constant(s.numbers((size,)), x.dtype))
    return y


def softmax(s: Sketch) -> ir.Value:
    """Softmax or LogSoftmax, or Softmax spelt out."""
    x = s.operand(at_least(1, known=1))
    if s.genes.flip(0.7):
        return s.unary(s.genes.pick(["Softmax", "LogSoftmax"]), x, axis=-1)
    e = s.unary("Exp", s.unary("Tanh", x))
    return s.binary("Div", e, reduce_last(s, "ReduceSum", e))


PIECES: tuple[Piece, ...] = (
    unary, with_constant, chain, combine, twice, branches, clips, variadic_of_one, choice, casts,
    integers, gelu, gates, layer_norm, softmax, chain, with_constant,
)  # fmt: skip
