"""Branch consolidation: a region of affine nodes becomes the cheapest sum of affine maps.

Algebra     y = sum_i A_i x_i + b, where the x_i are what no affine node makes: any composition,
            sum, concatenation or choice of channels of affine maps is such a sum. RepVGG,
            MobileOne, ACNet and DBB blocks, LoRA, LayerScale, residual identities, idle channels
            and the parallel branches of the depth paper are all of this kind
Source      RepVGG (2101.03697) to MobileOne (2206.04040); RePaViT (2505.21847); Rethinking ViT
            Depth via Structural Reparameterization (2511.19718)
Exactness   reassociated: constants are merged in float64 and rounded once; a convolution that pads
            zeros takes a constant shift only where the border stays exact
Cost        never more operations, elements of constants and nodes together; a region that would
            cost more stays, and the reason gives both figures
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir import Exact, Op, attribute, rank, require, rule
from addax.ir.affine import Convolution, Diagonal, Tensor, build, reshaped
from addax.ir.query import const, constant, known_shape, producing
from addax.ir.rule import EveryNode
from addax.passes._family import Context, Phase
from addax.passes._forms import Form, Forms, node_cost
from addax.passes._scopes import open_scopes

PHASE = Phase.FOLD
AFTER = ("fold-affine",)


@dataclass
class _Plan:
    """Which values of a graph get which forms, and what has taken their places so far.

    `made` belongs to all plans of a graph: a region reads what another has replaced.
    """

    forms: Forms
    chosen: dict[ir.Value, Form]
    made: dict[ir.Value, ir.Value]
    pending: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def current(self, op: Op, source: ir.Value) -> ir.Value:
        """What stands for a source now."""
        if source in self.forms.norms and source not in self.made:
            if source not in self.pending:
                self.pending[source] = _pure_norm(op, self.forms.norms[source].node)
            return self.pending[source]
        while source in self.made:
            source = self.made[source]
        return source

    def settle(self, *, done: bool) -> None:
        """Keep what a rewrite made, or forget it: a declined one leaves nothing behind."""
        if done:
            self.made |= self.pending
        self.pending.clear()


def _pure_norm(op: Op, node: ir.Node) -> ir.Value:
    """The layer normalization of a node, without its scale and bias."""
    made: ir.Value = op.LayerNormalization(
        node.inputs[0],
        op.initializer(np.ones_like(constant(node.inputs[1])), "ones"),
        axis=-1,
        epsilon=attribute(node, "epsilon", 1e-5),
        stash_type=attribute(node, "stash_type", 1),
    )
    return made


@rule("branch-consolidation/region", match=EveryNode(lambda _: False), exact=Exact.REASSOCIATED)
def consolidate(op: Op, plan: _Plan) -> tuple[ir.Value, ...]:
    """A region of affine nodes -> sum_i A_i x_i + b."""
    made = []
    for value in op.root.outputs:
        form = plan.chosen.get(value) or plan.forms.of(value)[0]
        made.append(_emitted(op, plan, value, form))
    plan.pending.update(zip(op.root.outputs, made, strict=True))
    return tuple(made)


def _emitted(op: Op, plan: _Plan, value: ir.Value, form: Form) -> ir.Value:
    """The nodes of a form: matrices and convolutions first, then the bias, then the rest."""
    full, bias = rank(value) or 0, _flattened(op, form.bias)
    y: Any = None
    order = sorted(form.terms.items(), key=lambda item: isinstance(item[1], Diagonal))
    for source, mapping in order:
        weight = mapping.scale if isinstance(mapping, Diagonal) else mapping.weight
        _require_finite(op, weight, value)
        inside = None
        if isinstance(mapping, Convolution) and bias is not None and bias.size == bias.shape[1]:
            inside, bias = bias, None
            _require_finite(op, inside, value)
        term = build(op, mapping, plan.current(op, source), full, inside)
        y = term if y is None else op.Add(y, term)
        if bias is not None and not isinstance(mapping, Diagonal | Convolution):
            y, bias = _shifted(op, y, bias, value), None
    return y if bias is None else _shifted(op, y, bias, value)


def _flattened(op: Op, bias: Tensor | None) -> Tensor | None:
    """A map that is one number a channel but for rounding, as that: borders were compensated."""
    if bias is None or len(bias.shape) < 3 or bias.shape[0] != 1:
        return bias
    array = op.exact(bias.build(op))
    axes = tuple(range(2, array.ndim))
    spread = np.max(array, axis=axes) - np.min(array, axis=axes)
    if np.max(spread) > _SAME * np.max(np.abs(array)):
        return bias
    count = len(axes)
    return Tensor(
        (1, bias.shape[1], *[1] * count),
        lambda op: op.Slice(bias.build(op), [0] * count, [1] * count, list(axes)),
    )


_SAME = 2e-6  # of the largest element: what float32 constants leave where borders cancel


def _shifted(op: Op, y: ir.Value, bias: Tensor, value: ir.Value) -> ir.Value:
    _require_finite(op, bias, value)
    dims = list(bias.shape)
    while len(dims) > 1 and dims[0] == 1:
        dims = dims[1:]
    made: ir.Value = op.Add(y, reshaped(bias, dims).build(op))
    return made


def _require_finite(op: Op, weight: Tensor | None, value: ir.Value) -> None:
    if weight is not None:
        array = constant(weight.build(op))
        require(
            array is not None and bool(np.isfinite(array).all()),
            "merged weights are not finite",
            value,
        )


@rule(
    "branch-consolidation/norm-between-transposes",
    match=lambda op, x: op.Transpose(op.BatchNormalization(op.Transpose(x), ...)),
    exact=Exact.REASSOCIATED,
)
def norm_between_transposes(op: Op, x: ir.Value) -> ir.Value:
    """Transpose(BatchNormalization(Transpose(x))) -> x scale + shift, on the axis it was about."""
    norm = producing(op.root.inputs[0])
    inner = attribute(producing(norm.inputs[0]), "perm")
    outer = attribute(op.root, "perm")
    require(inner is not None and outer is not None, "a permutation is not given", x)
    back = [inner[i] for i in outer]
    require(back == sorted(back), "the transposes do not undo each other", x)
    return _scaled_along(op, x, norm, len(inner) - 1 - inner[1])


def _scaled_along(op: Op, x: ir.Value, norm: ir.Node, behind: int) -> ir.Value:
    """x scale + shift by the constants of a batch normalization in inference.

    `behind` counts the axes behind the one that they are along.
    """
    require(not attribute(norm, "training_mode", 0), "the normalization is in training", x)
    gamma, beta, mean, variance = norm.inputs[1:5]
    epsilon = attribute(norm, "epsilon", 1e-5)
    positive = const(variance, "variance").astype(np.float64) + epsilon > 0
    require(bool(positive.all()), "variance + epsilon is not positive", variance)
    for operand in (gamma, beta, mean):
        const(operand, "parameter of the normalization")
    scale = op.Div(gamma, op.Sqrt(op.Add(variance, float(epsilon))))
    shift = op.Sub(beta, op.Mul(mean, scale))
    tail = [1] * behind
    return op.Add(op.Mul(x, op.Reshape(scale, [-1, *tail])), op.Reshape(shift, [-1, *tail]))


@rule(
    "branch-consolidation/norm-of-rows",
    match=lambda op, x, dims: op.BatchNormalization(op.Reshape(x, dims), ...),
    exact=Exact.REASSOCIATED,
)
def norm_of_rows(op: Op, x: ir.Value, dims: ir.Value) -> ir.Value:
    """BatchNormalization(Reshape(x, [-1, D])) -> Reshape(x scale + shift), on the last axis."""
    flat, full = known_shape(op.root.inputs[0]), known_shape(x)
    require(len(flat) == 2 and len(full) > 2, "rows are not made of tokens", x)
    require(flat[1] == full[-1], "channels are not the last axis", x)
    return op.Reshape(_scaled_along(op, x, op.root, 0), dims)


RULES = (norm_between_transposes, norm_of_rows)


def run(model: ir.Model, context: Context) -> bool:
    """Find the regions that get cheaper, and consolidate them."""
    changed = False
    for scope in list(open_scopes(model)):
        graph = scope.graph if isinstance(scope, ir.Function) else scope
        for plan in list(_plans(graph, context)):
            changed |= _carry_out(plan, context)
    return changed


def _carry_out(plan: _Plan, context: Context) -> bool:
    """Rewrite each node that makes a chosen value, in the order of the graph: all or none.

    What pays is the plan as a whole; half of one would be begun again and again.
    """
    first, *rest = dict.fromkeys(producing(value) for value in plan.chosen)
    changed = False
    for node in _unbuildable(plan, rest, context) or [first, *rest]:
        done = context.driver.rewrite(consolidate, node, plan)
        plan.settle(done=done)
        if not done:
            break
        changed = True
    return changed


def _unbuildable(plan: _Plan, nodes: list[ir.Node], context: Context) -> list[ir.Node]:
    """The first node whose form cannot be built, whose decline speaks for the plan."""
    for node in nodes:
        fits = context.driver.would_apply(consolidate, node, plan)
        plan.settle(done=False)
        if not fits:
            return [node]
    return []


def _plans(graph: ir.Graph, context: Context) -> Iterator[_Plan]:
    """A plan for each region of the graph that pays."""
    forms, made = Forms(graph), dict[ir.Value, ir.Value]()
    order = {node: place for place, node in enumerate(graph)}
    exits = [
        value
        for node in graph
        for value in node.outputs
        if forms.meaning(value) is not None and forms.is_exit(value)
    ]
    for region in _regions(forms, exits):
        chosen = _chosen(forms, region)
        kept = _paying(forms, region, chosen)
        for value in chosen.keys() - kept.keys():
            _tell(context, value, forms, chosen[value], region)
        if kept:
            ordered = sorted(kept, key=lambda v: order[producing(v)])
            yield _Plan(forms, {value: kept[value] for value in ordered}, made)


def _tell(
    context: Context, value: ir.Value, forms: Forms, form: Form, region: list[ir.Value]
) -> None:
    """Count a decline, with the figures."""
    before = _total(forms, region, {})
    after = _total(forms, region, {value: form})
    reason = f"consolidated it would cost {after:,.0f} and not {before:,.0f}"
    node = producing(value)
    context.statistics.of(consolidate).decline(reason, node.name or node.op_type)


def _regions(forms: Forms, exits: list[ir.Value]) -> Iterator[list[ir.Value]]:
    """Exits that share values which nobody outside reads: their costs belong together."""
    owner: dict[ir.Value, int] = {}
    groups: dict[int, list[ir.Value]] = {}
    for number, value in enumerate(exits):
        groups[number] = [value]
        for inner in _inside(forms, value):
            other = owner.get(inner)
            if other is None:
                owner[inner] = number
            elif other != number:
                moved = groups.pop(other)
                groups[number] += moved
                for key, place in owner.items():
                    if place == other:
                        owner[key] = number
    yield from groups.values()


def _inside(forms: Forms, value: ir.Value) -> Iterator[ir.Value]:
    """The affine values that an exit is made of, up to other exits."""
    waiting, seen = forms.sources(value), set()
    while waiting:
        inner = waiting.pop()
        if inner in seen or forms.meaning(inner) is None or forms.is_exit(inner):
            continue
        seen.add(inner)
        yield inner
        waiting += forms.sources(inner)


def _chosen(forms: Forms, region: list[ir.Value]) -> dict[ir.Value, Form]:
    """The cheapest form of each exit that changes anything, and of each source kept for them."""
    chosen: dict[ir.Value, Form] = {}
    waiting = list(region)
    while waiting:
        value = waiting.pop()
        found = forms.of(value)
        if not found or value in chosen:
            continue
        best = found[0]
        changes = best.merged or any(source in forms.norms for source in best.terms)
        if changes and all(forms.of(output) for output in producing(value).outputs):
            chosen[value] = best
        waiting += [source for source in best.terms if not forms.is_exit(source)]
    return chosen


def _paying(
    forms: Forms, region: list[ir.Value], chosen: dict[ir.Value, Form]
) -> dict[ir.Value, Form]:
    """Those of the chosen forms without which the region would cost more."""
    kept = dict(chosen)
    total = _total(forms, region, kept)
    for value in chosen:
        without = {v: form for v, form in kept.items() if v is not value}
        other = _total(forms, region, without)
        if other <= total:
            kept, total = without, other
    return kept if total < _total(forms, region, {}) else {}


def _total(forms: Forms, region: list[ir.Value], chosen: dict[ir.Value, Form]) -> float:
    """What a region costs if these values get these forms and all others stay."""
    total, seen, counted = 0.0, set(), set()
    waiting = list(region)
    while waiting:
        value = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in forms.norms:
            total += node_cost(forms.norms[value].node)
        elif (form := chosen.get(value)) is not None:
            total += forms.operations(value, form)
            waiting += form.terms
        elif forms.meaning(value) is not None and (value in region or not forms.is_exit(value)):
            node = producing(value)
            total += 0.0 if node in counted else node_cost(node)
            counted.add(node)
            waiting += forms.sources(value)
    return total
