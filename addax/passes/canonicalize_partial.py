"""Partial activations: a function of some channels beside the others as they are, in one spelling.

Algebra     where(m, f(h), h), m f(h) + (1 - m) h, prelu(h, s) with slope 1 on some channels
            -> concat(f(h[K]), h[not K]) along the axis of the channels, K a constant subset; with
            constant permutations before and after it where K is neither a first nor a last part
Source      the ONNX operators' definitions; RePaViT (arXiv 2505.21847), whose mask is exported as a
            constant, as a ScatterND of constants, or as a subgraph of the input's sizes
Exactness   bitwise; the products with 0 and 1 over the reals, since 0 * infinity is NaN
Cost        f of the channels of K only, and no mask

What is asked of a mask is what it is: constant along all axes but one. The affine rest, the
permutations among it, is for `branch-consolidation` to merge.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    constant,
    decline,
    known_rank,
    producer,
    require,
    rule,
    same_shape,
    scalar,
    shape,
    single_use,
)
from addax.passes._family import Phase

PHASE = Phase.CANONICAL

_UNARY = (
    "Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
    "Mish", "Neg", "PRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh",
    "ThresholdedRelu",
)  # fmt: skip
_DEPTH = 16  # nodes between a value and what it is made of
_BINARY = ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub")


# --- what varies along one axis -----------------------------------------------------------------


@dataclass(frozen=True)
class _Profile:
    """A tensor that varies along `axis` only, as `values` do; `axis` is None where it is constant.

    Axes count from the end, -1 the last, so that broadcasting moves none.
    """

    axis: int | None
    values: np.ndarray


def _profile(op: Op, value: ir.Value | None, depth: int = _DEPTH) -> _Profile | None:
    """What `value` is along its one axis, from constants and sizes alone; None if not known."""
    array = constant(value)
    if array is not None:
        return _of_array(array)
    node = producer(value, "Expand", "Not", "ScatterND", "Transpose", "Identity")
    if node is None or not depth:
        return None
    if node.op_type == "ScatterND":
        return _scattered(op, node, depth - 1)
    inner = _profile(op, node.inputs[0], depth - 1)
    if inner is None or node.op_type in ("Expand", "Identity"):
        return inner
    if node.op_type == "Not":
        return _Profile(inner.axis, ~inner.values)
    full = known_rank(value)
    perm = attribute(node, "perm") or tuple(range(full))[::-1]
    if inner.axis is None:
        return inner
    return _Profile(list(perm).index(inner.axis + full) - full, inner.values)


def _of_array(array: np.ndarray) -> _Profile | None:
    """The profile of an array, whether it was stored whole or broadcasts."""
    if array.size == 0:
        return None
    first = array[(0,) * array.ndim]
    if np.all(array == first):
        return _Profile(None, np.asarray(first))
    for axis in range(-array.ndim, 0):
        line = array[tuple(slice(None) if a == axis else 0 for a in range(-array.ndim, 0))]
        if np.all(np.moveaxis(array, axis, -1) == line):
            return _Profile(axis, line)
    return None


def _scattered(op: Op, node: ir.Node, depth: int) -> _Profile | None:
    """A ScatterND of whole rows: of all of them, or of constant ones into what had one value."""
    data, indices, updates = node.inputs[:3]
    dims, new = shape(data), _profile(op, updates, depth)
    if not dims or new is None or attribute(node, "reduction", "none") != "none":
        return None
    if _is_every_row(op, indices, dims[0]):
        return new
    old, rows, size = _profile(op, data, depth), constant(indices), dims[0]
    if old is None or rows is None or rows.shape[-1] != 1 or not isinstance(size, int):
        return None
    if new.axis is not None or old.axis not in (None, -len(dims)):
        return None
    values = np.broadcast_to(old.values, (size,)).copy()
    values[rows.reshape(-1)] = new.values
    return _Profile(-len(dims), values)


def _is_every_row(op: Op, indices: ir.Value | None, size: int | str | None) -> bool:
    """Whether `indices` are [[0], [1], ..., [size - 1]]."""
    node = producer(indices, "Unsqueeze")
    count = None if node is None else producer(node.inputs[0], "Range")
    axes = None if node is None or len(node.inputs) < 2 else constant(node.inputs[1])
    if (
        count is None
        or size is None
        or axes is None
        or axes.reshape(-1).tolist() not in ([1], [-1])
    ):
        return False
    start, limit, step = (v and op.contents(v) for v in count.inputs)
    return start == (0,) and limit == (size,) and step == (1,)


# --- the one spelling ---------------------------------------------------------------------------


def _partial(
    op: Op, h: ir.Value, axis: int, chosen: np.ndarray, act: Callable[[ir.Value], ir.Value]
) -> ir.Value:
    """`act` of the chosen channels beside the others."""
    axis += known_rank(h)
    size, inside = len(chosen), np.flatnonzero(chosen)
    if len(inside) == size:
        return act(h)
    if len(inside) == 0:
        return h
    outside = np.flatnonzero(~chosen)
    if inside[-1] + 1 == len(inside) or inside[0] == size - len(inside):
        border = len(inside) if inside[0] == 0 else len(outside)
        parts = [op.Slice(h, [0], [border], [axis]), op.Slice(h, [border], [size], [axis])]
        place = 0 if inside[0] == 0 else 1
        parts[place] = act(parts[place])
        joined: ir.Value = op.Concat(*parts, axis=axis)
        return joined
    order = np.concatenate([inside, outside])
    taken, rest = op.Split(
        op.Gather(h, order, axis=axis), [len(inside), len(outside)], axis=axis, _outputs=2
    )
    turned = op.Concat(act(taken), rest, axis=axis)
    back: ir.Value = op.Gather(turned, np.argsort(order), axis=axis)
    return back


def _activation(op: Op, whole: ir.Value, h: ir.Value) -> Callable[[ir.Value], ir.Value] | None:
    """What makes `whole` of `h` number by number, to be applied to a part of it."""
    nodes: dict[ir.Node, None] = {}
    if whole is h or not _trace(whole, h, nodes):
        return None
    inside = [v for node in nodes for v in node.outputs if v is not whole]
    is_own = all(not v.is_graph_output() and nodes.keys() >= {*v.consumers()} for v in inside)
    if not (is_own and single_use(whole)):
        decline("the activation of all channels is read elsewhere too", whole)

    def act(part: ir.Value) -> ir.Value:
        made: dict[ir.Value | None, ir.Value | None] = {h: part}
        for node in nodes:
            inputs = [made.get(value, value) for value in node.inputs]
            made[node.outputs[0]] = getattr(op, node.op_type)(*inputs, **node.attributes)
        return made[whole] or part

    return act


def _trace(
    value: ir.Value | None, h: ir.Value, nodes: dict[ir.Node, None], depth: int = _DEPTH
) -> bool:
    """Collect what computes `value` number by number from `h` alone; False if more does."""
    if value is None or value is h or scalar(value) is not None:
        return True
    node = producer(value, *_UNARY, *_BINARY)
    if node in nodes:
        return True
    if node is None or not depth or not all(_trace(v, h, nodes, depth - 1) for v in node.inputs):
        return False
    nodes[node] = None
    return True


def _apart(op: Op, axis: int, chosen: np.ndarray, a: ir.Value, b: ir.Value) -> ir.Value:
    """The value that is `a` on the chosen channels and `b` on the others; one is f of the other."""
    act, h = _activation(op, a, b), b
    if act is None:
        act, h, chosen = _activation(op, b, a), a, ~chosen
    if act is None:
        decline("neither value is a function of the other, number by number", a, b)
    _is_like(op, h)
    return _partial(op, h, axis, chosen, act)


def _is_like(op: Op, h: ir.Value) -> None:
    require(same_shape(h, op.root.outputs[0]), "the mask enlarges the value", h)


def _where(op: Op, mask: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    return op.Where(mask, a, b)


@rule("canonicalize-partial/where", match=_where, exact=Exact.BITWISE)
def masked(op: Op, mask: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """Where(m, f(h), h), where(m, h, f(h)) -> concat(f(h[K]), h[not K])."""
    profile = _profile(op, mask)
    if profile is None or profile.axis is None:
        decline("the mask depends on data, or varies along several axes or none", mask)
    return _apart(op, profile.axis, profile.values, a, b)


def _blend(op: Op, a: ir.Value, m: ir.Value, b: ir.Value, n: ir.Value) -> ir.Value:
    return op.Add(op.Mul(a, m), op.Mul(b, n))


@rule("canonicalize-partial/blend", match=_blend, exact=Exact.REASSOCIATED)
def blend(op: Op, a: ir.Value, m: ir.Value, b: ir.Value, n: ir.Value) -> ir.Value:
    """m f(h) + (1 - m) h -> concat(f(h[K]), h[not K]) for m of zeros and ones."""
    ours, theirs = _of_constant(m), _of_constant(n)
    is_choice = (
        ours is not None
        and theirs is not None
        and ours.axis is not None
        and ours.axis == theirs.axis
        and np.isin(ours.values, (0, 1)).all()
        and np.array_equal(ours.values + theirs.values, np.ones(len(ours.values)))
    )
    if not is_choice or ours is None or ours.axis is None:
        decline("the factors are not zeros and ones that choose channels", m, n)
    return _apart(op, ours.axis, ours.values == 1, a, b)


def _of_constant(value: ir.Value) -> _Profile | None:
    array = constant(value)
    return None if array is None else _of_array(array)


def _prelu(op: Op, x: ir.Value, slope: ir.Value) -> ir.Value:
    return op.PRelu(x, slope)


@rule("canonicalize-partial/prelu", match=_prelu, exact=Exact.BITWISE)
def prelu(op: Op, x: ir.Value, slope: ir.Value) -> ir.Value:
    """PRelu(x, s) -> concat(PRelu(x[K], s[K]), x[not K]) where s is 1 outside K."""
    profile = _of_constant(slope)
    if profile is None or profile.axis is None:
        decline("the slopes are not constants along one axis", slope)
    chosen = profile.values != 1
    require(not chosen.all(), "no slope is 1", slope)
    _is_like(op, x)
    slopes = profile.values[chosen].reshape((-1,) + (1,) * (-profile.axis - 1))
    return _partial(
        op, x, profile.axis, chosen, lambda part: op.PRelu(part, op.initializer(slopes, "slope"))
    )


RULES = (masked, blend, prelu)
