"""Binary attention: attention without softmax, on bits, becomes one operator.

Algebra     u = a v + c qb (kb^T v), qb = 1[q > 0], kb = 1[k > 0];  y = u / max(|u|, e) + f * v
Source      ShiftAddViT (2306.06446), Castling-ViT (2211.10526); `BinaryLinearAttention`
Exactness   reassociated: scales between the products are multiplied at the end
Cost        a kernel reads queries, keys and values once and writes once. The operator's body is
            what it replaces, with a copy where these do not lie side by side; without a filter it
            has one of zeros, a tenth more time, so that it fires for kernels only

Fires for heads of 16, 32, ... bits and columns, since there are kernels for these.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from addax.ir import Exact, Op, decline, known_shape, require, rule
from addax.ir.dialect import DOMAIN
from addax.ir.query import producing
from addax.ir.rule import EveryNode
from addax.ir.statistics import HAS_KERNEL
from addax.passes._binary_sites import Site, read
from addax.passes._family import Context, Phase

PHASE = Phase.LOWER

_LANES = 16  # bits and widths of heads that kernels take are multiples of it
_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@rule("binary-attention/fuse", match=EveryNode(lambda _: False), exact=Exact.REASSOCIATED)
def fuse(op: Op, site: Site, serves: Callable[[ir.Node], bool]) -> ir.Value:
    """u / max(|u|, e) + f * v, u = a v + c qb (kb^T v) -> BinaryLinearAttention([q, k, v], f)."""
    v = site.v
    require(v.dtype in _TYPES, f"its numbers are {v.dtype}, which the operator would round", v)
    values, queries, keys = known_shape(v), site.queries.dims(), site.keys.dims()
    require(
        len(values) == len(queries) == len(keys) == 4 and values[:3] == queries[:3]
        and (*keys[:2], keys[3], keys[2]) == queries, "it has not one row of heads a token", v,
    )  # fmt: skip
    heads, width, bits = values[1], values[3], queries[3]
    if isinstance(heads, str) or isinstance(width, str) or isinstance(bits, str):
        decline("the size of a head is known only at run time", v)
    require(
        width % _LANES == bits % _LANES == 0,
        f"no kernel takes heads of {bits} bits and {width} columns", v,
    )  # fmt: skip
    x = op.Concat(
        _side_by_side(op, site.queries.moved(op), [0, 2, 1, 3]),
        _side_by_side(op, site.keys.moved(op), [0, 3, 1, 2]),
        _side_by_side(op, v, [0, 2, 1, 3]),
        axis=2,
    )
    filters = site.filters
    if filters is None and v.dtype is not None:
        filters = op.initializer(np.zeros((heads, 1, 1, 1), v.dtype.numpy()), "filters")
    made = op.domain(DOMAIN).BinaryLinearAttention(
        x,
        filters,
        heads=heads,
        bits=bits,
        width=width,
        value_weight=site.value_weight,
        sum_weight=site.sum_weight,
        epsilon=site.epsilon,
    )
    require(
        site.filters is not None or serves(producing(made)),
        "there is no filter, and no kernel that would do without it", v,
    )  # fmt: skip
    apart = op.Reshape(made, [0, 0, heads, width])
    result: ir.Value = op.Transpose(apart, perm=[0, 2, 1, 3])
    return result


def _side_by_side(op: Op, value: ir.Value, perm: list[int]) -> ir.Value:
    """[B, N, H W] of what `perm` makes [B, N, H, W]."""
    apart = op.Transpose(value, perm=perm)
    heads, width = known_shape(apart)[2:]
    result: ir.Value = op.Reshape(apart, [0, 0, int(heads) * int(width)])
    return result


def run(model: ir.Model, context: Context) -> bool:
    """Find attention on bits in the graph and its branches."""
    changed, serves = False, context.facts.get(HAS_KERNEL, lambda _: True)
    for root in list(model.graph.all_nodes()):
        if root.graph is None or context.limits.is_out_of_fuel:
            continue
        site = read(root)
        if site is None:
            continue
        changed |= context.driver.rewrite(fuse, root, site, serves)
    return changed
