"""Linear attention: where there is no softmax, keys meet values first.

Algebra     (s Q K^T) V = Q (s K^T V)
Source      Katharopoulos et al., "Transformers are RNNs" (2006.16236); Castling-ViT; ShiftAddViT
Exactness   reassociated: |y' - y| <= (M + P + 3) eps |s| |Q| |K^T| |V|
Cost        for Q[N, M], K^T[M, P], V[P, D]: N P (M + D) multiplies become M D (N + P); it fires
            where that is fewer. With N = P, that is for more than 2 M D / (M + D) tokens

Where the number of tokens is known only at run time, one has to say how many there are at least:
`allow=("linear-attention{tokens=64}",)`; the reason for declining says how many it takes. With
fewer tokens the result is the same, and slower than it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from addax.errors import OptionError
from addax.ir import Exact, Op, decline, known_shape, producer, require, rule, single_use
from addax.ir.query import constant_tensor, is_constant_number
from addax.ir.rule import EveryNode
from addax.passes._family import Context, Phase
from addax.passes._scopes import open_scopes

PHASE = Phase.FOLD


@dataclass(frozen=True)
class Options:
    """What is known about sizes that are not in the model.

    tokens: How many tokens there are at least, where their number is known only at run time.
    """

    tokens: int | None = None

    def __post_init__(self) -> None:
        is_count = isinstance(self.tokens, int) and not isinstance(self.tokens, bool)
        if self.tokens is not None and not (is_count and self.tokens > 0):
            raise OptionError(
                "linear-attention: tokens must be a number of tokens of 1 or more, or None; got "
                f"{self.tokens!r}"
            )


@dataclass(frozen=True, eq=False)
class _Site:
    """(s q k) v at the node `root`; `s` may be missing."""

    root: ir.Node
    q: ir.Value
    k: ir.Value
    v: ir.Value
    s: ir.Value | None


@rule("linear-attention/reassociate", match=EveryNode(lambda _: False), exact=Exact.REASSOCIATED)
def reassociate(op: Op, site: _Site, tokens: int | None) -> ir.Value:
    """(s q k) v -> q (s k v)."""
    q, k, v = (known_shape(value) for value in (site.q, site.k, site.v))
    require(
        len(q) == len(k) == len(v) >= 2 and q[:-2] == k[:-2] == v[:-2],
        "the factors have other batches", site.q, site.k, site.v,
    )  # fmt: skip
    width, columns, rows, inner = q[-1], v[-1], q[-2], v[-2]
    if isinstance(width, str) or isinstance(columns, str):
        decline("the width of a head is known only at run time", site.q, site.v)
    least = _pays_from(width, columns)
    is_open = isinstance(rows, str) or isinstance(inner, str)
    require(
        tokens is not None or not is_open,
        f"the number of tokens is known only at run time; it pays from {least} on", site.q,
    )  # fmt: skip
    n, p = (size if isinstance(size, int) else tokens or 0 for size in (rows, inner))
    before, after = n * p * (width + columns), width * columns * (n + p)
    require(after < before, f"it would cost {after:,} multiplies in place of {before:,}", site.q)
    made = op.MatMul(site.k, site.v)
    if site.s is not None:
        made = op.Mul(made, site.s)
    result: ir.Value = op.MatMul(site.q, made)
    return result


def _pays_from(width: int, columns: int) -> int:
    """The fewest tokens, as many queries as keys, for which fewer multiplies are left."""
    return 2 * width * columns // (width + columns) + 1


def run(model: ir.Model, context: Context) -> bool:
    """Find products of three factors that are all computed."""
    changed = False
    for scope in open_scopes(model):
        for site in list(_sites(scope)):
            changed |= context.driver.rewrite(reassociate, site.root, site, context.options.tokens)
    return changed


def _sites(scope: ir.Graph | ir.Function) -> Iterator[_Site]:
    for root in scope:
        if root.domain or root.op_type != "MatMul":
            continue
        scores, v, s = *root.inputs, None
        scaled = producer(scores, "Mul")
        if (
            scaled is not None
            and is_constant_number(scaled.inputs[1])
            and single_use(scaled.outputs[0])
        ):
            scores, s = scaled.inputs
        inner = producer(scores, "MatMul")
        if inner is None or scores is None or not single_use(scores):
            continue
        q, k = inner.inputs
        if q is None or k is None or v is None:
            continue
        if all(constant_tensor(value) is None for value in (q, k, v)):
            yield _Site(root, q, k, v, s)
