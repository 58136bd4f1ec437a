"""Shift-weights: weights that a training made powers of two become codes, without loss.

Algebra     y = x W^T with every |W[n, k]| 0 or s[n] 2^e: W[n, k] = s[n] 2^m table[code[n, k]];
            table = 0, +-1, 2, ..., 64, m for each row and group of columns; in two parts, which
            are added, where a group reaches over more than seven exponents
Source      DeepShift (1905.13298), ShiftAddViT (2306.06446), whose training leaves such weights
Exactness   reassociated; weights exported as (q - w) + w are q, as they are over the reals
Cost        a multiply a weight becomes a shift; 32 bits a weight become 4.1, or 8.3 in two parts

Runs before scales are folded into weights, which would hide the powers, and only where asked:
`allow=("shift-weights",)`, or with "shift-add".
"""

import onnx_ir as ir

from addax.ir import Exact, Op, constant, rule
from addax.ir.numbers import pack_codebook
from addax.ir.origin import describe
from addax.ir.rule import EveryNode
from addax.ir.statistics import NOTES
from addax.passes._family import Context, Phase
from addax.passes._shift.lowering import Packed, lower
from addax.passes._shift.powers import encode_powers, looks_like_powers
from addax.passes._shift.sites import Site, read, readers

PHASE = Phase.CANONICAL
BY_NAME = True
NEEDS_CALIBRATION = False

SMALLEST_INNER = 32  # columns that a group of codes has at least


@rule("shift-weights/trained-powers", match=EveryNode(lambda _: True), exact=Exact.REASSOCIATED)
def trained_powers(op: Op, site: Site, parts: tuple[Packed, ...]) -> ir.Value:
    """x W^T -> CodebookMatMul(x, codes of W), or the sum of two."""
    return lower(op, site, parts)


def run(model: ir.Model, context: Context) -> bool:
    """Treat every layer whose weights are powers of two; a note says why one stays."""
    changed = False
    for root in list(model.graph.all_nodes()):
        if root.graph is None or context.limits.is_out_of_fuel:
            continue
        site = read(root)
        found = _codes(site) if isinstance(site, Site) else None
        if isinstance(found, str):
            _note(context, f"shift-weights, {describe(root)}: unchanged: {found}")
        elif found is not None:
            changed |= context.driver.rewrite(trained_powers, root, site, found)
            context.driver.resume()
    return changed


def _note(context: Context, text: str) -> None:
    notes: list[str] = context.facts.setdefault(NOTES, [])
    if text not in notes:
        notes.append(text)


def _codes(site: Site) -> tuple[Packed, ...] | str | None:
    """The packed codes of a layer's weights; why there are none; None if nobody expects any."""
    stored = constant(site.weight)
    if stored is None or site.size[1] < SMALLEST_INNER:
        return None
    first = stored[:, :1] if site.view.is_turned else stored[:1]
    if not looks_like_powers(site.view.matrix(first)):
        return None
    found = encode_powers(site.matrix())
    if not isinstance(found, tuple):
        return found
    if readers(site.weight) is None:
        return "its weights are powers of two, but something else reads them too"
    parts = tuple(map(pack_codebook, found))
    made = sum(part.nbytes for part in parts)
    if made >= stored.nbytes:
        return f"its codes take {made:,} bytes, its weights {stored.nbytes:,}"
    return parts
