"""Route experts: of a mixture that computes both experts for every token, each token's own is left.

Algebra     where(e[t] = 0, f(x[t]), g(x[t])): f(x[t]) is not needed where e[t] = 1, nor g(x[t])
            where it is 0, if row t of f and g depends on no other row
Source      ShiftAddViT (2306.06446), section 4.3; `RoutedMoE`
Exactness   the activations of the Shift expert are rounded to int8 with a scale for each token, by
            kernels or here, so it runs only where asked: `allow=("route-experts",)`
Cost        with half of the tokens for each expert, half of the multiplies; but the rows are taken
            apart and put together again. In ONNX Runtime's standard operators that costs as much as
            40 multiplies for each number of a token's input and output, whatever the size (measured
            on six shapes from 32 x 32 to 384 x 1536: 34 to 75), in the kernel less than 2. It fires
            where it saves more than that; `route-experts{dispatch=...}` sets the figure

Where ONNX Runtime runs the model and has no kernel, tokens are taken apart once and each expert is
computed as a whole (`_permuted_experts`); in rounding them as well, a number of a layer's input or
output costs a third of one that is moved. Other targets without a kernel compute both.

The experts must be the same but for the weights of their linear layers, of which one's are powers
of two, times a number for each output. Both may have anything between them that computes each token
alone. Runs before scales are folded into weights, which would hide the powers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.errors import OptionError
from addax.ir import Exact, Op, decline, known_shape, producer, require, rule, scalar, shape
from addax.ir.dialect import DOMAIN
from addax.ir.layer_nodes import constant_values
from addax.ir.numbers import pack_integers
from addax.ir.query import constant_tensor
from addax.ir.rule import EveryNode
from addax.ir.statistics import HAS_KERNEL, IN_RUNTIME
from addax.passes._expert_pairs import Pair, Pairing, Plan
from addax.passes._family import Context, Phase, is_number
from addax.passes._linear_layers import Linear
from addax.passes._permuted_experts import RUNTIME, Codes, Permuted, is_permutable, stored
from addax.passes._shift.powers import encode_integers

PHASE = Phase.CANONICAL
BY_NAME = True
NEEDS_CALIBRATION = False

_OPERATOR = "RoutedMoE"
_BY_OPERATORS, _BY_KERNEL = 40.0, 2.0  # multiplies that cost as much as to move a number
_ROUNDED = 3  # numbers that are rounded for the price of one that is moved


@dataclass(frozen=True)
class Options:
    """What routing costs.

    dispatch: How many multiplies cost as much as to move one number of a token to its expert, or
        one of the result back; None for 2 where the target has a kernel, and 40 where it has not.
    """

    dispatch: float | None = None

    def __post_init__(self) -> None:
        if self.dispatch is not None and not (is_number(self.dispatch) and self.dispatch >= 0):
            raise OptionError(
                "route-experts: dispatch must be a number of multiplies, 0 or more, or None; got "
                f"{self.dispatch!r}"
            )


@dataclass(frozen=True, eq=False)
class _Site:
    """A choice: `first` where `is_first` holds, or where `expert` is 0; else `second`."""

    first: ir.Value
    second: ir.Value
    is_first: ir.Value | None = None
    expert: ir.Value | None = None

    @property
    def choice(self) -> ir.Value | None:
        """What says which of the two."""
        return self.expert if self.is_first is None else self.is_first


@dataclass(frozen=True, eq=False)
class _Mixture:
    """Two experts as read: their plan, its layers, and the integers of the Shift expert."""

    plan: Plan
    pairs: list[Pair]
    turned: bool  # whether the Shift expert comes first
    codes: Mapping[Pair, Codes]


@rule("route-experts/route", match=EveryNode(lambda _: False), exact=Exact.REASSOCIATED)
def route(op: Op, site: _Site, dispatch: float) -> ir.Value:
    """where(expert = 0, f(x W0 + b0), f(x W1 + b1)) -> f(RoutedMoE(x, expert, both))."""
    mixture = _mixture(op, site)
    moved = sum(dispatch * sum(pair.experts[0].size) for pair in mixture.pairs)
    _require_saving(site, mixture, moved)
    expert = _expert(op, site, mixture.turned)
    _require_tokens(site, mixture, known_shape(expert))
    return _Routing(op, expert, mixture).build(mixture.plan)


@rule("route-experts/permute", match=EveryNode(lambda _: False), exact=Exact.APPROXIMATE)
def permute(op: Op, site: _Site, dispatch: float) -> ir.Value:
    """where(expert = 0, f(x), g(x)) -> (f(rows of expert 0), g(the others)), in the order of x."""
    mixture = _mixture(op, site)
    mask = _mask(op, site, mixture.turned)
    dims = known_shape(mask)
    _require_tokens(site, mixture, dims)
    require(
        is_permutable(mixture.plan, dims),
        "an expert has something that depends on the shape of the tokens, or is not in float32",
        site.first,
    )
    touched = sum(sum(pair.experts[0].size) for pair in mixture.pairs)
    outputs = known_shape(op.root.outputs[0])[-1]
    require(isinstance(outputs, int), "the width of a token is known only at run time", site.first)
    ends = mixture.pairs[0].experts[0].size[0] + int(outputs)
    _require_saving(site, mixture, dispatch * (ends + touched / _ROUNDED))
    return Permuted(op, mask, mixture.turned, mixture.codes).build(mixture.plan, int(outputs))


def _mixture(op: Op, site: _Site) -> _Mixture:
    pairing = Pairing(site.choice)
    plan = pairing.read(site.first, site.second)
    pairs = list(pairing.pairs())
    require(pairs, "the experts have no linear layer", site.first)
    inside = [v for pair in pairs for one in pair.experts for n in one.nodes for v in n.outputs]
    readers = {op.root, *pairing.nodes}
    require(
        not any(v.is_graph_output() or not readers.issuperset(v.consumers()) for v in inside),
        "something else reads what an expert computes", *inside,
    )  # fmt: skip
    turned, codes = _shifts(pairs)
    return _Mixture(plan, pairs, turned, codes)


def _require_saving(site: _Site, mixture: _Mixture, moved: float) -> None:
    saved = sum(int(np.prod(pair.experts[0].size)) for pair in mixture.pairs)
    require(
        moved < saved,
        f"to route a token would cost as much as {moved:,.0f} multiplies and save {saved:,}",
        site.first,
    )


def _require_tokens(site: _Site, mixture: _Mixture, dims: tuple[int | str, ...]) -> None:
    for pair in mixture.pairs:
        rows = known_shape(pair.experts[0].x)[:-1], known_shape(pair.experts[1].x)[:-1]
        require(rows == (dims, dims), "there is not one choice for each token", site.first)


def _shifts(pairs: list[Pair]) -> tuple[bool, Mapping[Pair, Codes]]:
    """Whether the Shift expert is the first one, and its integers and scales in each layer."""
    found = ((turned, _codes(pairs, turned)) for turned in (False, True))
    known = next(((turned, codes) for turned, codes in found if codes is not None), None)
    if known is None:
        decline(
            "neither expert has weights that are powers of two, up to seven of them in an output, "
            "times a number for each output"
        )
    return known


def _codes(pairs: list[Pair], turned: bool) -> Mapping[Pair, Codes] | None:
    found: dict[Pair, Codes] = {}
    for pair in pairs:
        layer = pair.experts[0 if turned else 1]
        codes = encode_integers(layer.weight.T)
        if codes is None or not np.array_equal(codes[1].astype(layer.kind), codes[1]):
            return None
        found[pair] = codes
    return found


def _expert(op: Op, site: _Site, turned: bool) -> ir.Value:
    """int32: 0 for the tokens of the expert that multiplies, something else for the others."""
    if site.is_first is None:
        require(not turned, "the expert of powers of two comes first", site.first)
        return site.expert  # type: ignore[return-value]  # one of the two is there
    chosen: ir.Value | None = site.is_first
    made = producer(chosen, "Unsqueeze")
    full = len(known_shape(chosen))
    axis = None if made is None else scalar(made.inputs[1])
    if made is not None and axis is not None and int(axis) % full == full - 1:
        chosen = made.inputs[0]
        same = producer(chosen, "Equal")
        if same is not None and scalar(same.inputs[1]) == 0 and not turned:
            return _as_int32(op, same.inputs[0])
    else:
        chosen = op.Squeeze(chosen, [-1])
    return _as_int32(op, chosen if turned else op.Not(chosen))


def _mask(op: Op, site: _Site, turned: bool) -> ir.Value:
    """Whether each token goes to the expert that multiplies."""
    if site.is_first is None:
        require(not turned, "the expert of powers of two comes first", site.first)
        made: ir.Value = op.Equal(site.expert, np.zeros((), np.int32))
        return made
    added = producer(site.is_first, "Unsqueeze")
    full = len(known_shape(site.is_first))
    axis = None if added is None else scalar(added.inputs[1])
    if added is not None and axis is not None and int(axis) % full == full - 1:
        chosen = added.inputs[0]
    else:
        chosen = op.Squeeze(site.is_first, [-1])
    return op.Not(chosen) if turned else chosen  # type: ignore[return-value]  # a node's output


def _as_int32(op: Op, value: ir.Value | None) -> ir.Value:
    if value is not None and value.dtype == ir.DataType.INT32:
        return value
    made: ir.Value = op.Cast(value, to=ir.DataType.INT32.value)
    return made


class _Routing:
    """Builds a plan's nodes, each once."""

    def __init__(self, op: Op, expert: ir.Value, mixture: _Mixture) -> None:
        self._op, self._expert = op, expert
        self._turned, self._codes = mixture.turned, mixture.codes
        self._made: dict[Plan, ir.Value] = {}

    def build(self, plan: Plan) -> ir.Value:
        """The value that a plan describes."""
        if isinstance(plan, ir.Value):
            return plan
        if plan not in self._made:
            if isinstance(plan, Pair):
                self._made[plan] = self._layer(plan)
            else:
                inputs = [None if each is None else self.build(each) for each in plan.inputs]
                operator = getattr(self._op, plan.node.op_type)
                self._made[plan] = operator(*inputs, **dict(plan.node.attributes))
        return self._made[plan]

    def _layer(self, pair: Pair) -> ir.Value:
        mult, shift = pair.experts[::-1] if self._turned else pair.experts
        integers, scale = self._codes[pair]
        made: ir.Value = self._op.domain(DOMAIN).RoutedMoE(
            self.build(pair.x),
            self._expert,
            stored(self._op, mult),
            self._constant(mult, mult.bias.astype(mult.kind), "bias"),
            self._constant(shift, pack_integers(integers), "weights"),
            self._constant(shift, scale.astype(mult.kind), "scale"),
            self._constant(shift, shift.bias.astype(mult.kind), "bias"),
        )
        return made

    def _constant(self, layer: Linear, array: np.ndarray, what: str) -> ir.Value:
        return self._op.initializer(np.ascontiguousarray(array), f"{layer.site.weight.name}.{what}")


