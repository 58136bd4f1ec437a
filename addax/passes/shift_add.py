"""Shift-add: weights of linear layers become codes of 2 to 4 bits, fitted after training.

Algebra     y = x W^T ~ x D^T, D[n, k] = s[n] m[n, g] table[code[n, k]], g the group of k, or
            D[n, k] = s[n] sum_i m_i[n, g] b_i[n, k] with signs b_i; D is chosen for
            tr((W - D) H (W - D)^T), H = E[x^T x] on calibration data; what the mean of y lacks
            goes to its bias
Source      ShiftAddLLM (2406.05981), OPTQ (2210.17323), DenseShift (2208.09708)
Exactness   approximate; the error of each layer is measured, on held-out samples if there are 64
Cost        a multiply a weight and row becomes q / 4 table reads and adds (binary, q planes), or
            a table read and an integer multiply-add; 32 bits a weight become q + 0.1

Layers are fitted in the order of the network, each on the activations that the layers before it
leave when they are codes. Runs only when allowed by name; `allow=("shift-add{bits=3}",)`, or
`allow=("shift-add",), bits=3`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.errors import OptionError
from addax.ir import Exact, Op, rule
from addax.ir.dialect import DOMAIN
from addax.ir.rule import EveryNode
from addax.ir.statistics import LAYERS, NOTES, PLACES
from addax.passes._family import Context, Phase, is_number
from addax.passes._shift.lowering import Packed, lower
from addax.passes._shift.sites import Site
from addax.passes._shift.targets import Wanted, describe_left, find_targets

PHASE = Phase.APPROXIMATE
NEEDS_CALIBRATION = False
BRINGS = ("shift-weights",)

_AHEAD = 8  # groups fitted together where they do not wait for each other
_FEWEST, _MOST = 2, 4


@dataclass(frozen=True)
class Options:
    """Which bits, and how they are fitted.

    bits: Of a weight: 2, 3 or 4; a mean between these; "auto", under a budget; or one format for
        every layer, such as "fitted4", "binary3", "powers4" or "binary2{scales=powers}".
    max_bytes: With bits="auto": what all weights of the model may take.
    max_error: With bits="auto": the root of the mean squared relative error of layers' outputs.
    smallest: Weights of the smallest layer that is treated.
    skip: Names of layers, nodes or weights that stay, or parts of names, with * and ?.
    include: Names of layers that are treated although something else reads their weights.
    formats: Pairs of the name of a layer and its format, such as (("head", "fitted4"),): these
        layers and no others are treated, `bits` does not count. None for all by `bits`.
    compensate: Whether the error of a weight is made up for by those that follow.
    sequential: Whether a layer is fitted on what the layers before it leave as codes; otherwise on
        the activations of the model as it was, several layers at a time.
    damping: What is added to the diagonal of H, as a share of its mean.
    folder: Where fits are kept, so that a run that ended early goes on from there.
    """

    bits: float | str = 3
    max_bytes: int | None = None
    max_error: float | None = None
    smallest: int = 4096
    skip: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    formats: tuple[tuple[str, str], ...] | None = None
    compensate: bool = True
    sequential: bool = True
    damping: float = 0.01
    folder: str | None = None

    def __post_init__(self) -> None:
        _check_bits(self.bits)
        for name in ("max_bytes", "max_error", "smallest", "damping"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and value > 0):
                raise OptionError(f"shift-add: {name} must be a positive number; got {value!r}")
        for name in ("skip", "include"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(v, str) for v in value):
                raise OptionError(
                    f"shift-add: {name} must be a tuple of names, such as ('head',); got {value!r}"
                )
        _check_formats(self.formats)
        budgets = [n for n in ("max_bytes", "max_error") if getattr(self, n) is not None]
        if self.bits == "auto" and not budgets:
            raise OptionError("shift-add: bits='auto' needs a budget, max_bytes= or max_error=")
        if self.bits != "auto" and budgets:
            raise OptionError(
                f"shift-add: {', '.join(budgets)} is a budget for bits='auto'; got {self.bits!r}"
            )


def _check_bits(bits: object) -> None:
    if bits == "auto" or (is_number(bits) and _FEWEST <= float(str(bits)) <= _MOST):
        return
    if not isinstance(bits, str):
        raise OptionError(
            f"shift-add: bits must be 2, 3, 4, a mean between these, 'auto', or a format such as "
            f"'fitted4'; got {bits!r}"
        )
    from addax.passes.fit import Format

    if not Format.parse(bits).executable:
        raise OptionError(
            f"shift-add: no op executes the format {bits!r}; take one of fitted4, uniform4, "
            "powers4, fitted2, uniform2, binary1 to binary4"
        )


def _check_formats(formats: object) -> None:
    if formats is None:
        return
    if not isinstance(formats, tuple) or not all(
        isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in formats
    ):
        raise OptionError(
            "shift-add: formats must be a tuple of pairs of a layer and its format, such as "
            f"(('head', 'fitted4'),), or None; got {formats!r}"
        )
    for _, text in formats:
        _check_bits(text)


@rule("shift-add/replace", match=EveryNode(lambda _: True), exact=Exact.APPROXIMATE)
def replace(op: Op, site: Site, packed: Packed, offset: np.ndarray | None) -> ir.Value:
    """x W^T -> CodebookMatMul or BinaryMatMul of x and the codes of W, plus what the mean lacks."""
    return lower(op, site, (packed,), offset)


def run(model: ir.Model, context: Context) -> bool:
    """Treat every layer of the main graph once, in order."""
    if not context.is_first("shift-add"):
        return False
    options: Options = context.options
    notes: list[str] = context.facts.setdefault(NOTES, [])
    targets, left = find_targets(
        model,
        Wanted(
            options.smallest,
            options.skip,
            options.include,
            None if options.formats is None else tuple(name for name, _ in options.formats),
        ),
    )
    notes += describe_left(left)
    if context.limits.is_out_of_fuel or not targets:
        return False
    from addax.passes._shift.work import Work  # solvers, which only this family needs

    changed = False
    known = set(_products(model))
    for trial in Work(model, context.facts, options).trials(targets, notes):
        done = [
            context.driver.rewrite(replace, site.root, site, trial.packed, trial.offset)
            for site in trial.target.refreshed().sites
        ]
        context.driver.resume()
        if any(done):
            changed = True
            context.facts.setdefault(LAYERS, []).append(trial.layer)
            made = tuple(node for node in _products(model) if node not in known)
            context.facts.setdefault(PLACES, []).append(made)
            known.update(made)
        if context.limits.is_out_of_fuel:
            break
    return changed


def _products(model: ir.Model) -> Iterator[ir.Node]:
    """The nodes of the main graph that are of the dialect."""
    return (node for node in model.graph if node.domain == DOMAIN)
