"""Activation functions: elementwise, in float32 for float16 and bfloat16, rounded once."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from addax.ir._judge.arrays import HALF, Array, wide
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
CONTRIB = Kernels("com.microsoft")
TABLES = (KERNELS, CONTRIB)

LEAK = 0.009999999776482582
"""0.01 as ONNX stores it: the float32 nearest to it."""


def in_wide(call: Callable[..., Any], x: Array, *rest: Array) -> Any:
    """`call` on `x` and `rest`, computed in float32 where `x` is a half, in the type of `x`."""
    if x.dtype in HALF:
        return call(wide(x), *map(wide, rest)).astype(x.dtype)
    return call(x, *rest)


@KERNELS.op("Erf")
def erf(x: Array) -> Any:
    """The error function."""
    if x.dtype.kind in "iu":
        return special.erf(x.astype(np.float64)).astype(x.dtype)
    return in_wide(special.erf, x)


@KERNELS.op("Sigmoid")
def sigmoid(x: Array, *, consumed_inputs: tuple[int, ...] = ()) -> Any:
    """1 / (1 + exp(-x))."""
    del consumed_inputs
    return in_wide(special.expit, x)


@KERNELS.op("Relu")
def relu(x: Array, *, consumed_inputs: tuple[int, ...] = ()) -> Any:
    """max(x, 0)."""
    del consumed_inputs
    return np.maximum(x, x.dtype.type(0))


@KERNELS.op("LeakyRelu")
def leaky_relu(x: Array, *, alpha: float = LEAK, consumed_inputs: tuple[int, ...] = ()) -> Any:
    """x, or alpha x where x < 0."""
    del consumed_inputs
    return in_wide(lambda x: np.where(x < 0, alpha * x, x), x)


@KERNELS.op("ThresholdedRelu")
def thresholded_relu(x: Array, *, alpha: float = 1.0) -> Any:
    """x, or 0 where x <= alpha."""
    return np.where(wide(x) > alpha, x, x.dtype.type(0))


@KERNELS.op("PRelu", since=7)
def p_relu(x: Array, slope: Array) -> Any:
    """x, or slope x where x < 0."""
    return np.where(x < 0, slope * x, x)


@KERNELS.op("PRelu")
def p_relu_by_channel(x: Array, slope: Array, *, consumed_inputs: tuple[int, ...] = ()) -> Any:
    """PRelu before opset 7: one slope, or one for each channel (axis 1)."""
    del consumed_inputs
    if slope.ndim == 1 and slope.size > 1:
        slope = slope.reshape(-1, *(1,) * (x.ndim - 2))
    return p_relu(x, slope)


@KERNELS.op("Elu")
def elu(x: Array, *, alpha: float = 1.0, consumed_inputs: tuple[int, ...] = ()) -> Any:
    """x, or alpha (exp(x) - 1) where x < 0."""
    del consumed_inputs
    return in_wide(lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x), x)


@KERNELS.op("Selu", since=6)
def selu(x: Array, *, alpha: float = 1.6732631921768188, gamma: float = 1.0507010221481323) -> Any:
    """Selu: gamma Elu(x)."""
    return in_wide(lambda x: gamma * elu(x, alpha=alpha), x)


@KERNELS.op("Selu")
def selu_of_opset_1(
    x: Array,
    *,
    alpha: float = 1.673200011253357,
    gamma: float = 1.0506999492645264,
    consumed_inputs: tuple[int, ...] = (),
) -> Any:
    """Selu with the defaults of opset 1."""
    del consumed_inputs
    return selu(x, alpha=alpha, gamma=gamma)


@KERNELS.op("Celu")
def celu(x: Array, *, alpha: float = 1.0) -> Any:
    """x, or alpha (exp(x / alpha) - 1) where x < 0."""
    return in_wide(lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0) / alpha), x), x)


def gelu_by_erf(x: Array) -> Any:
    """Gelu: x Phi(x), Phi the normal distribution function."""
    y = special.erf(x * x.dtype.type(np.sqrt(0.5)))
    y += 1
    y *= x
    y *= 0.5
    return y


def gelu_by_tanh(x: Array) -> Any:
    """Gelu, nearly: x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) / 2."""
    y = x * x
    y *= 0.044715
    y += 1
    y *= x
    y *= x.dtype.type(np.sqrt(2 / np.pi))
    y = np.tanh(y)
    y += 1
    y *= x
    y *= 0.5
    return y


@KERNELS.op("Gelu", since=20)
def gelu(x: Array, *, approximate: str = "none") -> Any:
    """The Gaussian error linear unit, exact or by its tanh formula."""
    return in_wide(gelu_by_tanh if approximate == "tanh" else gelu_by_erf, x)


@CONTRIB.op("Gelu")
def contrib_gelu(x: Array) -> Any:
    """Gelu by the error function."""
    return gelu(x)


@CONTRIB.op("BiasGelu")
def bias_gelu(x: Array, bias: Array) -> Any:
    """Gelu(x + bias)."""
    return gelu(x + bias)


@CONTRIB.op("FastGelu")
def fast_gelu(x: Array, bias: Array | None = None) -> Any:
    """Gelu(x + bias) by the tanh formula."""
    return gelu(x if bias is None else x + bias, approximate="tanh")


@CONTRIB.op("QuickGelu")
def quick_gelu(x: Array, *, alpha: float = 1.702) -> Any:
    """QuickGelu: x sigmoid(alpha x)."""
    return swish(x, alpha=float(np.float32(alpha)))


@KERNELS.op("Swish")
def swish(x: Array, *, alpha: float = 1.0) -> Any:
    """Swish: x sigmoid(alpha x)."""
    return in_wide(lambda x: x * special.expit(alpha * x), x)


@KERNELS.op("HardSigmoid")
def hard_sigmoid(
    x: Array,
    *,
    alpha: float = 0.20000000298023224,
    beta: float = 0.5,
    consumed_inputs: tuple[int, ...] = (),
) -> Any:
    """max(0, min(1, alpha x + beta))."""
    del consumed_inputs
    return in_wide(lambda x: np.clip(alpha * x + beta, 0, 1), x)


@KERNELS.op("HardSwish")
def hard_swish(x: Array) -> Any:
    """HardSwish: x max(0, min(1, x / 6 + 1 / 2))."""
    return in_wide(lambda x: x * np.clip(x / 6 + 0.5, 0, 1), x)


def softplus_of(x: Array) -> Any:
    """log(1 + exp(x)), without overflow."""
    return np.logaddexp(x, x.dtype.type(0))


@KERNELS.op("Softplus")
def softplus(x: Array) -> Any:
    """log(1 + exp(x))."""
    return in_wide(softplus_of, x)


@KERNELS.op("Mish")
def mish(x: Array) -> Any:
    """Mish: x tanh(Softplus(x))."""
    return in_wide(lambda x: x * np.tanh(softplus_of(x)), x)


@KERNELS.op("Softsign")
def softsign(x: Array) -> Any:
    """Softsign: x / (1 + |x|)."""
    return in_wide(lambda x: x / (1 + np.abs(x)), x)


@KERNELS.op("Shrink")
def shrink(x: Array, *, bias: float = 0.0, lambd: float = 0.5) -> Any:
    """Shrink: x + bias where x < -lambd, x - bias where x > lambd, else 0."""
    low, high = wide(x) < -lambd, wide(x) > lambd
    return np.where(low, x + bias, np.where(high, x - bias, 0)).astype(x.dtype)


@KERNELS.op("Clip", since=11)
def clip(x: Array, low: Array | None = None, high: Array | None = None) -> Any:
    """min(max(x, low), high): where low > high the result is high."""
    if low is not None:
        x = np.maximum(x, low)
    if high is not None:
        x = np.minimum(x, high)
    return x


@KERNELS.op("Clip", since=6)
def clip_by_attributes(
    x: Array,
    *,
    min: float = -3.4028234663852886e38,  # noqa: A002
    max: float = 3.4028234663852886e38,  # noqa: A002
) -> Any:
    """Clip before opset 11, where the largest float32 bounds what has no bound."""
    return clip(x, np.asarray(min, dtype=x.dtype), np.asarray(max, dtype=x.dtype))


@KERNELS.op("Clip")
def clip_of_opset_1(
    x: Array,
    *,
    min: float | None = None,  # noqa: A002
    max: float | None = None,  # noqa: A002
    consumed_inputs: tuple[int, ...] = (),
) -> Any:
    """Clip before opset 6."""
    del consumed_inputs
    low, high = (None if v is None else np.asarray(v, dtype=x.dtype) for v in (min, max))
    return clip(x, low, high)
