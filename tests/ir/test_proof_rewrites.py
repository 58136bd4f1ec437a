"""Every rule that fires in a case file is proved on the spot, and none is refuted."""

from collections import Counter
from pathlib import Path

import onnx_ir as ir
import pytest

from addax.errors import InputError
from addax.ir.interpret import nearest
from addax.ir.match import RuleSet
from addax.ir.proof import Proof, prove_rewrite, rounding_ulps
from addax.ir.query import constant_tensor
from addax.ir.rewriter import Rewriter
from addax.ir.rule import Exact, Op, Rule, rule
from addax.ir.shapes import infer_shapes
from addax.passes._driver import Driver, Limits
from addax.passes._family import families
from addax.passes._instrument import Instrument, Rewrite
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.passes._statistics import Statistics
from addax.testing.cases import Case, build, draw, read_cases
from addax.testing.strategies.arrays import Kind

CASES = read_cases(Path(__file__).resolve().parents[1] / "passes" / "cases")
FIRING = [case for case in CASES if case.verb == "fires"]
RULES = {r.name: r for family in families().values() for r in family.rules}


class Prover(Instrument):
    """Proves each rewrite before it is committed."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.proofs: list[tuple[str, Proof]] = []
        self.ulps = 0.0

    def on_rewrite(self, rewrite: Rewrite) -> None:
        matched = nearest(rewrite.matcher.rule, rewrite.root).nodes
        proof = prove_rewrite(rewrite.replacement, self.model, matched=matched)
        self.proofs.append((rewrite.matcher.rule.name, proof))
        for value in rewrite.replacement.folded:
            tensor, exact = constant_tensor(value), rewrite.replacement.exact[value]
            if tensor is not None and exact.dtype.kind == "f":
                self.ulps = max(self.ulps, rounding_ulps(tensor.numpy(), exact))


def model_of(case: Case) -> ir.Model:
    return draw(case.text)


def proofs_of(model: ir.Model, rules: list[Rule]) -> Prover:
    prover = Prover(model)
    infer_shapes(model)
    Driver(Rewriter(model), RuleSet(rules), Statistics(), Limits(1000), prover).run()
    return prover


def proofs_of_case(case: Case) -> Prover:
    model = model_of(case)
    if case.rule in RULES:
        return proofs_of(model, [RULES[case.rule]])
    prover = Prover(model)
    run_pipeline(model, Pipeline.parse(case.family), budget=1000, instruments=[prover])
    return prover


def test_every_rule_is_proved_in_its_cases_and_none_is_refuted() -> None:
    verdicts, refuted = Counter(), []
    for case in FIRING:
        prover = proofs_of_case(case)
        assert prover.ulps <= 0.5, f"{case}: a folded constant is not rounded to nearest"
        for name, proof in prover.proofs:
            verdicts[proof.verdict] += 1
            if proof.verdict == "refuted":
                refuted.append(f"{case} {name}: {proof.detail}")
    assert not refuted
    assert verdicts["proved"] >= 0.95 * verdicts.total(), verdicts


def wrong(name: str, match: object, build_wrong: object) -> Rule:
    return rule(f"wrong/{name}", match=match, exact=Exact.REASSOCIATED)(build_wrong)


def _sum(op: Op, x: ir.Value, w: ir.Value, v: ir.Value) -> ir.Value:
    return op.Add(op.MatMul(x, w), op.MatMul(x, v))


def _difference(op: Op, x: ir.Value, w: ir.Value, v: ir.Value) -> ir.Value:
    return op.MatMul(x, op.Sub(w, v))


def _right(op: Op, x: ir.Value, w: ir.Value, v: ir.Value) -> ir.Value:
    return op.MatMul(x, op.Add(w, v))


def _scaled(op: Op, x: ir.Value, w: ir.Value, v: ir.Value) -> ir.Value:
    return op.MatMul(x, op.Mul(op.Add(w, v), 1.01))


LINEARS = """<ir_version: 10, opset_import: ["": 20]>
g (float[2,4] x) => (float[2,3] y) <float[4,3] w, float[4,3] v> {
    a = MatMul(x, w)
    b = MatMul(x, v)
    y = Add(a, b)
}"""


@pytest.mark.parametrize(
    ("made", "verdict"), [(_right, "proved"), (_difference, "refuted"), (_scaled, "refuted")]
)
def test_a_wrong_build_is_refuted(made: object, verdict: str) -> None:
    prover = proofs_of(draw(LINEARS, Kind.PLAIN), [wrong(verdict + str(made.__name__), _sum, made)])
    assert [proof.verdict for _, proof in prover.proofs] == [verdict]


def test_the_peers_mistake_is_refuted_over_the_orderings() -> None:
    text = """<ir_version: 10, opset_import: ["": 20]>
    g (float[3] x) => (float[3] y) <float low = {-1.5}, float high = {-0.5}> {
        a = Clip(x, low, high)
        y = Relu(a)
    }"""

    def pattern(op: Op, x: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        return op.Relu(op.Clip(x, low, high))

    def made(op: Op, x: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        return op.Clip(x, 0.0, high)

    prover = proofs_of(build(text, []), [wrong("clip", pattern, made)])
    ((_, proof),) = prover.proofs
    assert (proof.verdict, "differ between" in proof.detail) == ("refuted", True)


def test_a_proof_needs_a_seed() -> None:
    class Seedless(Instrument):
        def on_rewrite(self, rewrite: Rewrite) -> None:
            with pytest.raises(InputError, match="at least one seed"):
                prove_rewrite(rewrite.replacement, model, seeds=())

    model = draw(LINEARS)
    infer_shapes(model)
    rules = RuleSet([wrong("fold", _sum, _right)])
    Driver(Rewriter(model), rules, Statistics(), Limits(10), Seedless()).run()
