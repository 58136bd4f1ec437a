"""Channel-idle: hidden channels of feed-forward parts become linear, or go, fitted on real data.

Algebra     y = phi(h) W2, h = x W1 + b1;  for channels S: phi(h_S) ~ a h_S + c, so
            y ~ phi(x W1_K + b1_K) B + x L + l  with K the other channels;  B, L, l solved by least
            squares against y. Pruning at equal cost, phi(h_S) ~ c, solved alike, stands beside it
Source      Xu et al., "RePaViT", ICML 2025 (arXiv 2505.21847), which trains S to be linear; here S
            is chosen after training, greedily by the residuals' joint share in y
Exactness   approximate; the error of each part is measured on held-out calibration samples
Cost        D E + k (D + E) multiplies a row in place of H (D + E): fewer above a ratio of
            D E / (H (D + E)), 12.5 % for H = 4 D = 4 E

Parts are treated in the order of the network, each on the activations that the parts before it
leave. Runs only when allowed by name, with at least 256 calibration samples:
`allow=("channel-idle{ratio=0.5}",)`.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.errors import InputError, OptionError
from addax.ir import Exact, Op, producer, rule, scalar, shape
from addax.ir.origin import describe
from addax.ir.rule import EveryNode
from addax.ir.statistics import NOTES, Calibration, observe_moments
from addax.passes._family import Context, Phase, is_number
from addax.passes._idle_fit import METHODS, Candidate, Fit
from addax.passes._linear_layers import Linear, linear, linear_product

PHASE = Phase.APPROXIMATE

SAMPLES = 256  # measured: the correction by least squares does harm with 16 and saturates here
_STEPS = 16  # ratios tried under an error budget: 15/16, 14/16, ...
_NONLINEAR = (
    "Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
    "Mish", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu",
)  # fmt: skip
_DEPTH = 16  # nodes of an activation, one after another
_SIMPLE = ("Add", "Div", "Identity", "Max", "Min", "Mul", "Neg", "Pow", "Sub")


@dataclass(frozen=True)
class Options:
    """How far to go.

    ratio: Share of each part's hidden channels to give up, above 0 and up to 1; or None for the
        largest, part by part, that stays within `max_error`.
    max_error: Error that a part's output may have: root of its mean square over its variance.
    method: "idle", "prune", or "auto" for whichever has the smaller error in each part.
    correct: Whether to solve the weights anew by least squares.
    """

    ratio: float | None = None
    max_error: float = 0.1
    method: str = "auto"
    correct: bool = True

    def __post_init__(self) -> None:
        if self.ratio is not None and not (is_number(self.ratio) and 0 < self.ratio <= 1):
            raise OptionError(
                f"channel-idle: ratio must be above 0 and at most 1, or None; got {self.ratio!r}"
            )
        if not (is_number(self.max_error) and self.max_error > 0):
            raise OptionError(
                f"channel-idle: max_error must be a positive number; got {self.max_error!r}"
            )
        if self.method not in ("auto", *METHODS):
            raise OptionError(
                f"channel-idle: method must be 'auto', 'idle' or 'prune'; got {self.method!r}"
            )


# --- finding ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Site:
    """A feed-forward part: `hidden` -> `activation` -> `phi` -> `second`, which is the root."""

    first: Linear
    hidden: ir.Value
    activation: tuple[ir.Node, ...]
    phi: ir.Value
    second: Linear


def _read(root: ir.Node) -> _Site | str | None:
    """The part that ends at `root`; or why it cannot be treated; or None if it is no such part."""
    second = linear_product(root)
    if second is None:
        return None
    nodes: dict[ir.Node, None] = {}
    sources: dict[ir.Value, Linear] = {}
    if not _trace(second.x, nodes, sources) or not sources:
        return None
    if not any(node.op_type in _NONLINEAR for node in nodes):
        return None
    if len(sources) > 1:
        return "it is gated: the activation multiplies a second linear map"
    ((hidden, first),) = sources.items()
    readers = {*nodes, root, *first.nodes}
    inside = [hidden, *(v for node in (*nodes, *first.nodes) for v in node.outputs)]
    if any(v.is_graph_output() or not readers.issuperset(v.consumers()) for v in inside):
        return "its hidden channels are read elsewhere too"
    return _Site(first, hidden, tuple(nodes), second.x, second)


def _trace(
    value: ir.Value,
    nodes: dict[ir.Node, None],
    sources: dict[ir.Value, Linear],
    depth: int = _DEPTH,
) -> bool:
    """Collect what computes `value`, number by number, from linear maps; False if more does."""
    if value in sources or scalar(value) is not None:
        return True
    found = linear(value)
    if found is not None:
        sources[value] = found
        return True
    node = producer(value, *_NONLINEAR, *_SIMPLE)
    if node is None or not depth:
        return False
    if node not in nodes:
        if not all(v is None or _trace(v, nodes, sources, depth - 1) for v in node.inputs):
            return False
        nodes[node] = None
    return True


# --- rewriting ----------------------------------------------------------------------------------


@rule("channel-idle/replace", match=EveryNode(lambda _: True), exact=Exact.APPROXIMATE)
def replace(op: Op, site: _Site, chosen: Candidate) -> ir.Value:
    """phi(x W1 + b1) W2 -> phi(x W1_K + b1_K) B + x L + l."""
    first, x = site.first, site.first.x
    name = op.root.name or "channel_idle"

    def weight(array: np.ndarray, what: str) -> ir.Value:
        return op.initializer(np.ascontiguousarray(array).astype(first.kind), f"{name}.{what}")

    y: ir.Value | None = None
    if len(chosen.kept):
        h = op.MatMul(x, weight(first.weight[:, chosen.kept], "first"))
        if np.any(first.bias):
            h = op.Add(h, weight(first.bias[chosen.kept], "first_bias"))
        y = op.MatMul(_activate(op, site, h), weight(chosen.active, "second"))
    if chosen.linear is not None:
        line = op.MatMul(x, weight(chosen.linear, "linear"))
        y = line if y is None else op.Add(y, line)
    made: ir.Value = op.Add(y, weight(chosen.bias + site.second.bias, "bias"))
    return made


def _activate(op: Op, site: _Site, hidden: ir.Value) -> ir.Value:
    """The activation's nodes again, on other channels."""
    made: dict[ir.Value | None, ir.Value | None] = {site.hidden: hidden}
    for node in site.activation:
        inputs = [made.get(value, value) for value in node.inputs]
        made[node.outputs[0]] = getattr(op, node.op_type)(*inputs, **node.attributes)
    return made[site.phi] or hidden


