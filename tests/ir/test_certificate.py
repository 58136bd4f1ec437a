"""Certificates: every pass's steps replay, and nothing that was tampered with does."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.errors import AddaxError, InputError, ModelFileError, VerificationError
from addax.ir.certificate import Certificate, Replay, Step, replay
from addax.ir.match import RuleSet
from addax.ir.model import clone
from addax.ir.parser import parse_text
from addax.ir.rewriter import Rewriter
from addax.ir.rule import Exact, Op, rule
from addax.ir.shapes import infer_shapes
from addax.passes._certifying import Certify
from addax.passes._driver import Driver, Limits
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.passes._statistics import Statistics
from addax.testing.cases import Case, draw, read_cases
from addax.testing.strategies.arrays import Kind
from addax.testing.strategies.graphs import models

CASES = [
    case
    for case in read_cases(Path(__file__).resolve().parents[1] / "passes" / "cases")
    if case.verb == "fires"
]


def certified(model: ir.Model, pipeline: str | None = None) -> tuple[ir.Model, Certificate]:
    """The optimized copy of a model, and its certificate, read back from text."""
    after = clone(model)
    recorder = Certify(after)
    plan = None if pipeline is None else Pipeline.parse(pipeline)
    run_pipeline(after, plan, instruments=[recorder])
    return after, Certificate.from_json(recorder.certificate("0").to_json())


def model_of(case: Case) -> ir.Model:
    return draw(case.text, Kind.PLAIN)


@pytest.mark.parametrize("family", sorted({case.family for case in CASES}))
def test_the_steps_of_every_case_lead_to_its_result(family: str) -> None:
    for case in CASES:
        if case.family == family:
            before = model_of(case)
            after, certificate = certified(before)
            found = replay(before, after, certificate, allow_approximate=True)
            assert found.holds, f"{case}: {found}"


@settings(max_examples=60)
@given(models())
def test_the_steps_of_random_models_lead_to_their_results(before: ir.Model) -> None:
    after, certificate = certified(before)
    found = replay(before, after, certificate)
    assert found.holds, str(found)
    assert found.steps == len(certificate.steps)


NETWORK = """<ir_version: 10, opset_import: ["": 20]>
g (float[N,4] x) => (float[N,3] y) <float[4,3] w, float[4,3] v, float[3] b, float[3] s> {
    a = MatMul(x, w)
    c = Mul(a, s)
    d = MatMul(x, v)
    e = Add(c, b)
    f = Relu(e)
    h = Relu(f)
    t = Transpose <perm = [0, 1]> (d)
    i = Identity(h)
    y = Add(i, t)
}"""


@pytest.fixture(scope="module")
def network() -> tuple[ir.Model, ir.Model, Certificate]:
    before = parse_text(NETWORK)
    return before, *certified(before)


def resealed(steps: list[Step]) -> Certificate:
    """What somebody writes who knows how digests are made."""
    return Certificate.of(steps, "0")


def refused(before: ir.Model, after: ir.Model, certificate: Certificate) -> Replay:
    found = replay(before, after, certificate)
    assert not found.holds
    assert str(found).startswith("rejected: ")
    return found


def test_an_untouched_certificate_holds(network) -> None:
    found = replay(*network)
    assert found.is_complete
    assert found.proved == found.steps > 3
    assert 0 < found.error_probability < 1e-9
    assert str(found).startswith(f"holds: {found.steps} steps lead from")


@given(st.data())
@settings(max_examples=30)
def test_a_missing_step_is_seen(network, data) -> None:
    before, after, certificate = network
    place = data.draw(st.integers(0, len(certificate.steps) - 1))
    steps = [step for k, step in enumerate(certificate.steps) if k != place]
    found = refused(before, after, replace(certificate, steps=tuple(steps)))
    last = place == len(steps)
    assert ("the last steps are missing" if last else "digest does not follow") in found.detail
    # With new digests only what the step did can tell: some make room for others and no more.
    needed = certificate.steps[place].nodes or certificate.steps[place].constants
    assert not (needed and replay(before, after, resealed(steps)).holds)


@given(st.data())
@settings(max_examples=30)
def test_a_step_done_twice_or_moved_is_seen(network, data) -> None:
    before, after, certificate = network
    steps = list(certificate.steps)
    i, j = (data.draw(st.integers(0, len(steps) - 1)) for _ in range(2))
    twice = (*steps[: i + 1], *steps[i:])
    refused(before, after, replace(certificate, steps=twice))
    steps[i], steps[j] = steps[j], steps[i]
    found = replay(before, after, replace(certificate, steps=tuple(steps)))
    assert found.holds == (i == j)


@given(st.data())
@settings(max_examples=30)
def test_a_swapped_rule_is_seen(network, data) -> None:
    before, after, certificate = network
    steps = list(certificate.steps)
    place = data.draw(st.integers(0, len(steps) - 1))
    other = data.draw(st.sampled_from(["cleanup/identity", "fold-affine/other"]))
    steps[place] = replace(steps[place], rule=f"{other}-of-somebody")
    found = refused(before, after, replace(certificate, steps=tuple(steps)))
    assert "its digest does not follow" in found.detail


@given(st.data())
@settings(max_examples=40)
def test_an_edited_step_is_seen_even_with_new_digests(network, data) -> None:
    before, after, certificate = network
    steps = list(certificate.steps)
    places = [k for k, step in enumerate(steps) if step.nodes or step.constants]
    place = data.draw(st.sampled_from(places))
    step = json.loads(json.dumps({"n": steps[place].nodes, "c": steps[place].constants}))
    part = data.draw(st.sampled_from([k for k in "nc" if step[k]]))
    spec = data.draw(st.sampled_from(step[part]))
    if "op" in spec and data.draw(st.booleans()):
        spec["op"] = {"Add": "Sub", "Mul": "Div", "MatMul": "Mul"}.get(spec["op"], "Neg")
    elif spec.get("inputs"):
        spec["inputs"][0] = data.draw(
            st.integers(0, 12).filter(lambda number: number != spec["inputs"][0])
        )
    else:
        spec["id"] += 1
    steps[place] = replace(steps[place], nodes=tuple(step["n"]), constants=tuple(step["c"]))
    refused(before, after, resealed(steps))


@given(st.data())
@settings(max_examples=30)
def test_one_ulp_in_one_weight_is_seen_on_either_side(network, data) -> None:
    before, after, certificate = network
    side = data.draw(st.integers(0, 1))
    pair = [clone(before), clone(after)]
    # What is multiplied before it is stored may round to the same.
    values = ["v", "b"] if side == 0 else sorted(pair[1].graph.initializers)
    value = pair[side].graph.initializers[data.draw(st.sampled_from(values))]
    array = value.const_value.numpy().copy()
    place = data.draw(st.integers(0, array.size - 1))
    if array.dtype.kind == "f":
        array.flat[place] = np.nextafter(array.flat[place], np.float32(np.inf))
    else:
        array.flat[place] += 1
    value.const_value = ir.tensor(array)
    found = refused(*pair, certificate)
    assert "do not lead to the optimized model" in found.detail


def test_another_attribute_or_operator_in_the_result_is_seen(network) -> None:
    before, after, certificate = network
    for change in ("op", "input"):
        changed = clone(after)
        node = next(n for n in changed.graph if n.op_type == "Relu")
        if change == "op":
            node.op_type = "Sigmoid"
        else:
            node.replace_input_with(0, changed.graph.inputs[0])
        refused(before, changed, certificate)


@pytest.mark.parametrize("exact", ["approximate", "reassociated", "bitwise"])
def test_a_forged_step_is_seen_whatever_it_promises(exact: str) -> None:
    text = '<ir_version: 10, opset_import: ["": 20]> g (float[3] x) => (float[3] y) {{ y = {}(x) }}'
    before, after = (parse_text(text.format(op)) for op in ("Relu", "Sigmoid"))
    node = {"op": "Sigmoid", "domain": "", "overload": "", "inputs": [0], "outputs": [2]}
    step = Step("cleanup/forged", exact, "rewrite", "y", (1,), (2,), (1,))
    forged = resealed([replace(step, nodes=({**node, "attributes": {}},))])
    found = refused(before, after, forged)
    told = "promises no equality" if exact == "approximate" else "both sides differ"
    assert told in found.detail
    allowed = replay(before, after, forged, allow_approximate=True)
    assert (allowed.holds, allowed.is_complete) == (exact == "approximate", False)


def test_another_model_is_seen(network) -> None:
    before, after, certificate = network
    other = parse_text(NETWORK, seed=1)
    refused(other, after, certificate)
    refused(before, certified(other)[0], certificate)
    refused(after, before, certificate)


def _sum(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    return op.Add(op.Mul(x, y), op.Relu(x))


@rule("wrong/sum", match=_sum, exact=Exact.REASSOCIATED)
def wrong_sum(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    return op.Sub(op.Mul(x, y), op.Relu(x))


WRONG = """<ir_version: 10, opset_import: ["": 20]>
g (float[3] x, float[3] z) => (float[3] y) { a = Mul(x, z) b = Relu(x) y = Add(a, b) }"""


def test_a_wrong_rule_is_stopped_before_it_changes_anything() -> None:
    model = parse_text(WRONG)
    infer_shapes(model)
    recorder = Certify(model)
    recorder.before_pass("test", model)
    driver = Driver(Rewriter(model), RuleSet([wrong_sum]), Statistics(), Limits(10), recorder)
    with pytest.raises(VerificationError, match=r"'wrong/sum' changes what Add .* computes"):
        driver.run()
    assert [node.op_type for node in model.graph] == ["Mul", "Relu", "Add"]
    assert recorder.steps == []


def test_what_is_no_certificate_is_refused(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"format": 1, "steps": [{}], "addax": "0", "seal": ""}', "null"):
        with pytest.raises(InputError, match="expected the JSON of a certificate"):
            Certificate.from_json(text)
    with pytest.raises(InputError, match="expected a certificate of format 1, got 99"):
        Certificate.from_json('{"format": 99}')
    with pytest.raises(ModelFileError, match="cannot read certificate"):
        Certificate.load(tmp_path / "absent.json")


def test_a_certificate_is_saved_and_read(network, tmp_path: Path) -> None:
    before, after, certificate = network
    certificate.save(tmp_path / "c.json")
    assert Certificate.load(tmp_path / "c.json") == certificate
    assert certificate.count("proved") == len(certificate.steps)
    assert replay(before, after, Certificate.load(tmp_path / "c.json")).error_probability == (
        pytest.approx(certificate.error_probability, rel=0.5)
    )


@given(st.data())
@settings(max_examples=40)
def test_noise_in_the_file_is_never_accepted_or_a_crash(network, data) -> None:
    before, after, certificate = network
    content = json.loads(certificate.to_json())
    step = data.draw(st.sampled_from(content["steps"]))
    key = data.draw(st.sampled_from([k for k in sorted(step) if k not in {"where", "detail"}]))
    step[key] = data.draw(
        st.sampled_from([None, 7, "?", [], {}, [[1]], [None], -1]).filter(
            lambda noise: noise != step[key] and bool(noise or step[key])
        )
    )
    try:
        found = replay(before, after, Certificate.from_json(json.dumps(content)))
    except AddaxError:
        return
    assert not found.holds
