"""Layernorm-reparam: the channels of a norm's output get one common range, for any quantizer.

Algebra     x' = (x + t) / r:  gamma' = gamma / r, beta' = (beta + t) / r, W' = W diag(r),
            b' = b - W t, so that W' x' + b' = W x + b;  r = s / s~, t = s (z - z~) for the steps s
            and whole zero points z of each channel's own quantizer, s~ and z~ common to all
Source      RepQ-ViT (2212.08254) equations 6 to 9, where z~ is a mean; any whole number serves,
            and 2^(bits - 1) leaves no correction for zero points in an integer product
Exactness   reassociated: nothing is quantized here, the function is the same
Cost        never adds a node but for a bias where a linear layer had none

For LayerNormalization, RMSNormalization (t = 0) and BatchNormalization whose readers are all
linear layers with constant weights, with nothing but transposes and reshapes between. Ranges are
those of calibration data; without any, beta +- 4 |gamma|. Runs only when asked for:
`allow=("layernorm-reparam",)`.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from addax.errors import InputError, OptionError
from addax.ir import Exact, Op, attribute, rank, rule
from addax.ir.origin import describe
from addax.ir.ranges import ChannelRanges, Histograms
from addax.ir.rule import EveryNode
from addax.ir.statistics import CALIBRATION, NOTES, Calibration
from addax.passes._family import Context, Phase
from addax.passes._reparam.ratios import Ratios, ratios_of
from addax.passes._reparam.sites import Reader, Site, sites

PHASE = Phase.APPROXIMATE  # after what the fold would hide, such as scales before linear layers
NEEDS_CALIBRATION = False

_DEVIATIONS = 4.0  # of a normal channel, that a range without data holds


@dataclass(frozen=True)
class Options:
    """For which quantizer.

    bits: Of the activations that a quantizer will make, 2 to 16: the common range has its zero
        point in the middle, exactly at a step of so many bits.
    tokens: Rows (tokens, pixels) that each channel must be seen on; ranges of fewer would cut
        off what comes later.
    share: Of a channel's numbers, that its range holds, from each end: above 0.5, up to 1; or
        "best" for what a quantizer of so many bits has the smallest error with.
    """

    bits: int = 8
    tokens: int = 4096
    share: float | str = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not 2 <= self.bits <= 16:
            raise OptionError(
                f"layernorm-reparam: bits must be a whole number from 2 to 16; got {self.bits!r}"
            )
        if not isinstance(self.tokens, int) or self.tokens < 1:
            raise OptionError(
                f"layernorm-reparam: tokens must be a whole number, 1 or more; got {self.tokens!r}"
            )
        share = self.share
        if share != "best" and not (isinstance(share, (int, float)) and 0.5 < share <= 1):
            raise OptionError(
                f"layernorm-reparam: share must be 'best' or in (0.5, 1]; got {share!r}"
            )


@dataclass(eq=False)
class _Plan:
    """What becomes of one site; `made` maps old values to their successors in the graph."""

    site: Site
    ratios: Ratios
    made: dict[ir.Value, ir.Value] = field(default_factory=dict)
    pending: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def settle(self, *, done: bool) -> None:
        """The last rewrite was committed, or was not."""
        if done:
            self.made |= self.pending
        self.pending.clear()


@rule("layernorm-reparam/fold", match=EveryNode(lambda _: True), exact=Exact.REASSOCIATED)
def fold(op: Op, plan: _Plan, reader: Reader) -> ir.Value:
    """W norm(x) + b -> W diag(r) norm'(x) + (b - W t)."""
    value = _norm(op, plan)
    old = plan.site.norm.outputs[0]
    for node in reader.path:
        old = node.outputs[0]
        if old not in plan.made:
            build = getattr(op, node.op_type)
            plan.pending[old] = build(value, *node.inputs[1:], **node.attributes)
        value = plan.made.get(old) or plan.pending[old]
    return _linear(op, plan, reader, value)


def _norm(op: Op, plan: _Plan) -> ir.Value:
    """The norm with its new scale and shift, made once."""
    norm, ratios = plan.site.norm, plan.ratios
    old = norm.outputs[0]
    if old in plan.made:
        return plan.made[old]
    ratio = _stored(op, plan, ratios.ratio, "ratio")
    x, gain, *rest = norm.inputs
    parts = [op.Div(gain, ratio)]
    given = rest[0] if rest else None
    if ratios.shift is not None:
        shift = _stored(op, plan, ratios.shift, "shift")
        given = shift if given is None else op.Add(given, shift)
    if given is not None:
        parts.append(op.Div(given, ratio))
    made: ir.Value = getattr(op, norm.op_type)(x, *parts, *rest[1:], **norm.attributes)
    plan.pending[old] = made
    return made


def _stored(op: Op, plan: _Plan, array: np.ndarray, what: str) -> ir.Value:
    gain = plan.site.norm.inputs[1]
    kind = np.float32 if gain is None or gain.dtype is None else gain.dtype.numpy()
    return op.initializer(array.astype(kind), f"{plan.site.norm.name or 'norm'}.{what}")


