"""Which rewrite broke it: binary search over the number of rewrites."""

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from addax.debugging.faults import Fault, ask
from addax.errors import AddaxError, InputError
from addax.ir.certificate import sides
from addax.ir.interpret import nearest
from addax.ir.match import Matcher
from addax.ir.model import clone
from addax.ir.origin import describe
from addax.ir.text import to_text
from addax.passes._instrument import Instrument, Rewrite
from addax.passes._pipeline import Pipeline, run_pipeline


@dataclass(frozen=True)
class Culprit:
    """The rewrite after which a fault is there.

    Attributes:
        number: Which of the rewrites, counted from 1.
        total: How many rewrites there are, or were until the error.
        rule: The rule's name.
        where: The rule's file and line.
        node: The node that was rewritten, and where it came from.
        bindings: The names that the pattern's variables were bound to.
        fault: What is wrong from there on.
        before: The nodes that were replaced, as text.
        after: What took their place, as text.
        case: A block for a case file: the nodes that were replaced, as a model.
    """

    number: int
    total: int
    rule: str
    where: str
    node: str
    bindings: dict[str, str]
    fault: str
    before: str
    after: str
    case: str

    def __str__(self) -> str:
        bound = ", ".join(f"{name} = {value}" for name, value in self.bindings.items())
        return (
            f"rewrite {self.number} of {self.total}: {self.rule} ({self.where}) at {self.node}"
            f"{', with ' + bound if bound else ''}\nfault: {self.fault}\n\n"
            f"before:\n{self.before}\nafter:\n{self.after}"
        )


def bisect(model: ir.Model, fault: Fault, pipeline: Pipeline | None = None) -> Culprit:
    """Find the first rewrite after which `fault` holds; the model is not changed.

    Args:
        model: The original.
        fault: What is asked; see `addax.debugging.faults`. It should run the same `pipeline`.
        pipeline: What is run; by default every exact family.

    Raises:
        InputError: The fault is not there after all rewrites, or is there before the first.
    """
    if ask(fault, model, 0) is not None:
        raise InputError(
            f"the fault is there before any rewrite ({ask(fault, model, 0)}): it is the model's or "
            "the check's own"
        )
    total = _count(model, pipeline)
    found = ask(fault, model, None)
    if found is None:
        raise InputError(f"the fault is not there after all {total} rewrites")
    low, high = 0, 1 if total is None else total  # good after `low`, bad after `high`
    while total is None and ask(fault, model, high) is None:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if ask(fault, model, middle) is None:
            low = middle
        else:
            high = middle
    return _culprit(model, pipeline, high, total or high, ask(fault, model, high) or found)


class _Last(Instrument):
    """Counts rewrites, and remembers the one that is wanted, or the attempt at it."""

    def __init__(self, model: ir.Model, wanted: int) -> None:
        self.model, self.wanted, self.count = model, wanted, 0
        self.tried: dict[str, Any] = {}
        self.seen: dict[str, Any] = {}

    def on_match(self, matcher: Matcher, node: ir.Node) -> None:
        if self.count + 1 == self.wanted:
            rule = matcher.rule
            head = {"rule": rule.name, "where": rule.where, "node": describe(node)}
            self.tried = {**head, "bindings": {}, "before": "", "after": "", "case": ""}

    def on_rewrite(self, rewrite: Rewrite) -> None:
        self.count += 1
        if self.count == self.wanted:
            self.seen = _described(rewrite, self.model)


def _count(model: ir.Model, pipeline: Pipeline | None) -> int | None:
    """How many rewrites there are; None if they end in an error."""
    try:
        return run_pipeline(clone(model), pipeline).applied
    except Exception:  # the fault may be any error, and is reported by who asks for it
        return None


def _culprit(
    model: ir.Model, pipeline: Pipeline | None, number: int, total: int, fault: str
) -> Culprit:
    copy = clone(model)
    last = _Last(copy, number)
    try:
        run_pipeline(copy, pipeline, fuel=number, instruments=[last])
    except Exception:  # the fault: an error while this rewrite was prepared, or made
        last.seen = last.seen or last.tried
    return Culprit(number=number, total=total, fault=fault, **last.seen)


def _described(rewrite: Rewrite, model: ir.Model) -> dict[str, Any]:
    rule = rewrite.matcher.rule
    names = rule.build.__code__.co_varnames[1 : rule.build.__code__.co_argcount]
    bindings = {
        name: str(value.name)
        for name, value in zip(names, rewrite.arguments, strict=False)
        if isinstance(value, ir.Value)
    }
    texts = _texts(rewrite, model)
    case = f"# fires: found by bisect at {describe(rewrite.root)}\n{texts[0]}" if texts[0] else ""
    return {
        "rule": rule.name,
        "where": rule.where,
        "node": describe(rewrite.root),
        "bindings": bindings,
        "before": texts[0],
        "after": texts[1],
        "case": case,
    }


def _texts(rewrite: Rewrite, model: ir.Model) -> tuple[str, str]:
    """Both sides as models of their own; nothing where they cannot stand alone."""
    matched = nearest(rewrite.matcher.rule, rewrite.root).nodes
    nodes = [node for node in model.graph.all_nodes() if node in {*matched, rewrite.root}]
    try:
        before, after = sides(rewrite.replacement, nodes, model)
    except AddaxError:
        return "", ""
    return to_text(before), to_text(after)
