"""Where a graph attends on bits: u / max(|u|, e) + f * v with u = a v + c qb (kb^T v)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.ir import Op, attribute, constant, known_shape, producer, scalar, shape, single_use
from addax.ir.query import is_float, rank, static_shape


@dataclass(frozen=True, eq=False)
class Bits:
    """1[x > 0] where x is a transposed `source`; or all that a transpose can do, in `perms`."""

    source: ir.Value
    perms: tuple[tuple[int, ...], ...]

    def dims(self) -> tuple[int | str, ...]:
        """The shape of the bits."""
        dims = known_shape(self.source)
        for perm in self.perms:
            dims = tuple(dims[axis] for axis in perm)
        return dims

    def moved(self, op: Op) -> ir.Value:
        """What is above 0 where a bit is 1, in the shape of the bits."""
        value = self.source
        for perm in self.perms:
            value = op.Transpose(value, perm=list(perm))
        return value


@dataclass(frozen=True, eq=False)
class Site:
    """Attention whose result is `root`'s; queries' bits [B, H, N, M], keys' [B, H, M, N]."""

    root: ir.Node
    queries: Bits
    keys: Bits
    v: ir.Value
    filters: ir.Value | None
    value_weight: float
    sum_weight: float
    epsilon: float


def read(root: ir.Node) -> Site | None:
    """The attention that ends at `root`, with its filter if it has one."""
    if root.domain:
        return None
    if root.op_type == "Div":
        found = _normalized(root, None)
        return None if found is None or _is_filtered(found) else found
    if root.op_type != "Add":
        return None
    for value, added in (root.inputs, root.inputs[::-1]):
        quotient, conv = producer(value, "Div"), producer(added, "Conv")
        if quotient is None or conv is None or not single_use(quotient.outputs[0]):
            continue
        found = _normalized(quotient, conv)
        if found is not None:
            return found
    return None


def _is_filtered(found: Site) -> bool:
    """Whether what reads the result adds a filter, so that both are read as one."""
    readers = found.root.outputs[0].consumers()
    return len(readers) == 1 and readers[0].op_type == "Add" and read(readers[0]) is not None


def _normalized(quotient: ir.Node, conv: ir.Node | None) -> Site | None:
    u, size = quotient.inputs
    guarded = _guarded(size, u)
    if u is None or guarded is None or u.is_graph_output():
        return None
    norm, epsilon = guarded
    if not {quotient, norm}.issuperset(u.consumers()):
        return None
    summed = producer(u, "Add")
    if summed is None:
        return None
    for one, other in (summed.inputs, summed.inputs[::-1]):
        v, value_weight = _unscaled(one)
        found = None if v is None else _product(other, v)
        if v is None or found is None:
            continue
        queries, keys, sum_weight = found
        filters = None if conv is None else _filters(conv, v)
        if conv is not None and filters is None:
            return None
        root = quotient if conv is None else conv.outputs[0].consumers()[0]
        return Site(root, queries, keys, v, filters, value_weight, sum_weight, epsilon)
    return None


def _guarded(size: ir.Value | None, u: ir.Value | None) -> tuple[ir.Node, float] | None:
    """The norm of u's rows and what it is held above, if that is what `size` is."""
    node = producer(size, "Clip", "Max")
    if node is None or len(node.inputs) != 2:
        return None
    for value, least in (node.inputs, node.inputs[::-1]):
        norm, epsilon = producer(value, "ReduceL2"), scalar(least)
        if norm is None or epsilon is None or norm.inputs[0] is not u or not epsilon > 0:
            continue
        axes = constant(norm.inputs[1]) if len(norm.inputs) > 1 else None
        full = rank(u)
        is_last = full and axes is not None and [axis % full for axis in axes] == [full - 1]
        if is_last and attribute(norm, "keepdims", 1):
            return norm, float(epsilon)
    return None


def _product(value: ir.Value | None, v: ir.Value) -> tuple[Bits, Bits, float] | None:
    """The bits of queries and keys, and the factor, of c qb (kb^T v)."""
    core, weight = _unscaled(value)
    outer = producer(core, "MatMul")
    if outer is None or core is None or not single_use(core):
        return None
    left, of_queries = _unscaled(outer.inputs[0])
    right, of_sums = _unscaled(outer.inputs[1])
    inner = producer(right, "MatMul")
    if inner is None or right is None or not single_use(right):
        return None
    codes, of_keys = _unscaled(inner.inputs[0])
    seen, of_values = _unscaled(inner.inputs[1])
    queries, keys = _bits(left), _bits(codes)
    if queries is None or keys is None or seen is not v:
        return None
    return queries, keys, weight * of_queries * of_sums * of_keys * of_values


def _unscaled(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """What `value` is a constant number times, and the number."""
    factor = 1.0
    node = producer(value, "Mul")
    while node is not None:
        number = scalar(node.inputs[1])
        if number is None or not is_float(node.inputs[1]) or rank(node.inputs[1]):
            break
        factor *= float(number)
        value = node.inputs[0]
        node = producer(value, "Mul")
    return value, factor


def _bits(value: ir.Value | None) -> Bits | None:
    """What `value` holds the signs of, 1 where it is above 0 and else 0."""
    perms: list[tuple[int, ...]] = []
    is_compared = False
    for node in _makers(value):
        if node.op_type == "Transpose":
            full = rank(node.inputs[0]) or 0
            perms.insert(0, tuple(attribute(node, "perm", range(full)[::-1])))
        elif node.op_type == "Greater":
            is_compared = scalar(node.inputs[1]) == 0
            value = node.inputs[0]
            break
        elif node.op_type == "Where" and not _is_choice(node):
            return None
    return Bits(value, tuple(perms)) if is_compared and value is not None else None


def _makers(value: ir.Value | None) -> Iterator[ir.Node]:
    node = producer(value, "Cast", "Greater", "Transpose", "Where")
    while node is not None:
        yield node
        node = producer(node.inputs[0], "Cast", "Greater", "Transpose", "Where")


def _is_choice(node: ir.Node) -> bool:
    """Whether a Where makes 1 of what holds, and 0 of what does not."""
    return bool(scalar(node.inputs[1]) == 1 and scalar(node.inputs[2]) == 0)


def _filters(conv: ir.Node, v: ir.Value) -> ir.Value | None:
    """The filters along the tokens, [heads, 1, taps, 1]; None if the convolution is another one."""
    if conv.inputs[0] is not v or not single_use(conv.outputs[0]):
        return None
    filters = conv.inputs[1]
    dims, heads = static_shape(filters), (shape(v) or (None, None))[1]
    if dims is None or len(dims) != 4 or dims[:2] != (heads, 1) or dims[3] != 1 or not dims[2] % 2:
        return None
    reach = dims[2] // 2
    is_plain = (
        attribute(conv, "group", 1) == heads
        and list(attribute(conv, "pads", [0] * 4)) == [reach, 0, reach, 0]
        and attribute(conv, "auto_pad", "NOTSET") == "NOTSET"
        and set(attribute(conv, "strides", [1])) == {1}
        and set(attribute(conv, "dilations", [1])) == {1}
    )
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    added = np.zeros(1) if bias is None else constant(bias)
    return filters if is_plain and added is not None and not np.any(added) else None