def run(model: ir.Model, context: Context) -> bool:
    """Find choices between two computed values, token by token."""
    changed, has_kernel = False, _has_kernel(context)
    dispatch = context.options.dispatch
    if dispatch is None:
        dispatch = _BY_KERNEL if has_kernel else _BY_OPERATORS
    # Without a kernel, operators are the target's own; where nobody says, our operator is.
    by = permute if has_kernel is False else route
    if by is permute and not context.facts.get(IN_RUNTIME, True):
        return False  # on a GPU both experts on all tokens are faster than tokens taken apart
    # The last choice first: it may take one before it along.
    dead: set[ir.Node] = set()
    for root in reversed(list(model.graph.all_nodes())):
        if root.graph is None or _is_read_by(dead, root):
            dead.add(root)
            continue
        site = None if context.limits.is_out_of_fuel else _read(root)
        if site is not None and context.driver.rewrite(by, root, site, dispatch):
            dead.add(root)
            changed = True
    if changed and by is permute:
        model.opset_imports.setdefault(RUNTIME, 1)
    return changed


def _is_read_by(dead: set[ir.Node], node: ir.Node) -> bool:
    """Whether nobody but nodes that are to be erased reads what a node makes."""
    return all(not v.is_graph_output() and dead.issuperset(v.consumers()) for v in node.outputs)


