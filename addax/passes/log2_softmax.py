"""Log2-softmax: attention by codes of the logarithm of its weights, without exponentials.

Algebra     softmax(s) V ~ sum_l p[q, l] V[l] / sum_l p[q, l], p = 2^(-code / n),
            code = rint(n log2(e) (max s - s)), the last one 0; n = 7 and 6 bits by default
Source      RepQ-ViT (2212.08254), AdaLog (2407.12951), which code the softmax itself, 2^(-q / 2)
            delta (`absolute=True`); codes relative to the row's maximum need no delta, and rows
            add up to 1
Exactness   approximate; the error of each attention is measured on calibration data
Cost        an exponential and a division a score become a multiply and a table read, floating
            products integer ones, where the target has a kernel; the body in standard ops is
            slower than a Softmax, so attention stays as it is where there is none

Runs only when allowed by name: `allow=("log2-softmax",)`, `allow=("log2-softmax{insist=True}",)`
for bodies too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.errors import OptionError
from addax.ir import (
    Exact,
    Op,
    attribute,
    producer,
    rank,
    require,
    rule,
    same_shape,
    scalar,
    shape,
    single_use,
)
from addax.ir.dialect import DOMAIN
from addax.ir.origin import describe
from addax.ir.query import producing
from addax.ir.ranges import SHARES, Histograms
from addax.ir.rule import EveryNode
from addax.ir.statistics import HAS_KERNEL, NOTES, Observer
from addax.passes._attention_codes import coded_attention, exact_attention, probabilities
from addax.passes._attention_products import softmax_of
from addax.passes._family import Context, Phase

PHASE = Phase.APPROXIMATE

_BITS, _STEPS = 8, 32


@dataclass(frozen=True)
class Options:
    """Which codes.

    codes_per_octave: 1 (log2), 2 (log sqrt 2), up to 32.
    bits: Of a code, 1 to 8; kernels have up to 6.
    absolute: The papers' form, codes of the softmax itself below a largest value, which is chosen
        on calibration data. No kernel has it.
    max_error: The relative error |y - y'| / |y| of an attention's output above which it stays; None
        for any.
    insist: Whether attention becomes codes where the target has no kernel for them.
    """

    codes_per_octave: int = 7
    bits: int = 6
    absolute: bool = False
    max_error: float | None = None
    insist: bool = False

    def __post_init__(self) -> None:
        for name, most in (("codes_per_octave", _STEPS), ("bits", _BITS)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise OptionError(
                    f"log2-softmax: {name} must be a whole number from 1 to {most}; got {value!r}"
                )
        if self.max_error is not None and not (
            isinstance(self.max_error, (int, float)) and self.max_error > 0
        ):
            raise OptionError(
                f"log2-softmax: max_error must be a positive number or None; got {self.max_error!r}"
            )


@dataclass(frozen=True, eq=False)
class _Site:
    """softmax(scale * scores + mask) values; `weighted` is what the softmax reads."""

    scores: ir.Value
    mask: ir.Value | None
    scale: float
    values: ir.Value
    weighted: ir.Value


def _read(root: ir.Node) -> _Site | str | None:
    """The attention that ends at `root`; or why it cannot be codes; or None if it is none."""
    weights = root.inputs[0] if root.op_type == "MatMul" and not root.domain else None
    softmax = softmax_of(weights)
    if softmax is None or weights is None:
        return None
    weighted, values = softmax.inputs[0], root.inputs[1]
    dims, last = shape(weighted), shape(values)
    if weighted is None or values is None or dims is None or last is None:
        return "the shapes of its scores or values are unknown"
    if attribute(softmax, "axis", -1) % len(dims) != len(dims) - 1:
        return "its softmax is not over the last axis"
    if not single_use(weights):
        return "its weights are read elsewhere too"
    if len(dims) < 2 or dims[:-2] != last[:-2] or None in dims[:-2]:
        return "its scores and values do not have the same batch and heads"
    scores, mask = _parts(weighted)
    scale = 1.0
    scaled = producer(scores, "Mul")
    if scaled is not None and scaled.inputs[0] is not None and single_use(scores):
        factor = scalar(scaled.inputs[1])
        keeps_shape = same_shape(scaled.inputs[0], scores)
        if keeps_shape and factor is not None and np.float32(factor) == factor and factor > 0:
            scores, scale = scaled.inputs[0], float(factor)
    return _Site(scores, mask, scale, values, weighted)


def _parts(weighted: ir.Value) -> tuple[ir.Value, ir.Value | None]:
    """The scores, and the mask that is added to them."""
    node = producer(weighted, "Add")
    if node is None or not single_use(weighted):
        return weighted, None
    for scores, mask in (node.inputs, node.inputs[::-1]):
        if scores is None or mask is None or not same_shape(scores, weighted):
            continue
        fits = scores.dtype == mask.dtype and (rank(mask) or 0) <= (rank(scores) or 0)
        if fits and producer(scores, "MatMul", "Mul") is not None:
            return scores, mask
    return weighted, None


@rule("log2-softmax/attention", match=EveryNode(lambda _: True), exact=Exact.APPROXIMATE)
def attention(
    op: Op, site: _Site, options: Options, delta: float, serves: Callable[[ir.Node], bool]
) -> ir.Value:
    """Softmax(scale S + mask) V -> LogCodeAttention(S, mask, V)."""
    kind = np.float32 if site.scores.dtype is None else site.scores.dtype.numpy()
    mask = op.initializer(np.zeros(1, kind), "no_mask") if site.mask is None else site.mask
    made: ir.Value = op.domain(DOMAIN).LogCodeAttention(
        site.scores,
        mask,
        site.values,
        codes_per_octave=options.codes_per_octave,
        bits=options.bits,
        scale=site.scale,
        delta=delta,
    )
    require(
        options.insist or serves(producing(made)),
        "the target has no kernel for it, and in standard ops it is slower; insist=True for that",
        site.scores,
    )
    return made


def run(model: ir.Model, context: Context) -> bool:
    """Treat every attention of the main graph once, in order.

    Raises:
        OptionError: If there is no calibration data.
    """
    calibration = context.calibration("log2-softmax")
    if not context.is_first("log2-softmax"):
        return False
    notes: list[str] = context.facts.setdefault(NOTES, [])
    observer, changed = calibration.walk(model), False
    serves = context.facts.get(HAS_KERNEL, lambda _: True)
    for root in list(model.graph):
        site = None if root.graph is None or context.limits.is_out_of_fuel else _read(root)
        if site is None:
            continue
        where = f"log2-softmax, {describe(root)}"
        done = site if isinstance(site, str) else _treat(root, site, observer, serves, context)
        if not isinstance(done, str):
            changed = True
            context.driver.resume()
            notes.append(f"{where}: {done[0]}")
        else:
            notes.append(f"{where}: unchanged: {done}")
    return changed


def _treat(
    root: ir.Node,
    site: _Site,
    observer: Observer,
    serves: Callable[[ir.Node], bool],
    context: Context,
) -> tuple[str] | str:
    """What was done, or why nothing was."""
    options: Options = context.options
    if not context.driver.would_apply(attention, root, site, options, 0.0, serves):
        context.driver.rewrite(attention, root, site, options, 0.0, serves)  # to be counted
        return "the target has no kernel for it, and in standard ops it is slower; insist=True"
    delta, error = _measured(site, observer, options)
    if not np.isfinite(error):
        return "its scores or values are not finite"
    if options.max_error is not None and error > options.max_error:
        return f"its output would have an error of {error:.3g}, above {options.max_error:g}"
    if not context.driver.rewrite(attention, root, site, options, delta, serves):
        return "the rewrite was declined"
    form = f", absolute below {delta:.3g}" if delta else ", relative to the row's maximum"
    return (
        f"codes of {options.bits} bits, {options.codes_per_octave} an octave{form}, "
        f"output error {error:.3g}",
    )


def _measured(site: _Site, observer: Observer, options: Options) -> tuple[float, float]:
    """The delta to take, 0 for none, and the relative error of the output with it."""
    deltas = _deltas(site, observer) if options.absolute else [0.0]
    missed, whole = np.zeros(len(deltas)), 0.0
    for scores, values in observer.observe((site.weighted, site.values)):
        if np.isnan(scores).any() or np.isposinf(scores).any() or not np.isfinite(values).all():
            whole = float("nan")  # and the rest is walked over: what follows starts from there
            continue
        exact = exact_attention(scores, values)
        whole += float(np.square(exact).sum())
        for place, delta in enumerate(deltas):
            made = coded_attention(scores, values, options.codes_per_octave, options.bits, delta)
            missed[place] += np.square(made - exact).sum()
    best = int(missed.argmin())
    return deltas[best], float(np.sqrt(missed[best] / (whole or 1.0)))


def _deltas(site: _Site, observer: Observer) -> list[float]:
    """The numbers that shares of the softmax's outputs do not exceed."""
    seen = Histograms(1)
    for (scores,) in observer.observe((site.weighted,)):
        if np.isnan(scores).any() or np.isposinf(scores).any():
            continue
        seen.add(probabilities(scores).reshape(-1, 1))
    if not seen.is_finite:
        return [1.0]
    return sorted({float(np.float32(seen.quantiles(share)[1][0])) for share in SHARES})