def _linear(op: Op, plan: _Plan, reader: Reader, value: ir.Value) -> ir.Value:
    """The linear layer on another input, with weights and a bias that make up for it."""
    product, bias = reader.product, reader.bias
    ratio = _stored(op, plan, plan.ratios.ratio, "ratio")
    weight = product.inputs[1]
    if product.op_type == "Conv":
        taps = list(range(2, rank(weight) or 0))
        spread = op.Reshape(ratio, [-1, *[1] * len(taps)])
        summed = op.ReduceSum(weight, taps, keepdims=0)
    elif attribute(product, "transB", 0):
        spread, summed = ratio, weight
    else:
        spread, summed = op.Reshape(ratio, [-1, 1]), op.Transpose(weight, perm=[1, 0])
    inputs = [value, op.Mul(weight, spread)]
    if plan.ratios.shift is not None:
        moved = op.MatMul(summed, _stored(op, plan, plan.ratios.shift, "shift"))
        bias = op.Neg(moved) if bias is None else op.Sub(bias, moved)
    made: ir.Value
    if product.op_type == "MatMul":
        made = op.MatMul(*inputs)
        return made if bias is None else op.Add(made, bias)
    inputs += [] if bias is None else [bias]
    made = getattr(op, product.op_type)(*inputs, **product.attributes)
    return made


def run(model: ir.Model, context: Context) -> bool:
    """Treat every norm of the main graph once.

    Raises:
        InputError: If there is calibration data, but too little of it for any norm.
    """
    if not context.is_first("layernorm-reparam"):
        return False
    options: Options = context.options
    notes: list[str] = context.facts.setdefault(NOTES, [])
    found = list(sites(model))
    legal = [site for _, site in found if isinstance(site, Site)]
    ranges = _ranges(model, legal, context.facts.get(CALIBRATION), options)
    changed = False
    for norm, site in found:
        where = f"layernorm-reparam, {describe(norm)}"
        plan = site if isinstance(site, str) else _plan(site, ranges[site], options)
        if isinstance(plan, str):
            notes.append(f"{where}: unchanged: {plan}")
            context.statistics.of(fold).decline(plan, norm.name or norm.op_type)
            continue
        done = [_rewrite(context, plan, reader) for reader in plan.site.readers]
        if all(done):
            notes.append(f"{where}: {_told(plan, ranges[plan.site])}")
        changed |= any(done)
    context.driver.resume()
    return changed


def _rewrite(context: Context, plan: _Plan, reader: Reader) -> bool:
    done: bool = context.driver.rewrite(fold, reader.root, plan, reader)
    plan.settle(done=done)
    return done


def _ranges(
    model: ir.Model, legal: list[Site], calibration: Calibration | None, options: Options
) -> dict[Site, ChannelRanges]:
    """The range of each channel of each norm, from one run over all data."""
    make = ChannelRanges if calibration is None or options.share == 1 else Histograms
    found = {site: make(len(site.gain)) for site in legal}
    if calibration is None or not legal:
        for site, ranges in found.items():
            reach = _DEVIATIONS * np.abs(site.gain)
            ranges.low, ranges.high = site.offset - reach, site.offset + reach
        return found
    for arrays in calibration.observe(model, [site.norm.outputs[0] for site in legal]):
        for (site, ranges), array in zip(found.items(), arrays, strict=True):
            ranges.add(np.moveaxis(array, site.axis, -1).reshape(-1, array.shape[site.axis]))
    most = max(ranges.count for ranges in found.values())
    if most < options.tokens:
        raise InputError(
            f"layernorm-reparam expects calibration data of at least {options.tokens} rows "
            f"(tokens, pixels) for each channel, got {most} from {calibration.samples} samples; "
            "ranges of fewer would cut off what comes later: give more, or say tokens=, or give "
            "no calibration data"
        )
    return found


def _ends(ranges: ChannelRanges, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """The range of each channel, without the share of numbers that it need not hold."""
    if not isinstance(ranges, Histograms):
        return ranges.low, ranges.high
    if isinstance(options.share, str):
        low, high, _ = ranges.best(options.bits)
        return low, high
    return ranges.quantiles(options.share)


def _plan(site: Site, ranges: ChannelRanges, options: Options) -> _Plan | str:
    """By how much to fold; or why not."""
    if not ranges.is_finite:
        return "its activations are not finite"
    if 0 < ranges.count < options.tokens:
        return f"it was seen on {ranges.count} rows, fewer than {options.tokens}"
    ratios = ratios_of(*_ends(ranges, options), options.bits, shifts=site.shifts)
    if not np.isfinite(ratios.ratio).all() or ratios.is_nothing:
        return "its channels have the same range already"
    return _Plan(site, ratios)


def _told(plan: _Plan, ranges: ChannelRanges) -> str:
    ratios = plan.ratios
    seen = f"on {ranges.count:,} rows" if ranges.count else "by its scale and shift, without data"
    said = f"ranges of {len(ratios.ratio)} channels, up to {ratios.spread:.3g} times as wide {seen}"
    said += f", are the same now, with a step of {ratios.scale:.3g}"
    for count, what in ((ratios.capped, "with a capped ratio"), (ratios.constant, "constant")):
        said += f", {count} {what}" if count else ""
    return said
