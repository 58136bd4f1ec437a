"""Error analysis of operators that are linear in each operand: products, sums, averages, moves."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from addax.ir._bounds import number
from addax.ir._bounds.number import Bounded, rounding, settled
from addax.ir._bounds.table import (
    Context,
    Errors,
    Inputs,
    Rule,
    Rules,
    errors,
    is_real,
    magnitudes,
    unsure,
)
from addax.ir._judge.arrays import REAL, Array
from addax.ir._judge.ops import activation, matmul
from addax.ir._judge.ops.layout import numbers

RULES = Rules()
CONTRIB = Rules("com.microsoft")
TABLES = (RULES, CONTRIB)

_GELU = 8  # roundings of a Gelu, which is not computed exactly


def _lost(outputs: Sequence[Array]) -> Errors:
    return [np.full(np.shape(y), np.inf) for y in outputs]


@RULES.op(
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "GatherElements",
    "GatherND", "Concat", "Split", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "Pad",
    "ReverseSequence", "Compress", "Trilu", "MaxPool", "GlobalMaxPool", "CenterCropPad",
    "ScatterElements", "ScatterND", "ReduceMax", "Col2Im", "EyeLike", "Upsample",
)  # fmt: skip
def _moved(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """Elements go elsewhere, and their errors with them; a maximum moves as its operands do."""
    if all(b is None or b.is_exact for b in inputs):
        return [None] * len(outputs)
    if context.given("reduction", b"none") not in {"none", b"none"}:
        return _lost(outputs)
    first = inputs[0]
    if first is not None and not is_real(first):
        # Integers that may differ: their elements move as numbers do.
        inputs = [Bounded(first.errors, first.error, np.dtype(np.float64)), *inputs[1:]]
    if unsure(inputs):
        return _lost(outputs)
    made = context.call(*errors(inputs))
    moved = list(made) if isinstance(made, tuple) else [made]
    # MaxPool's second output says where: unsure once anything is.
    return [
        e if y.dtype.kind == "f" or not is_real(first) else np.full(y.shape, np.inf)
        for e, y in zip(moved, outputs, strict=False)
    ]


@RULES.op("ReduceMin")
def _smallest(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    x = inputs[0]
    if x is None or x.is_exact:
        return [None]
    if not is_real(x) or unsure(inputs):
        return _lost(outputs)
    return [-context.on([-x.errors, *(b.value if b else None for b in inputs[1:])])]


def _summed(count: Callable[[Context, Inputs, Array], float]) -> Rule:
    """A sum with weights of fixed sign: the operator on errors, and on magnitudes for rounding."""

    def rule(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
        if context.dtype not in REAL:
            exact = all(b is None or b.is_exact for b in inputs)
            return [None] if exact else _lost(outputs)
        if unsure(inputs):
            return _lost(outputs)
        carried = context.on(errors(inputs))
        terms = count(context, inputs, outputs[0])
        return [settled(carried + rounding(context.on(magnitudes(inputs)), context.dtype, terms))]

    return rule


def _reduced(context: Context, inputs: Inputs, output: Array) -> float:
    """How many elements go into one."""
    del context
    return inputs[0].value.size / max(output.size, 1) + 1 if inputs[0] else 1


def _window(context: Context, inputs: Inputs, output: Array) -> float:
    del inputs, output
    return float(prod(context.given("kernel_shape", (1,)))) + 1


def _length(context: Context, inputs: Inputs, output: Array) -> float:
    del context, inputs
    return output.size


RULES.op("ReduceSum", "ReduceMean", "ReduceL1", "GlobalAveragePool")(_summed(_reduced))
RULES.op("AveragePool")(_summed(_window))
RULES.op("CumSum")(_summed(_length))


@RULES.op("Resize")
def _resized(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """Interpolation; by cubics the weights add up to at most 1.25 an axis in magnitude."""
    x = inputs[0]
    if x is None or unsure(inputs) or not is_real(x):
        return _lost(outputs)
    if context.given("mode", "nearest") == "nearest":
        return [None] if x.is_exact else [context.on([x.errors, *_rest(inputs)])]
    weight = 1.25**x.value.ndim if context.given("mode", "nearest") == "cubic" else 1.0
    largest = weight * float(np.max(x.errors, initial=0))
    magnitude = weight * float(np.max(x.magnitude, initial=0))
    return [
        np.broadcast_to(
            largest + rounding(np.asarray(magnitude), context.dtype, 16), outputs[0].shape
        )
    ]


def _rest(inputs: Inputs) -> list[Any]:
    return [None if b is None else b.value for b in inputs[1:]]


def _bilinear(count: Callable[[Context, Inputs], float]) -> Rule:
    """The error |B|(|a| + ea, eb) + |B|(ea, |b|) + ec of B(a, b) + c, and a rounding for each term.

    The rounding is relative to |B|(|a|, |b|) + |c|.
    """

    def rule(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
        a, b = inputs[0], inputs[1]
        if a is None or b is None or context.dtype not in REAL:
            exact = all(v is None or v.is_exact for v in inputs)
            return [None] if exact else _lost(outputs)
        if unsure(inputs):
            return _lost(outputs)
        rest = list(inputs[2:])
        none = [None if v is None else np.zeros(v.value.shape) for v in rest]
        error = rounding(context.on(magnitudes(inputs)), context.dtype, count(context, inputs))
        if a.error is not None:
            error = error + context.on([a.error, b.magnitude, *none])
        if b.error is not None or any(v is not None and v.error is not None for v in rest):
            error = error + context.on([a.magnitude + a.errors, b.errors, *errors(rest)])
        return [settled(error)]

    return rule


def _inner(context: Context, inputs: Inputs) -> float:
    """The length of the sums of a matrix product, and its bias."""
    a, turned = inputs[0], context.given("transA", 0)
    return (1 if a is None else a.value.shape[-2 if turned and a.value.ndim > 1 else -1]) + 2


def _taps(context: Context, inputs: Inputs) -> float:
    del context
    w = inputs[1]
    return 1 if w is None else prod(w.value.shape[1:]) + 2


def _scattered(context: Context, inputs: Inputs) -> float:
    """ConvTranspose adds up at most all taps of all channels."""
    w = inputs[1]
    return 1 if w is None else w.value.size / max(w.value.shape[1], 1) + 2


def _every(context: Context, inputs: Inputs) -> float:
    del context
    return float(prod(max(b.value.shape, default=1) for b in inputs if b is not None)) + 2


def _absolute(context: Context) -> Context:
    """A product without its activation, whose slope is at most 1, and its factors' magnitudes."""
    factors = {name: -context.given(name, 1.0) for name in ("alpha", "beta")}
    changed = {name: factor for name, factor in factors.items() if factor > 0}
    gone = [name for name in context.attributes if name.startswith("activation")]
    if not changed and not gone:
        return context
    call = context.call.func  # type: ignore[attr-defined]
    given = context.call.keywords.items()  # type: ignore[attr-defined]
    keywords = {name: value for name, value in given if name not in gone} | changed
    return replace(context, call=partial(call, **keywords), attributes=keywords)


