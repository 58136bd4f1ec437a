"""The integer program beside all plans tried one by one, frontiers, and budgets out of reach."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.errors import BudgetError
from addax.passes.choices import Offer, Place
from addax.passes.fit import Choice
from addax.planner import Budget
from addax.planner.curves import Curve, predicted_error
from addax.planner.search import Rest, Search

LABELS = ("fp32", "int8", "fitted4", "fitted2")
REST = Rest(1000, 1e-3, 1e-6)


@st.composite
def drawn(draw) -> list[Curve]:
    """Places with up to four offers: the first leaves the layer, with an error of 0."""
    curves = []
    for number in range(draw(st.integers(1, 4))):
        choices = [Choice("fp32", 4000, 0.0, 9e-4, 8e-7)]
        for label in LABELS[1 : draw(st.integers(2, 4))]:
            sizes = [draw(st.integers(1, 900)) for _ in range(4)]
            choices.append(
                Choice(label, sizes[0], (sizes[1] / 1e4) ** 2, sizes[2] * 1e-6, sizes[3] * 1e-9)
            )
        curves.append(curve(f"layer{number}", choices))
    return curves


def curve(name: str, choices: list[Choice]) -> Curve:
    offers = tuple(Offer("", c.label, c.label, c.bytes, math.sqrt(c.error)) for c in choices)
    place = Place(name, "linear", 8, 8, 1, name, offers)
    return Curve(place, 1.0, tuple(choices))


def every_plan(curves: list[Curve]):
    names = [each.place.name for each in curves]
    for picked in itertools.product(*(each.choices for each in curves)):
        yield dict(zip(names, picked, strict=True))


@given(drawn(), st.integers(1, 2000), st.sampled_from(["latency", "bytes", "energy"]))
def test_no_plan_within_the_error_has_less_of_the_objective(curves, share, objective):
    limit = share / 1e4
    search = Search(curves, REST, Budget(max_error=1.0, objective=objective))
    made = search.best(limit)
    assert predicted_error(made) <= limit
    field = {"latency": "seconds", "bytes": "bytes", "energy": "joules"}[objective]
    least = min(
        getattr(search.totals(plan), field)
        for plan in every_plan(curves)
        if predicted_error(plan) <= limit
    )
    assert getattr(search.totals(made), field) == pytest.approx(least, rel=1e-6)


@given(drawn(), st.integers(0, 100))
def test_without_a_bound_on_the_error_it_is_made_least(curves, share):
    sizes = [sum(c.bytes for c in plan.values()) for plan in every_plan(curves)]
    limit = REST.bytes + min(sizes) + (max(sizes) - min(sizes)) * share // 100
    search = Search(curves, REST, Budget(max_bytes=limit))
    made = search.best(None)
    assert search.totals(made).bytes <= limit
    least = min(
        predicted_error(plan) for plan in every_plan(curves) if search.totals(plan).bytes <= limit
    )
    assert predicted_error(made) == pytest.approx(least, abs=1e-9)


@settings(max_examples=10)
@given(drawn())
def test_along_a_frontier_more_error_buys_more(curves):
    search = Search(curves, REST, Budget(max_error=1.0))
    found = search.frontier(2.0, by_latency=True)
    assert "latency" == found.objective
    for points, field in ((found.fastest, "seconds"), (found.smallest, "bytes")):
        assert 0 == points[0].error
        values = [getattr(point, field) for point in points]
        assert values == sorted(values, reverse=True)
    assert found.fastest[-1].error <= 2.0 * search.largest_error + 1e-12
    assert "least latency" in str(found)


def test_plans_are_deterministic():
    choices = [Choice("fp32", 400, 0.0, 1e-3), Choice("int8", 100, 1e-4, 5e-4)]
    curves = [curve(f"layer{i}", choices) for i in range(6)]
    plans = [Search(curves, REST, Budget(max_error=1.0)).best(0.02) for _ in range(3)]
    assert plans[0] == plans[1] == plans[2]
    assert 4 == sum(choice.label == "int8" for choice in plans[0].values())


def test_of_plans_that_are_as_good_the_one_with_the_least_error_is_taken():
    choices = [Choice("fp32", 400, 0.0, 1e-3), Choice("int8", 100, 1e-4, 1e-3)]
    search = Search([curve("layer", choices)], REST, Budget(max_error=1.0))
    assert "fp32" == search.best(1.0)["layer"].label


@pytest.mark.parametrize(
    ("budget", "limit", "message"),
    [
        (
            Budget(max_bytes=10),
            None,
            r"no plan keeps the budget: expected bytes of at most 10 \(the least that the choices "
            r"reach, whatever the other limits, is 1100\)",
        ),
        (
            Budget(max_latency=1e-6),
            None,
            r"latency of at most 1e-06 s \(the least .* is 0.0015 s\)",
        ),
        (Budget(max_energy=1e-9), None, r"energy of at most 1e-09 J \(the least .* is 1e-06 J\)"),
        (
            Budget(max_error=1.0, max_bytes=1200),
            1e-3,
            r"an error of at most 0.001 and bytes of at most 1200 .* allow more, or more families",
        ),
    ],
)
def test_budgets_out_of_reach_say_what_is_in_reach(budget, limit, message):
    choices = [Choice("fp32", 400, 0.0, 1e-3), Choice("int8", 100, 1e-4, 5e-4)]
    with pytest.raises(BudgetError, match=message):
        Search([curve("layer", choices)], REST, budget).best(limit)
