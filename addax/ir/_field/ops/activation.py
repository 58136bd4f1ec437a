"""Activations: through the oracles and the one piecewise function, max(x, 0), that define them."""

from functools import reduce
from typing import Any

import numpy as np

from addax.ir._field import constants
from addax.ir._field.ops.arithmetic import exponential, reals
from addax.ir._field.residues import PRIME, Residues, inverse, residues
from addax.ir._field.table import FieldSite
from addax.ir._judge.ops.activation import LEAK
from addax.ir._judge.table import Kernels

KERNELS = Kernels()
TABLES = (KERNELS,)

_HALF = (PRIME + 1) // 2


def number(value: float) -> int:
    """The residue of an attribute, or the irrational number that it is a rounding of."""
    return int(constants.lifted(np.asarray(value)))


@KERNELS.op("Relu")
def relu(x: Any, *, site: FieldSite) -> Any:
    """max(x, 0)."""
    return site.oracle.relu(x)


def larger(a: Any, b: Any, site: FieldSite) -> Residues:
    """max(a, b) = b + max(a - b, 0), where neither is infinite."""
    reals(a, b)
    a, b = np.asarray(a), np.asarray(b)
    made = (b + site.oracle.relu((a - b) % PRIME)) % PRIME
    for x, y in ((a, b), (b, a)):
        if x.size == 1 and int(x.reshape(())) in {constants.INFINITY, PRIME - constants.INFINITY}:
            is_top = int(x.reshape(())) == constants.INFINITY
            made = np.array(np.broadcast_to(x if is_top else y, made.shape))
    return np.asarray(made)


def smaller(a: Any, b: Any, site: FieldSite) -> Residues:
    """min(a, b) = -max(-a, -b)."""
    reals(a, b)
    opposite = larger(-np.asarray(a) % PRIME, -np.asarray(b) % PRIME, site)
    return np.asarray(-opposite % PRIME)


@KERNELS.op("Max")
def maximum(*inputs: Any, site: FieldSite) -> Any:
    """The largest of the inputs."""
    return reduce(lambda a, b: larger(a, b, site), inputs)


@KERNELS.op("Min")
def minimum(*inputs: Any, site: FieldSite) -> Any:
    """The smallest of the inputs."""
    return reduce(lambda a, b: smaller(a, b, site), inputs)


@KERNELS.op("Abs")
def absolute(x: Any, *, site: FieldSite) -> Any:
    """|x| = 2 max(x, 0) - x."""
    reals(x)
    x = np.asarray(x)
    return (2 * site.oracle.relu(x) - x) % PRIME


@KERNELS.op("Clip", since=11)
def clip(x: Any, low: Any = None, high: Any = None, *, site: FieldSite) -> Any:
    """min(max(x, low), high)."""
    if low is not None:
        x = larger(x, low, site)
    return x if high is None else smaller(x, high, site)


@KERNELS.op("Clip")
def clip_by_attributes(
    x: Any,
    *,
    min: float | None = None,  # noqa: A002
    max: float | None = None,  # noqa: A002
    site: FieldSite,
) -> Any:
    """Clip before opset 11."""
    low, high = (None if v is None else residues(v) for v in (min, max))
    return clip(x, low, high, site=site)


def _leaky(x: Any, slope: Any, site: FieldSite) -> Residues:
    positive = site.oracle.relu(x)
    return np.asarray((positive + slope * ((np.asarray(x) - positive) % PRIME)) % PRIME)


@KERNELS.op("LeakyRelu")
def leaky_relu(x: Any, *, alpha: float = LEAK, site: FieldSite) -> Any:
    """max(x, 0) + alpha min(x, 0)."""
    return _leaky(x, number(alpha), site)


@KERNELS.op("PRelu", since=7)
def p_relu(x: Any, slope: Any, *, site: FieldSite) -> Any:
    """max(x, 0) + slope min(x, 0)."""
    return _leaky(x, np.asarray(slope), site)


@KERNELS.op("HardSigmoid")
def hard_sigmoid(x: Any, *, alpha: float = 0.2, beta: float = 0.5, site: FieldSite) -> Any:
    """max(0, min(1, alpha x + beta))."""
    line = (np.asarray(x) * number(alpha) + number(beta)) % PRIME
    return clip(line, np.array(0), np.array(1), site=site)


@KERNELS.op("HardSwish")
def hard_swish(x: Any, *, site: FieldSite) -> Any:
    """HardSwish: x max(0, min(1, x / 6 + 1 / 2))."""
    return x * hard_sigmoid(x, alpha=1 / 6, site=site) % PRIME


@KERNELS.op("Sigmoid")
def sigmoid(x: Any, *, site: FieldSite) -> Any:
    """1 / (1 + exp(-x))."""
    return inverse((exponential(-np.asarray(x) % PRIME, site=site) + 1) % PRIME)


@KERNELS.op("Swish")
def swish(x: Any, *, alpha: float = 1.0, site: FieldSite) -> Any:
    """Swish: x sigmoid(alpha x)."""
    return x * sigmoid(np.asarray(x) * number(alpha) % PRIME, site=site) % PRIME


@KERNELS.op("Softplus")
def softplus(x: Any, *, site: FieldSite) -> Any:
    """log(1 + exp(x))."""
    return site.oracle("Log", (exponential(x, site=site) + 1) % PRIME)


@KERNELS.op("Mish")
def mish(x: Any, *, site: FieldSite) -> Any:
    """Mish: x tanh(log(1 + exp(x)))."""
    return x * site.oracle.odd("Tanh", softplus(x, site=site)) % PRIME


@KERNELS.op("Softsign")
def softsign(x: Any, *, site: FieldSite) -> Any:
    """Softsign: x / (1 + |x|)."""
    return x * inverse((absolute(x, site=site) + 1) % PRIME) % PRIME


@KERNELS.op("Elu")
def elu(x: Any, *, alpha: float = 1.0, site: FieldSite) -> Any:
    """max(x, 0) + alpha (exp(min(x, 0)) - 1)."""
    positive = site.oracle.relu(x)
    below = (np.asarray(x) - positive) % PRIME
    return (positive + number(alpha) * (exponential(below, site=site) - 1)) % PRIME


@KERNELS.op("Gelu", since=20)
def gelu(x: Any, *, approximate: str = "none", site: FieldSite) -> Any:
    """Gelu: x (1 + erf(x / sqrt 2)) / 2, or by its tanh formula."""
    x = np.asarray(x)
    if approximate == "tanh":
        cubic = (1 + constants.CUBIC * (x * x % PRIME)) % PRIME
        slope = constants.ROOT_OF_2_OVER_PI * x % PRIME
        gate = site.oracle.odd("Tanh", slope * cubic % PRIME)
    else:
        gate = site.oracle.odd("Erf", x * constants.ROOT_OF_HALF % PRIME)
    return x * ((gate + 1) * _HALF % PRIME) % PRIME
