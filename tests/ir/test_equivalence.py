"""Equivalence of two models: what is proved, what is judged, what stays open, what is refused."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.errors import EvaluationError, InputError
from addax.ir.equivalence import compare, draw_feeds
from addax.ir.model import clone
from addax.ir.parser import parse_text
from addax.ir.rule import Exact
from addax.passes._pipeline import run_pipeline
from addax.testing.strategies.graphs import assemble, models


def model(body: str, opset: int = 20) -> ir.Model:
    return parse_text(f'<ir_version: 10, opset_import: ["": {opset}]>\ng {body}')


LINEAR = "(float[N,4] x) => (float[N,3] y) <float[4,3] w, float[3] b> { a = MatMul(x, w) y = {} }"


def linear(last: str) -> ir.Model:
    return model(LINEAR.replace("{}", last))


def test_a_model_is_proved_equal_to_itself() -> None:
    found = compare(linear("Add(a, b)"), linear("Add(b, a)"))
    assert found.holds
    assert str(found) == (
        "proved: the same function over the reals, and equal within rounding on 3 sets of inputs"
    )
    assert found.proof.error_probability < 1e-12


@pytest.mark.parametrize("last", ["Sub(a, b)", "Relu(a)", "Neg(a)"])
def test_another_function_is_different(last: str) -> None:
    found = compare(linear("Add(a, b)"), linear(last))
    assert (found.verdict, found.holds) == ("different", False)
    assert found.worst == np.inf
    assert "which may differ by" in found.detail


def moved(factor: float) -> ir.Model:
    made = linear("Add(a, b)")
    value = made.graph.initializers["w"]
    array = value.const_value.numpy().copy()
    array[0, 0] *= np.float32(factor)
    value.const_value = ir.tensor(array)
    return made


def test_one_percent_in_one_weight_is_different() -> None:
    assert compare(linear("Add(a, b)"), moved(1.01)).verdict == "different"


def test_one_ulp_is_within_rounding_and_not_proved() -> None:
    found = compare(linear("Add(a, b)"), moved(1 + 2**-23))
    assert found.verdict == "equal"
    assert "over the reals the functions differ" in found.detail
    assert 0 < found.worst <= 1
    exact = compare(linear("Add(a, b)"), moved(1 + 2**-23), exact=Exact.BITWISE)
    assert exact.verdict == "different"


def test_where_everything_is_nan_nothing_is_equal() -> None:
    hole = model("(float[N] x) => (float[N] y) { a = Sub(x, x) y = Div(a, a) }")
    found = compare(hole, hole)
    assert (found.verdict, found.holds) == ("undecided", False)
    assert "no output had a finite element" in found.detail


def test_nan_on_one_side_is_different() -> None:
    zero = model("(float[N] x) => (float[N] y) { a = Sub(x, x) y = Add(a, x) }")
    hole = model("(float[N] x) => (float[N] y) { a = Sub(x, x) b = Div(a, a) y = Add(b, x) }")
    assert compare(zero, hole).verdict == "different"


def test_infinities_at_the_same_places_are_equal() -> None:
    rows = model("(float[N] x) => (float[N] y) <float[1] o = {0}> { a = Relu(x) y = Div(a, o) }")
    feeds = [{"x": np.array([1, 2], np.float32)}]
    assert compare(rows, rows, feeds=feeds).verdict == "undecided"
    both = model(
        "(float[N] x) => (float[N] y, float[N] z) <float[1] o = {0}> { z = Relu(x) y = Div(z, o) }"
    )
    assert compare(both, both, feeds=feeds).verdict == "proved"


def test_an_output_without_elements_proves_nothing() -> None:
    empty = model("(float[N,0] x) => (float[N,0] y) { y = Relu(x) }")
    assert compare(empty, empty).verdict == "undecided"


@pytest.mark.parametrize(
    ("other", "side"),
    [
        ("(float[N,4] z) => (float[N,4] y) { y = Relu(z) }", "inputs"),
        ("(double[N,4] x) => (double[N,4] y) { y = Relu(x) }", "inputs"),
        ("(float[N,5] x) => (float[N,5] y) { y = Relu(x) }", "inputs"),
        ("(float[4] x) => (float[4] y) { y = Relu(x) }", "inputs"),
        ("(float[N,4] x, float[N,4] z) => (float[N,4] y) { y = Relu(x) }", "inputs"),
        ("(float[N,4] x) => (float[N,4] z) { z = Relu(x) }", "outputs"),
        ("(float[N,4] x) => (float[N,4] y, float[N,4] z) { y = Relu(x) z = Neg(x) }", "outputs"),
    ],
)
def test_other_interfaces_are_refused_with_both_listed(other: str, side: str) -> None:
    one = model("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    with pytest.raises(InputError, match=rf"the same {side}, got \[.*float\[N,4\].*\] and \["):
        compare(one, model(other))


RANDOM = "(float[N,4] x) => (float[N,4] y) { r = RandomNormalLike(x) s = Mul(r, x) y = {} }"


def test_chance_is_refused_unless_nothing_depends_on_it() -> None:
    chance = model(RANDOM.replace("{}", "Add(s, x)"))
    with pytest.raises(InputError, match=r"RandomNormalLike .* draws random numbers"):
        compare(chance, chance)
    idle = model(RANDOM.replace("{}", "Add(x, x)"))
    assert compare(idle, model("(float[N,4] x) => (float[N,4] y) { y = Add(x, x) }")).holds


def test_dropout_in_training_is_chance_and_in_inference_is_not() -> None:
    def dropout(training: int) -> ir.Model:
        return model(
            "(float[N,4] x) => (float[N,4] y) <float ratio = {0.5}, bool training = {FLAG}>"
            " { y = Dropout(x, ratio, training) }".replace("FLAG", str(training))
        )

    with pytest.raises(InputError, match="Dropout"):
        compare(dropout(1), dropout(1))
    assert compare(dropout(0), model("(float[N,4] x) => (float[N,4] y) { y = Identity(x) }")).holds


def test_an_approximation_is_not_compared() -> None:
    one = linear("Add(a, b)")
    with pytest.raises(InputError, match="promises no bound"):
        compare(one, one, exact=Exact.APPROXIMATE)


def test_no_feeds_are_no_evidence() -> None:
    one = linear("Add(a, b)")
    with pytest.raises(InputError, match="at least one set of inputs"):
        compare(one, one, feeds=[])


def test_feeds_that_do_not_fit_are_refused() -> None:
    one = linear("Add(a, b)")
    with pytest.raises(InputError, match="must have rank 2"):
        compare(one, one, feeds=[{"x": np.zeros(4, np.float32)}])


def test_a_model_that_fails_where_the_other_works_is_different() -> None:
    works = model("(float[N,4] x) => (float[N,M] y) { y = Relu(x) }")
    fails = model(
        "(float[N,4] x) => (float[N,M] y) <int64[2] shape = {3, 4}> { y = Reshape(x, shape) }"
    )
    feeds = [{"x": np.ones((2, 4), np.float32)}]
    found = compare(works, fails, feeds=feeds)
    assert (found.verdict, found.worst) == ("different", np.inf)
    assert found.detail.startswith("the second model fails where the first one works")
    with pytest.raises(EvaluationError):
        compare(fails, works, feeds=feeds)


def test_nothing_can_be_drawn_for_strings_and_unknown_ranks() -> None:
    text = model("(string[N] x) => (string[N] y) { y = Identity(x) }")
    with pytest.raises(InputError, match=r"'x' of type string; give feeds"):
        draw_feeds(text)
    ranked = model("(float[N] x) => (float[N] y) { y = Relu(x) }")
    ranked.graph.inputs[0].shape = None
    with pytest.raises(InputError, match="element type or rank is not known"):
        draw_feeds(ranked)


def test_indices_stay_in_range() -> None:
    embed = model(
        "(int64[B,T] ids, int64[B,T] mask) => (float[B,T,2] y) <float[5,2] table>"
        " { c = Cast <to = 7> (ids) y = Gather(table, c) }"
    )
    drawn = [draw_feeds(embed, seed, sizes={"T": 50}) for seed in range(4)]
    assert {int(feeds["ids"].max()) for feeds in drawn} == {4}
    assert all(feeds["mask"].max() == 1 for feeds in drawn)
    assert all(feeds["ids"].shape == feeds["mask"].shape for feeds in drawn)
    assert {feeds["ids"].shape[1] for feeds in drawn} == {50}
    assert len({feeds["ids"].shape[0] for feeds in drawn}) > 1


def test_sizes_that_must_agree_are_found() -> None:
    pair = model("(float[N,4] x, float[M,4] z) => (float[N,4] y) { y = Add(x, z) }")
    assert compare(pair, pair).verdict == "proved"


@settings(max_examples=25)
@given(models(max_pieces=3), st.integers(0, 50))
def test_what_the_exact_passes_make_is_never_different(before: ir.Model, seed: int) -> None:
    after = clone(before)
    run_pipeline(after)
    try:
        found = compare(before, after, sizes={"N": 2}, seed=seed, draws=1)
    except (EvaluationError, InputError):
        return  # nothing that can be drawn suits it
    assert found.verdict != "different", str(found)


def test_half_precision_constants_may_round_when_they_are_folded() -> None:
    """float16 holds 11 digits in all, so that few digits do not tell a written number there."""
    before = assemble(b"\x00\xb4\xf8" + bytes(13), [b"n" + bytes(9) + b"\x01" + bytes(5)])
    after = clone(before)
    run_pipeline(after)
    assert any(v.dtype == ir.DataType.FLOAT16 for v in after.graph.initializers.values())
    assert compare(before, after, sizes={"N": 2}).verdict == "equal"
    wrong = next(v for v in after.graph.initializers.values() if len(v.shape or ()) == 4)
    wrong.const_value = ir.Tensor((wrong.const_value.numpy() * np.float16(1.05)), name=wrong.name)
    assert compare(before, after, sizes={"N": 2}).verdict == "different"
