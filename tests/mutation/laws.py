"""The laws of the suite, asked of a changed family in the order in which a failure says most.

What a rewrite means comes first (does it fire, decline, end; is the result valid; are the numbers
right), and what its result looks like last, so that a golden is credited with what nothing else
notices.
"""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

import onnx
import onnx_ir as ir

from addax.errors import AddaxError, ConvergenceError, EvaluationError
from addax.ir.match import RuleSet
from addax.ir.model import clone
from addax.ir.proof import prove_equal
from addax.ir.rewriter import Rewriter
from addax.ir.rule import Exact, Op
from addax.ir.shapes import infer_shapes
from addax.ir.text import to_text
from addax.ir.tolerance import disagreement
from addax.ir.verify import verify
from addax.passes._driver import Driver, Limits
from addax.passes._family import Family, family_of
from addax.passes._pipeline import Pipeline, Step, run_pipeline
from addax.passes._statistics import Statistics
from addax.testing.cases import Case
from addax.testing.laws import changes, interface
from addax.testing.strategies.arrays import Kind, feeds_for
from tests.mutation.mutants import SCALE, SCALED
from tests.passes.test_laws import model_of, promise, symbols

# The cheapest first; what a case needs to show a change of 1 % is most often in the first two.
DRAWS = (
    (Kind.PLAIN, Kind.PLAIN, 1, 2),
    (Kind.WHOLE, Kind.MIXED, 2, 3),
    (Kind.PLAIN, Kind.LARGE, 3, 1),
    (Kind.MIXED, Kind.ZEROS, 4, 4),
    (Kind.SMALL, Kind.SMALL, 5, 2),
)
_SPECIAL = (Kind.PLAIN, Kind.SPECIAL, 6, 2)


def load(name: str, code: CodeType) -> Family:
    """The family of a changed module, which takes nobody's place in `sys.modules`."""
    module = ModuleType(name)
    vars(module)[SCALED] = scaled
    exec(code, vars(module))  # noqa: S102 - our own source, with one change
    return family_of(module)


def scaled(op: Op, made: Any) -> Any:
    """What a rule returns, 1 % larger, or different where it has no fractions."""
    if isinstance(made, tuple):
        return tuple(scaled(op, value) for value in made)
    if isinstance(made, list):
        return [scaled(op, value) for value in made]
    if not isinstance(made, ir.Value):
        return made
    dtype = made.dtype or op.root.outputs[0].dtype
    if dtype == ir.DataType.BOOL:
        return op.Not(made)
    if dtype is None or dtype.is_floating_point():
        return op.Mul(made, SCALE)
    return op.Add(made, 1)


@dataclass(frozen=True)
class Expected:
    """What the family as it is does with a case."""

    family: Family
    case: Case
    before: ir.Model
    after: ir.Model
    rewrites: int
    reasons: frozenset[str]

    @functools.cached_property
    def text(self) -> str:
        """The golden."""
        return to_text(self.after)

    @functools.cached_property
    def interface(self) -> list[tuple[str, str, str]]:
        return interface(self.before)

    @functools.cached_property
    def draws(self) -> list[tuple[ir.Model, dict[str, Any]]]:
        """Models and feeds on which the numbers are compared."""
        exact = promise(self.case)
        if exact is Exact.APPROXIMATE or self.case.verb == "declines":
            return []
        found = []
        for weights, inputs, seed, size in (*DRAWS, *[_SPECIAL] * (exact is Exact.BITWISE)):
            model = model_of(self.case, weights, seed)
            sizes = dict.fromkeys(symbols(self.case), size)
            feeds = feeds_for(model.graph.inputs, inputs, seed, sizes)
            with contextlib.suppress(EvaluationError):  # sizes and indices may not fit
                disagreement(model, model, feeds, exact)
                found.append((model, feeds))
        return found


def expected(family: Family, case: Case) -> Expected:
    """Run a family on a case."""
    before = model_of(case)
    after = clone(before)
    statistics = run(family, case, after, budget=1000)
    return Expected(family, case, before, after, changes(statistics), _reasons(statistics))


def run(
    family: Family, case: Case, model: ir.Model, budget: int, fuel: int | None = None
) -> Statistics:
    """Run the case's rule of `family` alone, or all of it where the case is about no one rule."""
    rule = next((rule for rule in family.rules if rule.name == case.rule), None)
    if rule is None:
        pipeline = Pipeline((Step(family),))
        return run_pipeline(model, pipeline, budget=budget, fuel=fuel)
    infer_shapes(model)
    statistics, rewriter = Statistics(), Rewriter(model)
    Driver(rewriter, RuleSet([rule]), statistics, Limits(budget, fuel)).run()
    rewriter.prune()
    return statistics


def broken(family: Family, known: list[Expected], kind: str) -> str | None:
    """The first law that a changed family breaks, or None."""
    if kind == "scale":
        # By numbers if they can tell, before a rule that matches its own result runs in circles.
        for case in known:
            if case.rewrites and (law := _numbers(family, case, fuel=1)):
                return law
    weakest = None
    for case in known:
        found = next(_violations(family, case), None)
        if found in {"fewer", "text"}:
            weakest = found if weakest != "fewer" else weakest
        elif found is not None:
            return found
    return weakest


def _violations(family: Family, known: Expected) -> Iterator[str]:
    """The laws that one case sees broken; `fewer` and `text`, what a golden shows, come last."""
    case, budget = known.case, 3 * known.rewrites + 20
    after = clone(known.before)
    try:
        statistics = run(family, case, after, budget)
    except ConvergenceError:
        yield "ends"
        return
    except TimeoutError:
        raise
    except Exception:
        yield "crashes"
        return
    count, reasons = changes(statistics), _reasons(statistics)
    if case.verb == "fires":
        if not count:
            yield "fires"
            return
        yield from _of_results(family, known, after)
        if count < known.rewrites:
            yield "fewer"
        if to_text(after) != known.text:
            yield "proof" if _is_refuted(known.before, after) else "text"
    elif count or (known.reasons and case.heading not in reasons):
        yield "declines"


def _of_results(family: Family, known: Expected, after: ir.Model) -> Iterator[str]:
    try:
        verify(after)
        onnx.checker.check_model(ir.to_proto(after), full_check=not after.functions)
    except (AddaxError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        yield "valid"
    if interface(after) != known.interface:
        yield "valid"
    if law := _numbers(family, known):
        yield law
    again = clone(after)
    try:
        if changes(run(family, known.case, again, 50)) or to_text(again) != to_text(after):
            yield "settles"
    except ConvergenceError:
        yield "settles"


def _numbers(family: Family, known: Expected, fuel: int | None = None) -> str | None:
    exact = promise(known.case)
    for model, feeds in known.draws:
        after = clone(model)
        try:
            run(family, known.case, after, 3 * known.rewrites + 20, fuel)
            if disagreement(model, after, feeds, exact) is not None:
                return "numbers"
        except EvaluationError:
            return "numbers"
        except TimeoutError:
            raise
        except Exception:
            return None if fuel else "crashes"
    return None


def _is_refuted(before: ir.Model, after: ir.Model) -> bool:
    try:
        return prove_equal(before, after).verdict == "refuted"
    except AddaxError:
        return False


def _reasons(statistics: Statistics) -> frozenset[str]:
    return frozenset(reason for entry in statistics.values() for reason in entry.declined)
