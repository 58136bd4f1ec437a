"""Canonicalize einsum: a contraction of two tensors is a matrix product between transposes.

Algebra     sum_k A[b, i, k] B[b, k, j] = (A B)[b, i, j]: the labels in both operands and in the
            output count the batch b, those in both alone are summed over (k), those in one
            operand and the output are rows i or columns j; several labels of a kind are one axis
Source      the Einsum operator's definition
Exactness   reassociated: the same products, which may be added up in another order
Cost        the same products; the transposes and reshapes that Einsum makes inside become
            visible, so that they cancel with others or are folded into weights
"""

import math
from collections.abc import Sequence

import onnx_ir as ir

from addax.ir import Exact, Op, attribute, known_shape, require, rule, shape
from addax.passes._family import Phase
from addax.passes._reshape_target import must_spell

PHASE = Phase.CANONICAL


def _two_operands(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    return op.Einsum(a, b)


@rule("canonicalize-einsum/product", match=_two_operands, exact=Exact.REASSOCIATED)
def product(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    """Einsum("bqhd,bkhd->bhqk", A, B) -> P A' B', A and B with their axes in order."""
    left, right, out = _labels(attribute(op.root, "equation", ""))
    batch = [k for k in out if k in left and k in right]
    summed = [k for k in left if k in right and k not in out]
    rows = [k for k in out if k in left and k not in right]
    columns = [k for k in out if k in right and k not in left]
    require(
        len(batch) + len(summed) + len(rows) == len(left)
        and len(batch) + len(summed) + len(columns) == len(right)
        and len(batch) + len(rows) + len(columns) == len(out),
        "a label is summed over in one operand alone, or is new in the output", a, b,
    )  # fmt: skip
    require(summed, "nothing is summed over", a, b)
    sizes = dict(zip(left, known_shape(a), strict=True))
    others = dict(zip(right, known_shape(b), strict=True))
    require(all(sizes[k] == others[k] for k in [*batch, *summed]), "sizes differ, or may", a, b)
    sizes |= others
    # Without a batch the rows need not become one axis: a product takes any number of them.
    heads = [[k] for k in rows] if not batch else [rows]
    x = _arranged(op, a, left, [*([k] for k in batch), *heads, summed], sizes)
    y = _arranged(op, b, right, [*([k] for k in batch), summed, columns], sizes)
    made = [*batch, *rows, *columns]
    z = _reshaped(op, op.MatMul(x, y), [sizes[k] for k in made])
    return _transposed(op, z, [made.index(k) for k in out])


def _labels(equation: str) -> tuple[str, str, str]:
    """The labels of two operands and of the output, which repeat none."""
    inputs, arrow, out = equation.replace(" ", "").partition("->")
    left, _, right = inputs.partition(",")
    require(arrow, "the output is implicit")
    terms = (left, right, out)
    require(all("." not in term for term in terms), "axes without labels")
    require(all(len(set(term)) == len(term) for term in terms), "a label repeats in an operand")
    return terms


def _arranged(
    op: Op,
    x: ir.Value,
    labels: str,
    groups: Sequence[Sequence[str]],
    sizes: dict[str, int | str],
) -> ir.Value:
    """`x` with its axes in the order of the groups, each of which becomes one axis."""
    moved = _transposed(op, x, [labels.index(k) for group in groups for k in group])
    if all(len(group) == 1 for group in groups):
        return moved
    dims = [_joined([sizes[k] for k in group]) for group in groups]
    return must_spell(dims, shape(moved)).apply(op, moved)


def _joined(sizes: Sequence[int | str]) -> int | str | None:
    """The size of several axes that become one; None where it has neither number nor name."""
    numbers = [size for size in sizes if isinstance(size, int)]
    if len(numbers) == len(sizes):
        return math.prod(numbers)
    return sizes[0] if len(sizes) == 1 else None


def _reshaped(op: Op, x: ir.Value, dims: Sequence[int | str]) -> ir.Value:
    return x if shape(x) == tuple(dims) else must_spell(dims, shape(x)).apply(op, x)


def _transposed(op: Op, x: ir.Value, perm: list[int]) -> ir.Value:
    return x if perm == sorted(perm) else op.Transpose(x, perm=perm)


RULES = (product,)
