"""Which rewrite broke it: binary search over the number of rewrites.

Algebra     the model after k rewrites is the same in every run, so "good after k - 1, bad after k"
            names rewrite k; the search needs log2 of their number of runs
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from addax.debugging._slices import Slices, name_nodes
from addax.debugging.faults import Fault, ask
from addax.errors import InputError
from addax.ir.match import Matcher
from addax.ir.model import clone
from addax.ir.origin import describe
from addax.ir.rule import Rule
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
        case: A block for a case file: the smallest part of the model in which the rule fires.
        is_confirmed: Whether the case alone shows the rule computing something else.
        is_monotone: Whether the model was bad after all larger numbers that were tried, and good
            after all smaller ones.
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
    is_confirmed: bool
    is_monotone: bool

    @property
    def case_name(self) -> str:
        """What the tests expect the file with cases of this rule to be called."""
        return f"{self.rule.replace('/', '.', 1)}.txt"

    def save_case(self, folder: Path) -> Path:
        """Write the case, after those that the file has already; returns the file's path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.case_name
        known = path.read_text("utf-8") if path.exists() else ""
        if self.case not in known:
            path.write_text(f"{known.rstrip()}\n\n{self.case}".lstrip(), "utf-8")
        return path

    def __str__(self) -> str:
        bound = ", ".join(f"{name} = {value}" for name, value in self.bindings.items())
        lines = [
            f"rewrite {self.number} of {self.total}: {self.rule} ({self.where}) at {self.node}"
            f"{', with ' + bound if bound else ''}",
            f"fault: {self.fault}",
            f"tested: good after {self.number - 1} rewrites, bad after {self.number}",
        ]
        if not self.is_monotone:
            lines.append("not the only one: with other numbers of rewrites it comes and goes")
        case = "shows the fault alone" if self.is_confirmed else "does not show the fault alone"
        lines += ["", f"before:\n{self.before}", f"after:\n{self.after}", f"the case {case}"]
        return "\n".join(lines)


def bisect(model: ir.Model, fault: Fault, pipeline: Pipeline | None = None) -> Culprit:
    """Find the first rewrite after which `fault` holds; the model is not changed.

    Args:
        model: The original.
        fault: What is asked; see `addax.debugging.faults`. It should run the same `pipeline`.
        pipeline: What is run; by default every exact family.

    Raises:
        InputError: The fault is not there after all rewrites, or is there before the first.
    """
    fault = _remembering(fault)
    if ask(fault, model, 0) is not None:
        raise InputError(
            f"the fault is there before any rewrite ({ask(fault, model, 0)}): it is the model's or "
            "the check's own"
        )
    total = _count(model, pipeline)
    found = ask(fault, model, None)
    if found is None:
        raise InputError(f"the fault is not there after all {total} rewrites")
    high = 1 if total is None else total
    while total is None and ask(fault, model, high) is None:
        high *= 2
    low, is_monotone = 0, True
    while True:
        low, high = _neighbours(model, fault, low, high)
        earlier = _bad_before(model, fault, low)
        if earlier is None:
            break
        low, high, is_monotone = 0, earlier, False
    what = ask(fault, model, high) or found
    return _culprit(model, pipeline, high, total or high, what, is_monotone=is_monotone)


def _remembering(fault: Fault) -> Fault:
    """The fault of one model, asked once for each number of rewrites."""
    known: dict[int | None, str | None] = {}

    def once(model: ir.Model, fuel: int | None) -> str | None:
        if fuel not in known:
            known[fuel] = ask(fault, model, fuel)
        return known[fuel]

    return once


def _neighbours(model: ir.Model, fault: Fault, good: int, bad: int) -> tuple[int, int]:
    """Neighbouring numbers of rewrites of which the first is good and the second bad."""
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if ask(fault, model, middle) is None else (good, middle)
    return good, bad


_PROBES = 4


def _bad_before(model: ir.Model, fault: Fault, good: int) -> int | None:
    """A number of rewrites below `good` that is bad, among a few that are tried."""
    probes = sorted({good * k // (_PROBES + 1) for k in range(1, _PROBES + 1)} - {0})
    return next((k for k in probes if ask(fault, model, k) is not None), None)


class _Last(Instrument):
    """Counts rewrites, and remembers the one that is wanted, or the attempt at it."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.count = wanted, 0
        self.rule: Rule | None = None
        self.node, self.name = "", ""
        self.bindings: dict[str, str] = {}

    def on_match(self, matcher: Matcher, node: ir.Node) -> None:
        if self.count + 1 == self.wanted:
            self.rule, self.node, self.name = matcher.rule, describe(node), str(node.name)
            self.bindings = {}

    def on_rewrite(self, rewrite: Rewrite) -> None:
        if self.count + 1 == self.wanted:
            rule = self.rule = rewrite.matcher.rule
            self.node, self.name = describe(rewrite.root), str(rewrite.root.name)
            self.bindings = _bindings(rule, rewrite.arguments)

    def after_rewrite(self, rewrite: Rewrite, arrivals: list[ir.Node]) -> None:
        self.count += 1

    def on_share(self, rule: Rule, old: ir.Value, new: ir.Value) -> None:
        self.count += 1
        if self.count == self.wanted:
            self.rule, self.node = rule, f"the constant {old.name!r}"
            self.bindings = {"old": str(old.name), "new": str(new.name)}


def _count(model: ir.Model, pipeline: Pipeline | None) -> int | None:
    """How many rewrites there are; None if they end in an error."""
    try:
        return run_pipeline(clone(model), pipeline).applied
    except Exception:  # the fault may be any error, and is reported by who asks for it
        return None


def _culprit(
    model: ir.Model,
    pipeline: Pipeline | None,
    number: int,
    total: int,
    fault: str,
    *,
    is_monotone: bool,
) -> Culprit:
    before = clone(model)
    name_nodes(before)
    after, last = clone(before), _Last(number)
    run_pipeline(before, pipeline, fuel=number - 1)
    try:
        run_pipeline(after, pipeline, fuel=number, instruments=[last])
        slices = Slices.between(before, after)
    except Exception:  # the fault: an error while this rewrite was prepared, or made
        slices = Slices.at(before, last.name)
    rule = last.rule
    text, is_confirmed = slices.case(rule, pipeline)
    return Culprit(
        number,
        total,
        rule.name if rule else "(no rule)",
        rule.where if rule else "the driver",
        last.node,
        last.bindings,
        fault,
        slices.before_text,
        slices.after_text,
        f"# fires: found by bisect at {last.node}\n{text}",
        is_confirmed,
        is_monotone,
    )


def _bindings(rule: Rule, arguments: tuple[Any, ...]) -> dict[str, str]:
    names = rule.build.__code__.co_varnames[1 : rule.build.__code__.co_argcount]
    return {
        name: str(value.name)
        for name, value in zip(names, arguments, strict=False)
        if isinstance(value, ir.Value)
    }