def _has_kernel(context: Context) -> bool | None:
    """Whether the target has one for a mixture; None if nobody knows the target."""
    serves = context.facts.get(HAS_KERNEL)
    if serves is None:
        return None
    layer = _smallest_layer()
    return bool(serves(layer.node(0)))


def _smallest_layer() -> ir.Graph:
    """A graph of one routed layer, to ask whether there is a kernel for it."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 1]))
    expert = ir.Value(name="expert", type=ir.TensorType(ir.DataType.INT32), shape=ir.Shape([1]))
    row = np.ones(1, np.float32)
    arrays: tuple[np.ndarray, ...] = (
        row[None],
        row,
        pack_integers(np.ones((1, 1), np.int8)),
        row,
        row,
    )
    constants = constant_values(arrays)
    node = ir.Node(DOMAIN, _OPERATOR, [x, expert, *constants])
    return ir.Graph([x, expert], node.outputs, nodes=[node], initializers=constants)


def _read(root: ir.Node) -> _Site | None:
    if root.domain == DOMAIN and root.op_type == "MoeSelect":
        expert, first, second = root.inputs
        chosen = None
    elif root.op_type == "Where" and not root.domain:
        chosen, first, second = root.inputs
        expert = None
        dims = shape(chosen)
        if not dims or len(dims) < 2 or dims[-1] != 1 or constant_tensor(chosen) is not None:
            return None
    else:
        return None
    if first is None or second is None or first.producer() is None or second.producer() is None:
        return None
    return _Site(first, second, chosen, expert)
