"""Route experts: of a mixture that computes both experts for every token, each token's own is left.

Algebra     where(e[t] = 0, f(x[t]), g(x[t])): f(x[t]) is not needed where e[t] = 1, nor g(x[t])
            where it is 0, if row t of f and g depends on no other row
Source      ShiftAddViT (2306.06446), section 4.3; `RoutedMoE`
Exactness   reassociated; kernels round the activations of the Shift expert to int8 with a scale for
            each token, so it runs only where asked: `allow=("route-experts",)`
Cost        with half of the tokens for each expert, half of the multiplies; but the rows are taken
            apart and put together again. In ONNX Runtime's standard operators that costs as much as
            40 multiplies for each number of a token's input and output, whatever the size (measured
            on six shapes from 32 x 32 to 384 x 1536: 34 to 75), in the kernel less than 2. It fires
            where it saves more than that; `route-experts{dispatch=...}` sets the figure

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
from addax.ir.numbers import pack_integers
from addax.ir.query import constant_tensor
from addax.ir.rule import EveryNode
from addax.ir.statistics import HAS_KERNEL
from addax.passes._expert_pairs import Pair, Pairing, Plan
from addax.passes._family import Context, Phase
from addax.passes._linear_layers import Linear
from addax.passes._shift.powers import encode_integers

PHASE = Phase.CANONICAL
BY_NAME = True
NEEDS_CALIBRATION = False

_OPERATOR = "RoutedMoE"
_BY_OPERATORS, _BY_KERNEL = 40.0, 2.0  # multiplies that cost as much as to move a number

Codes = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Options:
    """What routing costs.

    dispatch: How many multiplies cost as much as to move one number of a token to its expert, or
        one of the result back; None for 2 where the target has a kernel, and 40 where it has not.
    """

    dispatch: float | None = None

    def __post_init__(self) -> None:
        is_number = isinstance(self.dispatch, int | float) and not isinstance(self.dispatch, bool)
        if self.dispatch is not None and not (is_number and self.dispatch >= 0):
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


@rule("route-experts/route", match=EveryNode(lambda _: False), exact=Exact.REASSOCIATED)
def route(op: Op, site: _Site, dispatch: float) -> ir.Value:
    """where(expert = 0, f(x W0 + b0), f(x W1 + b1)) -> f(RoutedMoE(x, expert, both))."""
    pairing = Pairing()
    plan = pairing.read(site.first, site.second)
    pairs = list(pairing.pairs())
    require(pairs, "the experts have no linear layer", site.first)
    inside = [v for pair in pairs for one in pair.experts for n in one.nodes for v in n.outputs]
    readers = {op.root, *pairing.nodes}
    require(
        not any(v.is_graph_output() or not readers.issuperset(v.consumers()) for v in inside),
        "something else reads what an expert computes", *inside,
    )  # fmt: skip
    moved = sum(dispatch * sum(pair.experts[0].size) for pair in pairs)
    saved = sum(int(np.prod(pair.experts[0].size)) for pair in pairs)
    require(
        moved < saved,
        f"to route a token would cost as much as {moved:,.0f} multiplies and save {saved:,}",
        site.first,
    )
    turned, codes = _shifts(pairs)
    expert = _expert(op, site, turned)
    dims = known_shape(expert)
    for pair in pairs:
        rows = known_shape(pair.experts[0].x)[:-1], known_shape(pair.experts[1].x)[:-1]
        require(rows == (dims, dims), "there is not one choice for each token", site.first)
    return _Routing(op, expert, turned, codes).build(plan)


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


def _as_int32(op: Op, value: ir.Value | None) -> ir.Value:
    if value is not None and value.dtype == ir.DataType.INT32:
        return value
    made: ir.Value = op.Cast(value, to=ir.DataType.INT32.value)
    return made


class _Routing:
    """Builds a plan's nodes, each once."""

    def __init__(self, op: Op, expert: ir.Value, turned: bool, codes: Mapping[Pair, Codes]) -> None:
        self._op, self._expert, self._turned, self._codes = op, expert, turned, codes
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
            self._stored(mult),
            self._constant(mult, mult.bias.astype(mult.kind), "bias"),
            self._constant(shift, pack_integers(integers), "weights"),
            self._constant(shift, scale.astype(mult.kind), "scale"),
            self._constant(shift, shift.bias.astype(mult.kind), "bias"),
        )
        return made

    def _stored(self, layer: Linear) -> ir.Value:
        """The weights as [K, N]: those that are there, if they are."""
        weight, view = layer.site.weight, layer.site.view
        if not view.is_turned:
            weight = self._op.Transpose(weight, perm=[1, 0])
        return weight if view.factor == 1 else self._op.Mul(weight, view.factor)

    def _constant(self, layer: Linear, array: np.ndarray, what: str) -> ir.Value:
        return self._op.initializer(np.ascontiguousarray(array), f"{layer.site.weight.name}.{what}")


def run(model: ir.Model, context: Context) -> bool:
    """Find choices between two computed values, token by token."""
    changed, dispatch = False, _price(context)
    for root in list(model.graph.all_nodes()):
        site = None if root.graph is None or context.limits.is_out_of_fuel else _read(root)
        if site is None:
            continue
        changed |= context.driver.rewrite(route, root, site, dispatch)
    return changed


def _price(context: Context) -> float:
    """What it costs to move a number, in multiplies, on this target."""
    given: float | None = context.options.dispatch
    if given is not None:
        return given
    serves = context.facts.get(HAS_KERNEL, lambda _: False)
    layer = _smallest_layer()
    return _BY_KERNEL if serves(layer.node(0)) else _BY_OPERATORS


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
    constants = [
        ir.Value(name=f"w{i}", const_value=ir.Tensor(array), shape=ir.Shape(array.shape))
        for i, array in enumerate(arrays)
    ]
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
