"""The laws that every rule obeys. Each says what is wrong, or returns None.

1. It fires, or declines for the reason that the case gives.
2. It ends, and a second run changes nothing.
3. The result is well formed, and the interface is what it was.
4. No rewrite is refuted by the exact proof.
5. The numbers agree within what the rule promises.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from addax.errors import AddaxError, ConvergenceError, EvaluationError
from addax.ir.interpret import nearest
from addax.ir.match import RuleSet
from addax.ir.model import clone
from addax.ir.proof import prove_rewrite
from addax.ir.rewriter import Rewriter
from addax.ir.rule import Exact, Rule
from addax.ir.shapes import infer_shapes
from addax.ir.text import to_text
from addax.ir.tolerance import disagreement
from addax.ir.verify import verify
from addax.passes._driver import Driver, Limits
from addax.passes._instrument import Instrument, Rewrite
from addax.passes._statistics import Statistics
from addax.testing.cases import Case

__all__ = [
    "Prover",
    "agrees",
    "changes",
    "does_as_said",
    "interface",
    "reasons",
    "run_rule",
    "settles",
    "well_formed",
]


class Prover(Instrument):
    """Tries to prove each rewrite before it is committed, and keeps what was refuted."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self.refuted: list[str] = []

    def on_rewrite(self, rewrite: Rewrite) -> None:
        """Prove it, constants by their formulas."""
        matched = nearest(rewrite.matcher.rule, rewrite.root).nodes
        proof = prove_rewrite(rewrite.replacement, self._model, matched=matched)
        if proof.verdict == "refuted":
            self.refuted.append(proof.detail)


def run_rule(
    rule: Rule, model: ir.Model, *, budget: int = 1000, instrument: Instrument | None = None
) -> Statistics:
    """Rewrite a model by one rule to its fixed point, in place.

    Raises:
        ConvergenceError: It is not reached within `budget` rewrites.
    """
    infer_shapes(model)
    statistics, rewriter = Statistics(), Rewriter(model)
    Driver(rewriter, RuleSet([rule]), statistics, Limits(budget), instrument).run()
    rewriter.prune()
    return statistics


def changes(statistics: Statistics) -> int:
    """How many rewrites, or passes that changed something."""
    return statistics.applied + sum(statistics.passes.values())


def reasons(statistics: Statistics) -> set[str]:
    """Why matches were declined."""
    return {reason for entry in statistics.values() for reason in entry.declined}


def does_as_said(case: Case, statistics: Statistics) -> str | None:
    """Law 1: it fires, or declines for the reason in the heading, as the case says."""
    given = reasons(statistics)
    if case.verb == "fires":
        if changes(statistics):
            return None
        said = " and ".join(sorted(given)) if given else "the pattern does not match"
        return f"the case says that it fires, but it declined: {said}"
    if changes(statistics):
        return "the case says that it declines, but it fired"
    if given and case.heading not in given:
        return (
            f"the heading must be a reason that the rule gave: expected {case.heading!r} "
            f"among {sorted(given)}"
        )
    return None


def settles(after: ir.Model, run: Callable[[ir.Model], Statistics]) -> str | None:
    """Law 2: a second run on the result makes no rewrite and changes nothing."""
    again = clone(after)
    before = to_text(again)
    try:
        count = changes(run(again))
    except ConvergenceError as error:
        return str(error)
    if count:
        return f"a second run makes {count} more changes"
    return None if to_text(again) == before else "a second run changes the text of the model"


def well_formed(before: ir.Model, after: ir.Model) -> str | None:
    """Law 3: our verifier and ONNX's checker take the result; its interface is the old one."""
    try:
        verify(after)
        onnx.checker.check_model(ir.to_proto(after), full_check=not after.functions)
    except (AddaxError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return str(error)
    if interface(before) == interface(after):
        return None
    return f"the interface was {interface(before)} and became {interface(after)}"


def interface(model: ir.Model) -> list[tuple[str, str, str]]:
    """Name, type and shape of each input and output."""
    values = [*model.graph.inputs, *model.graph.outputs]
    return [(str(v.name), str(v.type), str(v.shape)) for v in values]


def agrees(
    before: ir.Model, after: ir.Model, feeds: Mapping[str, np.ndarray], exact: Exact
) -> str | None:
    """Law 5: the outputs differ by no more than rounding may, or in no bit where so promised.

    Nothing is asked where the original itself cannot be evaluated on the feeds.
    """
    try:
        found = disagreement(before, after, feeds, exact)
    except EvaluationError as error:
        return str(error) if _evaluates(before, feeds) else None
    return None if found is None else str(found)


def _evaluates(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> bool:
    try:
        disagreement(model, model, feeds, Exact.REASSOCIATED)
    except EvaluationError:
        return False
    return True
