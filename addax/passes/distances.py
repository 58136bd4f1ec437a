"""Distances: squared distances of all pairs become one product.

Algebra     |x_n - a_m|^2 = |x_n|^2 - 2 x_n a_m + |a_m|^2
Source      the binomial; ShiftAddViT and EcoFormer hash queries by their distances from anchors
Exactness   reassociated: |y' - y| <= (D + 4) eps (|x| + |a|)^2; what rounds to below 0 is 0
Cost        N M D numbers, made and read three times, become a product of N x D by D x M: the same
            multiplies, in a kernel that keeps them in registers
"""

import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    const_ints,
    constant,
    known_shape,
    producer,
    rank,
    require,
    rule,
)
from addax.ir.query import constant_tensor
from addax.passes._family import Phase

PHASE = Phase.FOLD

_FEWEST = 4  # coordinates; for fewer the differences are as few as the distances


def _sum(op: Op, d: ir.Value, axes: ir.Value) -> ir.Value:
    return op.ReduceSum(op.Mul(d, d, _as="squares"), axes)


def _sum_of_powers(op: Op, d: ir.Value, axes: ir.Value) -> ir.Value:
    return op.ReduceSum(op.Pow(d, 2, _as="squares"), axes)


def _sum_of_squares(op: Op, d: ir.Value, axes: ir.Value) -> ir.Value:
    return op.ReduceSumSquare(d, axes, _as="squares")


@rule(
    "distances/expand",
    match=(_sum, _sum_of_powers, _sum_of_squares),
    exact=Exact.REASSOCIATED,
)
def expand(op: Op, d: ir.Value, axes: ir.Value, squares: ir.Value) -> ir.Value:
    """sum((x - a)^2) -> |x|^2 - 2 x a + |a|^2 for all pairs of a row of x and a row of a."""
    difference = producer(d, "Sub", "Add")
    require(difference is not None, "not squares of differences", d)
    x, a = difference.inputs if difference is not None else (None, None)
    require(op.opset >= 18, "axes are an attribute before opset 18", d)
    full = rank(d) or 0
    require(full >= 3, "not all pairs of rows", d)
    require([i % full for i in const_ints(axes, "axis")] == [full - 1], "another axis is summed", d)
    require(set(d.consumers()) == {squares.producer()}, "something else reads the differences", d)
    sign = -1.0 if difference is not None and difference.op_type == "Sub" else 1.0
    if constant_tensor(x) is not None or _is_row(x, 3):
        x, a = a, x
    require(_is_row(x, 2) and _is_row(a, 3), "not all pairs of rows", x, a)
    width = {known_shape(v)[-1] for v in (x, a)}
    require(
        width == {known_shape(d)[-1]} and all(isinstance(n, int) and n >= _FEWEST for n in width),
        "few coordinates, or a number of them that is known only at run time", d,
    )  # fmt: skip
    rows, others = _without(op, x, 2), _without(op, a, 3)
    count = rank(others) or 2
    turned = op.Transpose(others, perm=[*range(count - 2), count - 1, count - 2])
    across = op.MatMul(rows, op.Mul(turned, 2 * sign))
    near = op.ReduceSumSquare(rows, [-1], keepdims=1)
    far = op.ReduceSumSquare(turned, [-2], keepdims=1)
    distance = op.Relu(op.Add(op.Add(across, near), far))
    made: ir.Value = op.Unsqueeze(distance, [-1]) if attribute(op.root, "keepdims", 1) else distance
    return made


def _is_row(value: ir.Value | None, place: int) -> bool:
    """Whether axis `place` from the end has size 1; a missing axis has, but for the last two."""
    dims = known_shape(value)
    if len(dims) < place:
        return place == 3 and len(dims) == 2
    return dims[-place] == 1


def _without(op: Op, value: ir.Value | None, place: int) -> ir.Value:
    """`value` without axis `place` from the end."""
    count = rank(value) or 0
    if count < place:
        return value  # type: ignore[return-value]  # its shape is known, so it is a value
    node = producer(value, "Unsqueeze")
    axes = None if node is None else constant(node.inputs[1])
    if node is not None and axes is not None and [i % count for i in axes] == [count - place]:
        return node.inputs[0]  # type: ignore[return-value]  # an Unsqueeze reads a value
    made: ir.Value = op.Squeeze(value, [count - place])
    return made


RULES = (expand,)