def run(model: ir.Model, context: Context) -> bool:
    """Treat every feed-forward part of the main graph once, in order.

    Raises:
        OptionError: If there is no calibration data.
        InputError: If there is too little of it.
    """
    calibration = context.calibration("channel-idle")
    if calibration.samples < SAMPLES:
        raise InputError(
            f"channel-idle expects at least {SAMPLES} calibration samples, got "
            f"{calibration.samples}; with fewer the fit does more harm than good: give more"
        )
    if not context.is_first("channel-idle"):
        return False  # what it made is a feed-forward part too
    notes: list[str] = context.facts.setdefault(NOTES, [])
    changed = False
    for root in list(model.graph):
        site = None if root.graph is None or context.limits.is_out_of_fuel else _read(root)
        if site is None:
            continue
        where = f"channel-idle, {describe(root)}"
        found = (
            f"unchanged: {site}"
            if isinstance(site, str)
            else _choose(site, model, calibration, context.options)
        )
        if isinstance(found, Candidate) and isinstance(site, _Site):
            told = _tell(found, site)
            changed |= context.driver.rewrite(replace, root, site, found)
            context.driver.resume()
            found = told
        notes.append(f"{where}: {found}")
    return changed


def _tell(chosen: Candidate, site: _Site) -> str:
    return (
        f"{chosen.method}, ratio {chosen.ratio:.4g}, {len(chosen.kept)} of "
        f"{site.first.weight.shape[1]} channels active, output error {chosen.error:.3g} (held "
        f"out), {chosen.before:,} -> {chosen.multiplies:,} multiplies a row"
    )


def _choose(
    site: _Site, model: ir.Model, calibration: Calibration, options: Options
) -> Candidate | str:
    """What to put in the part's place, or why nothing."""
    width = (shape(site.first.x) or (None,))[-1]
    if not isinstance(width, int):
        return "unchanged: its number of channels is known only at run time"
    fitting, held_out = observe_moments(calibration, model, (site.first.x, site.phi))
    fit = Fit(site.first.weight, site.second.weight, fitting, held_out)
    if fitting.count <= sum(fit.sizes[:2]):
        return f"unchanged: {fitting.count} rows cannot determine {sum(fit.sizes[:2])} weights"
    if not np.isfinite(fitting.covariance).all() or not np.isfinite(held_out.covariance).all():
        return "unchanged: its activations are not finite on the calibration data"
    methods = METHODS if options.method == "auto" else (options.method,)
    if options.ratio is not None:
        if options.ratio <= fit.break_even:
            return (
                f"unchanged: a ratio of {options.ratio:g} saves nothing, since the linear path "
                f"costs as much as {fit.break_even:.1%} of the channels"
            )
        return fit.best(methods, options.ratio, correct=options.correct)
    closest = None
    for step in range(_STEPS - 1, 0, -1):
        if step / _STEPS <= fit.break_even:
            break
        closest = fit.best(methods, step / _STEPS, correct=options.correct)
        if closest.error <= options.max_error:
            return closest
    if closest is None:
        return f"unchanged: the linear path costs as much as {fit.break_even:.1%} of the channels"
    return (
        f"unchanged: the smallest ratio that saves anything, {closest.ratio:.4g}, has an output "
        f"error of {closest.error:.3g}, above {options.max_error:g}"
    )