_product = _bilinear(_inner)
RULES.op("MatMul")(_product)
RULES.op("Conv")(_bilinear(_taps))
RULES.op("ConvTranspose")(_bilinear(_scattered))


@CONTRIB.op("FusedConv")
def _fused_conv(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    return _bilinear(_taps)(_absolute(context), inputs, outputs)


@CONTRIB.op("GemmFastGelu")
def _gemm_gelu(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """Gelu, whose slope is at most 1.13, of a product."""
    plain = replace(context, call=matmul.gemm if len(inputs) > 2 else matmul.product)
    (error,) = _product(plain, inputs, outputs)
    y = Bounded(plain.on([None if v is None else v.value for v in inputs]), error, context.dtype)
    return [number.lipschitz(activation.fast_gelu, 1.13, y, _GELU).error]


@RULES.op("Gemm")
@CONTRIB.op("FusedMatMul", "FusedGemm")
def _gemm(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    return _product(_absolute(context), inputs, outputs)


@RULES.op("Einsum")
def _einsum(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    if len(inputs) == 2:
        return _bilinear(_every)(context, inputs, outputs)
    if len(inputs) == 1:
        return _summed(_reduced)(context, inputs, outputs)
    raised = [None if b is None else b.magnitude + b.errors for b in inputs]
    return [_difference(context, inputs, raised)]


def _difference(context: Context, inputs: Inputs, raised: list[Any]) -> Array:
    """|product|(|a| + ea, ...) - |product|(|a|, ...), one operand at a time."""
    plain = magnitudes(inputs)
    error = rounding(context.on(raised), context.dtype, _every(context, inputs))
    for k, b in enumerate(inputs):
        if b is not None and b.error is not None:
            error = error + context.on([*raised[:k], b.error, *plain[k + 1 :]])
    return settled(error)


@RULES.op("MatMulInteger", "ConvInteger", "Shape", "Size", "ConstantOfShape", "Range", "NonZero",
          "OneHot", "Unique")  # fmt: skip
def _whole(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """Exact on what is exact; a shape does not depend on the elements."""
    if context.name in {"Shape", "Size"} or all(b is None or b.is_exact for b in inputs):
        return [None] * len(outputs)
    return _lost(outputs)


@RULES.op("ArgMax", "ArgMin")
def _extremum(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """Unsure where another element comes as close as the errors reach."""
    x = inputs[0]
    if x is None or x.is_exact:
        return [None]
    axis = context.given("axis", 0)
    sign = 1 if context.name == "ArgMax" else -1
    value = sign * x.value
    place = np.expand_dims(np.argmax(value, axis), axis)
    best = np.take_along_axis(value - x.errors, place, axis)
    others = value + x.errors
    np.put_along_axis(others, place, -np.inf, axis)
    unsure_there = ~(np.max(others, axis, keepdims=True) < best)
    return [np.where(unsure_there.reshape(outputs[0].shape), np.inf, 0)]


@RULES.op("TopK")
def _top(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """Sorting is 1-Lipschitz in the largest error; which elements they were is then unsure."""
    x = inputs[0]
    if x is None or x.is_exact:
        return [None] * len(outputs)
    if not is_real(x):
        return _lost(outputs)
    worst = np.max(x.errors, axis=context.given("axis", -1), keepdims=True, initial=0)
    lost: list[Array | None] = [np.full(y.shape, np.inf) for y in outputs[1:]]
    return [np.broadcast_to(worst, outputs[0].shape), *lost]


@RULES.op("ReduceProd", "ReduceLogSum", "ReduceLogSumExp", "ReduceL2", "ReduceSumSquare")
def _by_definition(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """Reductions that are a sum between two functions; the product by relative errors."""
    from addax.ir._bounds import composed

    x = inputs[0]
    if x is None or not is_real(x) or unsure(inputs):
        exact = all(b is None or b.is_exact for b in inputs)
        return [None] if exact and context.dtype not in REAL else _lost(outputs)
    where = inputs[1] if len(inputs) > 1 else None
    chosen = numbers(where.value) if where is not None else tuple(context.given("axes", ()) or ())
    if not chosen and context.given("noop_with_empty_axes", 0):
        return _lost(outputs)
    result = composed.REDUCTIONS[context.name](x, chosen or None)
    return [result.errors.reshape(outputs[0].shape)]
