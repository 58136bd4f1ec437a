"""Error analysis of operators by their definitions: normalizations, softmax, reductions."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from addax.ir._bounds import number
from addax.ir._bounds.number import Axes, Bounded, rounding, settled
from addax.ir._bounds.table import Context, Errors, Inputs, Rules, is_real, unsure
from addax.ir._judge.arrays import Array
from addax.ir._judge.ops.norm import EPSILON

RULES = Rules()
CONTRIB = Rules("com.microsoft")
TABLES = (RULES, CONTRIB)


def _square(x: Bounded) -> Bounded:
    return number.multiply(x, x)


def _product(x: Bounded, axes: Axes) -> Bounded:
    """prod(|x| + e) - prod(|x|), and a rounding for each factor."""
    raised = np.prod(x.magnitude + x.errors, axis=axes, keepdims=True)
    value = np.prod(x.value, axis=axes, keepdims=True)
    count = x.value.size / max(value.size, 1)
    error = (raised - np.abs(value)) * (1 + 1e-9) + rounding(raised, x.dtype, max(count, 1))
    return Bounded(value, settled(error), x.dtype)


def _log(x: Bounded) -> Bounded:
    return number.monotone(np.log, x, 8)


def _exp(x: Bounded) -> Bounded:
    return number.monotone(np.exp, x, 8)


def _shifted(x: Bounded, axes: Axes) -> tuple[Bounded, Bounded]:
    """Values less their largest element, and that element."""
    largest = np.max(x.value, axis=axes, keepdims=True, initial=-np.inf)
    top = Bounded(
        np.where(np.isfinite(largest), largest, 0),
        None if x.error is None else np.max(x.error, axis=axes, keepdims=True, initial=0),
        x.dtype,
    )
    return number.subtract(x, top), top


def _log_sum_exp(x: Bounded, axes: Axes) -> Bounded:
    low, top = _shifted(x, axes)
    return number.add(_log(number.total(_exp(low), axes)), top)


REDUCTIONS: dict[str, Callable[[Bounded, Axes], Bounded]] = {
    "ReduceProd": _product,
    "ReduceSumSquare": lambda x, axes: number.total(_square(x), axes),
    "ReduceL2": lambda x, axes: number.root(number.total(_square(x), axes)),
    "ReduceLogSum": lambda x, axes: _log(number.total(x, axes)),
    "ReduceLogSumExp": _log_sum_exp,
}


def _softmax(x: Bounded, axis: int, *, logarithm: bool = False) -> Bounded:
    """Softmax y = exp(x) / sum exp(x) changes by y (dx - sum y dx), its logarithm without y."""
    value = np.exp(_shifted(x, (axis,))[0].value)
    value = value / np.sum(value, axis=axis, keepdims=True)
    spread = x.errors + np.max(x.errors, axis=axis, keepdims=True, initial=0)
    low, _ = _shifted(x, (axis,))
    # The rounding of the exponent's argument, then of exp, sum and quotient.
    terms = value.shape[axis] + 16
    relative = spread + rounding(low.magnitude, x.dtype, 2)
    if logarithm:
        logs = np.log(value)
        error = relative + rounding(
            1 + low.magnitude + np.abs(np.where(np.isfinite(logs), logs, 0)), x.dtype, terms
        )
        return Bounded(logs, settled(error), x.dtype)
    moved = np.where(relative < 1, value * np.expm1(np.minimum(relative, 1)), 1)
    error = np.minimum(moved + rounding(value, x.dtype, terms), 1)
    # Beyond the format there is no softmax: an infinite exponent may be infinity less infinity.
    return Bounded(value, settled(np.where(np.isfinite(relative), error, np.inf)), x.dtype)


@RULES.op("Softmax", "LogSoftmax")
def _softmax_rule(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    x = inputs[0]
    if x is None or x.value.size == 0:
        return [None]
    logarithm = context.name == "LogSoftmax"
    if context.opset >= 13:
        return [_softmax(x, context.given("axis", -1), logarithm=logarithm).error]
    axis = context.given("axis", 1)
    rows = int(np.prod(x.value.shape[: axis + x.value.ndim if axis < 0 else axis]))
    flat = _softmax(number.shaped(x, (rows, -1)), -1, logarithm=logarithm)
    return [flat.errors.reshape(outputs[0].shape)]


def _normalized(x: Bounded, axes: tuple[int, ...], epsilon: float, *, centred: bool) -> Bounded:
    """(x - mean) / sqrt(mean of its square + epsilon); without centring, x over the same root."""
    c = number.subtract(x, number.mean(x, axes)) if centred else x
    variance = number.mean(_square(c), axes)
    scale = number.root(number.add(variance, number.exact(epsilon, x.dtype)))
    y = number.divide(c, scale)
    # |c| <= sqrt(n) scale whatever the rounding: the quotient's bound never need exceed that.
    limit = 2 * np.sqrt(np.prod([x.value.shape[a] for a in axes], dtype=np.float64)) + 1
    limit = np.where(np.isfinite(c.errors) & np.isfinite(variance.errors), limit, np.inf)
    return Bounded(y.value, np.minimum(y.errors, limit), x.dtype)


def _scaled(y: Bounded, scale: Bounded | None, bias: Bounded | None) -> Bounded:
    y = y if scale is None else number.multiply(y, scale)
    return y if bias is None else number.add(y, bias)


def _channels(v: Bounded | None, rank: int) -> Bounded | None:
    return (
        None if v is None else number.shaped(v, (1, -1, *(1,) * (rank - 2)) if rank > 1 else (-1,))
    )


def _only(result: Bounded, outputs: Sequence[Array]) -> Errors:
    """The analysis of the first output; the others (means and the like) are not followed."""
    lost: list[Array | None] = [np.full(np.shape(y), np.inf) for y in outputs[1:]]
    return [np.broadcast_to(result.errors, outputs[0].shape), *lost]


def _operand(inputs: Inputs, index: int) -> Bounded | None:
    return inputs[index] if index < len(inputs) else None


def _over_last_axes(
    context: Context, inputs: Inputs, outputs: Sequence[Array], *, centred: bool
) -> Errors:
    x = inputs[0]
    if x is None or unsure(inputs):
        return [np.full(np.shape(y), np.inf) for y in outputs]
    axes = tuple(range(context.given("axis", -1) % x.value.ndim, x.value.ndim))
    y = _normalized(x, axes, context.given("epsilon", EPSILON), centred=centred)
    return _only(_scaled(y, inputs[1], _operand(inputs, 2)), outputs)


RULES.op("LayerNormalization")(partial(_over_last_axes, centred=True))
RULES.op("RMSNormalization", "SimplifiedLayerNormalization")(
    partial(_over_last_axes, centred=False)
)


@RULES.op("InstanceNormalization")
def _instance(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    x = inputs[0]
    if x is None:
        return [None]
    rank = x.value.ndim
    epsilon = context.given("epsilon", EPSILON)
    y = _normalized(x, tuple(range(2, rank)), epsilon, centred=True)
    return _only(_scaled(y, _channels(inputs[1], rank), _channels(inputs[2], rank)), outputs)


@RULES.op("GroupNormalization")
def _groups(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    x, scale, bias = inputs
    if x is None or scale is None or bias is None:
        return [None]
    shape, rank = x.value.shape, x.value.ndim
    groups = context.given("num_groups", 1)
    grouped = number.shaped(x, (shape[0], groups, -1))
    y = number.shaped(
        _normalized(grouped, (2,), context.given("epsilon", EPSILON), centred=True), shape
    )
    if context.opset < 21:
        scale, bias = _repeated(scale, shape[1] // groups), _repeated(bias, shape[1] // groups)
    return _only(_scaled(y, _channels(scale, rank), _channels(bias, rank)), outputs)


def _repeated(v: Bounded, count: int) -> Bounded:
    return Bounded(np.repeat(v.value, count), np.repeat(v.errors, count), v.dtype)


@RULES.op("BatchNormalization")
def _batch(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """With the given statistics: scale (x - mean) / sqrt(variance + epsilon) + bias."""
    x = inputs[0]
    if x is None or context.given("training_mode", 0) or not context.given("spatial", 1):
        return [np.full(np.shape(y), np.inf) for y in outputs]
    scale, bias, average, variance = (_channels(v, x.value.ndim) for v in inputs[1:5])
    if scale is None or bias is None or average is None or variance is None:
        return [None]
    epsilon = number.exact(context.given("epsilon", EPSILON), x.dtype)
    y = number.divide(number.subtract(x, average), number.root(number.add(variance, epsilon)))
    return _only(_scaled(y, scale, bias), outputs)


@RULES.op("LpNormalization")
def _lp(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    x = inputs[0]
    if x is None:
        return [None]
    axis = context.given("axis", -1)
    if context.given("p", 2) == 1:
        size = number.total(Bounded(x.magnitude, x.error, x.dtype), (axis,))
    else:
        size = number.root(number.total(_square(x), (axis,)))
    return [number.divide(x, size).error]


CONTRIB.op("SimplifiedLayerNormalization")(partial(_over_last_axes, centred=False))


@CONTRIB.op("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def _skip(context: Context, inputs: Inputs, outputs: Sequence[Array]) -> Errors:
    """LayerNormalization(x + skip + bias of the sum); the sum is the fourth output."""
    centred = context.name == "SkipLayerNormalization"
    x, skip, scale = inputs[:3]
    if x is None or skip is None or not is_real(x):
        return [np.full(np.shape(y), np.inf) for y in outputs]
    summed = number.add(x, skip)
    extra = _operand(inputs, 4 if centred else 3)
    if extra is not None:
        summed = number.add(summed, extra)
    y = _normalized(summed, (x.value.ndim - 1,), context.given("epsilon", 1e-12), centred=centred)
    made = _only(_scaled(y, scale, _operand(inputs, 3) if centred else None), outputs)
    return [*made[:3], *([summed.error] if len(outputs) > 3 else [])]
