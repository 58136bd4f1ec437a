"""Hoist scales: a number that the network computes multiplies the smaller side of a product.

Algebra     (s x) y = s (x y);   x (s y) = s (x y)   for one number s
Source      XNOR-Net (1603.05279); ShiftAddViT, whose bits have a mean for a scale
Exactness   reassociated: |y' - y| <= 3 eps |s| |x| |y|
Cost        never adds a node; a multiply for each number of the product in place of one for each of
            the factor, where that is fewer; what is left of a scaled product with bits is sums

Constant scales go into weights (`canonicalize-scores`, `fold-affine`).
"""

import onnx_ir as ir

from addax.ir import Exact, Op, known_shape, producer, require, rule, single_use, static_shape
from addax.ir.query import constant_tensor
from addax.ir.rule import EveryNode
from addax.passes._family import Phase

PHASE = Phase.FOLD


def _is_number(value: ir.Value | None) -> bool:
    """Whether a value is one number that is known only at run time."""
    dims = static_shape(value)
    return dims is not None and set(dims) <= {1} and constant_tensor(value) is None


def _scaled(value: ir.Value | None) -> tuple[ir.Value, ir.Value] | None:
    """x and s, if `value` is their product."""
    node = producer(value, "Mul")
    if node is None:
        return None
    for x, s in (node.inputs, node.inputs[::-1]):
        if x is not None and s is not None and _is_number(s) and not _is_number(x):
            return x, s
    return None


def _is_scaled_product(node: ir.Node) -> bool:
    return any(_scaled(value) is not None for value in node.inputs)


@rule(
    "hoist-scales/before-product",
    match=EveryNode(_is_scaled_product, frozenset({"MatMul"})),
    exact=Exact.REASSOCIATED,
)
def before_product(op: Op) -> ir.Value:
    """(s x) y, x (s y) -> s (x y) where x y has fewer numbers than what s multiplies."""
    factors, place = list(op.root.inputs), 0
    found = _scaled(factors[0])
    if found is None:
        found, place = _scaled(factors[1]), 1
    scaled = factors[place]
    x, s = found if found is not None else (scaled, scaled)
    require(scaled is not None and single_use(scaled), "the scaled factor is read elsewhere", x)
    before, after = known_shape(scaled), known_shape(op.root.outputs[0])
    require(min(len(before), len(after)) >= 2, "a factor is a vector", x)
    axis, other = (-2, -1) if place else (-1, -2)
    is_alike = before[:-2] == after[:-2] and before[other] == after[other]
    given, left = before[axis], after[axis]
    require(
        is_alike and isinstance(given, int) and isinstance(left, int) and left < given,
        "the product has no fewer numbers than the factor", x,
    )  # fmt: skip
    factors[place] = x
    made: ir.Value = op.Mul(op.MatMul(*factors), s)
    return made


RULES = (before_product,)
