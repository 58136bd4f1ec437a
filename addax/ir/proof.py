"""Exact proofs that two graphs compute the same function, by evaluation over a finite field.

Algebra     f = g over the reals if f(x) = g(x) mod p at random x: floating tensors are elements of
            GF(p), p = 2**31 - 1, a constant m 2**e is that number mod p; functions that are not
            rational (exp, erf, sqrt, max(x, 0)) are random functions of their exact argument
Source      Schwartz 1980, Zippel 1979; Mirage (2405.05751) for tensor programs

A proof is about real arithmetic, at the sizes that were drawn and, where a graph has integers or
conditions among its inputs, at the values that were drawn for them. It says nothing about rounding,
NaN, overflow, or points where something divides by zero.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir

from addax.errors import AddaxError, EvaluationError, InputError, UnsupportedOpError
from addax.ir._field import piecewise
from addax.ir._field.compiler import FieldCompiler, SliceScope
from addax.ir._field.constants import lifted
from addax.ir._field.draws import Draws
from addax.ir._field.element import Field, Oracle
from addax.ir._field.region import nodes_replaced
from addax.ir._field.residues import PRIME
from addax.ir._field.signature import Signature
from addax.ir.builder import Derivation, Replacement

__all__ = ["Proof", "prove_equal", "prove_piecewise", "prove_rewrite", "rounding_ulps"]

Verdict = Literal["proved", "refuted", "unproved", "unsupported"]


@dataclass(frozen=True)
class Proof:
    """The outcome of an attempt at a proof.

    "proved": equal but for `error_probability`. "refuted": an output that is a rational function
    of the inputs differs, so the functions do. "unproved": an output differs that depends on a
    random function, whose laws the proof does not know. "unsupported": nothing was decided.
    `error_probability` bounds the chance of a wrong "proved" over the seeds, (d / p)**seeds for
    formulas of degree d (Schwartz-Zippel), where terms that are added up share their denominators;
    1 for the other verdicts.
    """

    verdict: Verdict
    detail: str
    error_probability: float
    seconds: float


def prove_equal(
    a: ir.Model,
    b: ir.Model,
    *,
    seeds: Sequence[int] = (1, 2),
    sizes: Mapping[str, int] | None = None,
) -> Proof:
    """Prove that two models with the same interface compute the same function.

    Args:
        a: A model; it is not changed.
        b: The other one.
        seeds: One evaluation of both for each; every further one multiplies the chance of error.
        sizes: What named dimensions are in the proof; others get small sizes.

    Raises:
        InputError: The models have different inputs or outputs, or there is no seed.
    """
    began = time.perf_counter()
    _check_interfaces(a, b, seeds)
    oracle = Oracle()

    def prepared() -> Callable[[Draws], tuple[list[Any], list[Any]]]:
        programs = [FieldCompiler(model, oracle).graph(model.graph) for model in (a, b)]

        def evaluate(draws: Draws) -> tuple[list[Any], list[Any]]:
            fed = {str(v.name): draws.tensor(v) for v in a.graph.inputs}
            results = [
                program.run([fed[str(v.name)] for v in model.graph.inputs])
                for program, model in zip(programs, (a, b), strict=True)
            ]
            return results[0], results[1]

        return evaluate

    names = [str(v.name) for v in a.graph.outputs]
    return _prove(prepared, names, oracle, seeds, sizes or {}, began)


def prove_rewrite(
    replacement: Replacement,
    model: ir.Model,
    *,
    matched: Iterable[ir.Node] = (),
    seeds: Sequence[int] = (1, 2),
    sizes: Mapping[str, int] | None = None,
    known: dict[Any, Proof] | None = None,
    history: Mapping[ir.Value, Derivation] | None = None,
) -> Proof:
    """Prove that a prepared rewrite computes what the nodes that it replaces do.

    Whatever the old nodes read is an input. Constants that the rewrite folded are computed from
    their derivations, exactly, and not read as they were rounded.

    Args:
        replacement: The rewrite, before it is committed.
        model: The model that it belongs to, for its opsets and functions.
        matched: The nodes that the rule's pattern covers; the replaced node is always one.
        seeds: One evaluation for each.
        sizes: What named dimensions are in the proof.
        known: What was proved before on this model, by what a proof depends on: operators,
            attributes, types, sizes, small constants, and large ones only if it does not hold
            whatever they are. Looked up and added to.
        history: How earlier rewrites computed constants that are in the model now.

    Raises:
        InputError: There is no seed.
    """
    began = time.perf_counter()
    if not seeds:
        raise InputError("a proof needs at least one seed, got none")
    best: Proof | None = None
    # For all weights if that can be, else for those that there are.
    for any_weights in (False,) if known is None else (True, False):
        for depth in _DEPTHS:
            nodes = nodes_replaced(replacement, matched, depth=depth)
            attempt = _Attempt(
                replacement, model, nodes, seeds, sizes or {}, known, history or {}, any_weights
            )
            proof = attempt.prove(depth in {0, _DEPTHS[-1]}, began)
            if proof.verdict == "proved" or (proof.verdict == "refuted" and not any_weights):
                return proof
            if not any_weights and (best is None or best.verdict == "unsupported"):
                best = proof
    return _finished("unsupported", "nothing was tried", began) if best is None else best


_DEPTHS = (0, 1, 2, 4, 16)
"""How far upstream a proof looks, in turn: rules may see more than they match."""


@dataclass(frozen=True)
class _Attempt:
    """One choice of nodes for the old side of a rewrite."""

    replacement: Replacement
    model: ir.Model
    nodes: Sequence[ir.Node]
    seeds: Sequence[int]
    sizes: Mapping[str, int]
    known: dict[Any, Proof] | None
    history: Mapping[ir.Value, Derivation]
    any_weights: bool

    def prove(self, piecewise: bool, began: float) -> Proof:
        """Look the proof up, or find it."""
        if self.known is None:
            return self._fresh(piecewise, began)
        signature = Signature(self.model, self.history, any_weights=self.any_weights)
        key = signature.of(self.replacement, self.nodes, self._ends())
        if key is not None and (piecewise, key) in self.known:
            return self.known[piecewise, key]
        proof = self._fresh(piecewise, began)
        if key is not None and proof.verdict != "refuted":
            self.known[piecewise, key] = proof
        return proof

    def _ends(self) -> list[ir.Value]:
        pairs = zip(self.replacement.root.outputs, self.replacement.outputs, strict=False)
        return [value for pair in pairs for value in pair if value is not None]

    def _fresh(self, piecewise: bool, began: float) -> Proof:
        proof = _prove_slice(self, began)
        if piecewise and "elements" in proof.detail:
            decided = _piecewise_slice(self.replacement, self.nodes, began)
            proof = proof if decided is None else decided
        return proof


def _piecewise_slice(
    replacement: Replacement, nodes: Sequence[ir.Node], began: float
) -> Proof | None:
    """The decision over orderings, if the rewrite is about functions of one number."""
    if len(replacement.outputs) != 1:
        return None
    ends = replacement.root.outputs[0], replacement.outputs[0]
    for source in dict.fromkeys(v for node in nodes for v in node.inputs if v is not None):
        proof = prove_piecewise(nodes, replacement.nodes, ends, source, derived=replacement.folded)
        is_free = source.producer() is None
        if proof.verdict == "proved" or (proof.verdict == "refuted" and is_free):
            return replace(proof, seconds=time.perf_counter() - began)
    return None


def _prove_slice(attempt: _Attempt, began: float) -> Proof:
    replacement, model, nodes = attempt.replacement, attempt.model, attempt.nodes
    # Outputs that nobody reads may have no successor, and absent ones have no name.
    pairs = zip(replacement.root.outputs, replacement.outputs, strict=False)
    old, new = zip(*((v, w) for v, w in pairs if v.name != "" and w is not None), strict=True)
    inlined = [node for body in replacement.bodies for node in body]
    oracle = Oracle()
    leaves: list[ir.Value] = []

    def prepared() -> Callable[[Draws], tuple[list[Any], list[Any]]]:
        compiler = FieldCompiler(model, oracle)
        scope = SliceScope(compiler, attempt.history, any_weights=attempt.any_weights)
        program = scope.program_of(
            [*nodes, *inlined, *replacement.nodes], replacement.folded, [*old, *new]
        )
        leaves.extend(scope.leaves)

        def evaluate(draws: Draws) -> tuple[list[Any], list[Any]]:
            results = program.run([draws.tensor(v) for v in scope.leaves])
            return results[: len(old)], results[len(old) :]

        return evaluate

    names = [str(v.name) for v in old]
    proof = _prove(prepared, names, oracle, attempt.seeds, attempt.sizes, began)
    if proof.verdict == "refuted" and any(v.producer() is not None for v in leaves):
        # Values inside a graph are not free: what computes them may make both sides equal.
        return replace(proof, verdict="unproved")
    return proof


def _prove(
    prepared: Callable[[], Callable[[Draws], tuple[list[Any], list[Any]]]],
    names: Sequence[str],
    oracle: Oracle,
    seeds: Sequence[int],
    sizes: Mapping[str, int],
    began: float,
) -> Proof:
    """Evaluate both sides for every seed and compare."""
    degree = 1.0
    try:
        evaluate = prepared()
        for seed in seeds:
            oracle.restart(seed)
            left, right = _evaluated(evaluate, seed, sizes)
            found = _difference(names, left, right)
            if found is not None:
                verdict, detail = found
                return _finished(verdict, detail, began)
            degree = max([degree, *(x.degree for x in (*left, *right) if isinstance(x, Field))])
    except AddaxError as error:
        return _finished("unsupported", _told(error), began)
    probability = min(1.0, (2 * degree + _SPECIAL) / PRIME) ** len(seeds)
    detail = f"{len(names)} outputs are equal at {len(seeds)} random points"
    if probability > _CREDIBLE:
        told = f"{detail}, which formulas of degree {degree:.1g} are by chance too"
        return _finished("unproved", told, began)
    return _finished("proved", detail, began, probability)


_CREDIBLE = 1e-6
"""The chance of error above which equality at random points proves nothing."""


_SPECIAL = 260
"""How many elements are treated as the small numbers that they may stand for."""


def _evaluated(
    evaluate: Callable[[Draws], tuple[list[Any], list[Any]]], seed: int, sizes: Mapping[str, int]
) -> tuple[list[Any], list[Any]]:
    try:
        return evaluate(Draws(seed, sizes))
    except EvaluationError:
        # Names of dimensions do not say which of them must be equal.
        return evaluate(Draws(seed, sizes, alike=True))


def _difference(
    names: Sequence[str], left: Sequence[Any], right: Sequence[Any]
) -> tuple[Verdict, str] | None:
    for name, x, y in zip(names, left, right, strict=True):
        if isinstance(x, list) or isinstance(y, list):
            raise UnsupportedOpError(f"output {name!r} is a sequence")
        if np.shape(x) != np.shape(y):
            shapes = f"{list(np.shape(x))} in one and {list(np.shape(y))} in the other"
            return "refuted", f"output {name!r} has shape {shapes}"
        if any(isinstance(v, Field) and v.dtype != np.int64 for v in (x, y)):
            raise UnsupportedOpError(f"output {name!r} stacks computed values beside constants")
        a, b = _comparable(x), _comparable(y)
        unequal = int(np.count_nonzero(a != b))
        if unequal:
            pure = all(v.pure for v in (x, y) if isinstance(v, Field))
            detail = f"output {name!r} differs in {unequal} of {a.size} elements"
            return ("refuted" if pure else "unproved"), detail
    return None


def _comparable(x: Any) -> Any:
    """Elements as residues, floating constants too; integers and strings as they are."""
    x = np.asarray(x)
    return lifted(x) if x.dtype == np.float64 else x


def prove_piecewise(
    before: Iterable[ir.Node],
    after: Iterable[ir.Node],
    outputs: tuple[ir.Value, ir.Value],
    source: ir.Value,
    *,
    derived: Mapping[ir.Value, Derivation] | None = None,
) -> Proof:
    """Decide whether two piecewise polynomial functions of one number are the same.

    Exact: both sides are computed as polynomials with rational coefficients between rational
    breakpoints, so every ordering of the bounds is looked at.

    Args:
        before: Elementwise nodes with constants of one element, in order.
        after: The nodes of the other side; they may read what the first make.
        outputs: The result of either side.
        source: The value that both are functions of.
        derived: Constants to compute from others, and how.
    """
    began = time.perf_counter()
    known = {source: piecewise.Piecewise.variable()}
    try:
        for value, derivation in (derived or {}).items():
            piecewise.derive(value, derivation, known)
        old = piecewise.evaluate(before, known, outputs[0])
        new = piecewise.evaluate(after, known, outputs[1])
        equal, detail = old.equals(new, _largest(source))
    except UnsupportedOpError as error:
        return _finished("unsupported", str(error), began)
    return _finished("proved", detail, began, 0.0) if equal else _finished("refuted", detail, began)


def _largest(value: ir.Value) -> Fraction | None:
    """The largest number that a value can hold: a bound beyond it bounds nothing."""
    if value.dtype is None or not value.dtype.is_floating_point():
        return None
    return Fraction(float(value.dtype.max))


def rounding_ulps(stored: np.ndarray, exact: np.ndarray) -> float:
    """How far a stored constant is from its exact value at most, in units in the last place.

    Args:
        stored: The constant in its own floating format.
        exact: The same in float64, unrounded.

    Returns:
        The largest |stored - exact| / ulp; infinite where one is NaN or infinite alone.
    """
    kept = np.asarray(stored).astype(np.float64)
    if not kept.size:
        return 0.0
    same = (kept == exact) | (np.isnan(kept) & np.isnan(exact))
    info: Any = np.finfo if stored.dtype in _IEEE else _finfo
    limits = info(stored.dtype)
    smallest = float(limits.smallest_normal)
    with np.errstate(all="ignore"):
        scale = np.exp2(np.floor(np.log2(np.maximum(np.abs(exact), smallest))))
        apart = np.abs(kept - exact) / (scale * float(limits.eps))
    return float(np.max(np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))))


_IEEE = frozenset(map(np.dtype, (np.float16, np.float32, np.float64)))


def _finfo(dtype: Any) -> Any:
    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]


def _check_interfaces(a: ir.Model, b: ir.Model, seeds: Sequence[int]) -> None:
    if not seeds:
        raise InputError("a proof needs at least one seed, got none")
    for what, left, right in (
        ("inputs", a.graph.inputs, b.graph.inputs),
        ("outputs", a.graph.outputs, b.graph.outputs),
    ):
        names, others = ([str(v.name) for v in side] for side in (left, right))
        same = names == others if what == "outputs" else sorted(names) == sorted(others)
        if not same:
            raise InputError(
                f"expected models with the same {what}, got {names} and {others}; rename or "
                "reorder them before the proof"
            )


def _told(error: AddaxError) -> str:
    notes = getattr(error, "__notes__", [])
    return " ".join([str(error), *(f"({note})" for note in notes)])


def _finished(verdict: Verdict, detail: str, began: float, probability: float = 1.0) -> Proof:
    return Proof(verdict, detail, probability, time.perf_counter() - began)
