"""Bits for each layer: the integer program against all choices, and the paper's criterion."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.passes.fit import Choice, allocate, allocate_by_importance, paper_importance
from tests.passes.fit.layers import gauss, moments

AMOUNTS = st.integers(0, 60)
CHOICES = st.lists(
    st.builds(Choice, st.sampled_from("abc"), AMOUNTS, AMOUNTS.map(float), AMOUNTS.map(float)),
    min_size=1,
    max_size=3,
)
LAYERS = st.lists(CHOICES, min_size=1, max_size=4)
LIMITS = st.none() | st.integers(0, 160).map(float)


def total(plan, quantity: str) -> float:
    return sum(getattr(choice, quantity) for choice in plan)


@settings(max_examples=60)
@given(LAYERS, LIMITS, LIMITS, LIMITS, st.sampled_from(["bytes", "error", "latency"]))
def test_plans_are_the_best_of_all(layers, size, error, latency, objective) -> None:
    limits = {"bytes": size, "error": error, "latency": latency}
    asked = {name: limit for name, limit in limits.items() if limit is not None}
    plan = allocate(
        {f"layer{i}": options for i, options in enumerate(layers)},
        max_bytes=size, max_error=error, max_latency=latency, objective=objective,
    )  # fmt: skip
    assert [f"layer{i}" for i in range(len(layers))] == list(plan)
    for i, options in enumerate(layers):
        assert plan[f"layer{i}"] in options
    every = list(itertools.product(*layers))
    fitting = [p for p in every if all(total(p, name) <= limit for name, limit in asked.items())]
    assert plan.is_feasible == bool(fitting)
    if fitting:
        assert min(total(p, objective) for p in fitting) == plan.total(objective)
        return

    def excess(plan) -> float:
        units = {n: limit or max(getattr(c, n) for o in layers for c in o) or 1.0
                 for n, limit in asked.items()}  # fmt: skip
        return max((total(plan, n) - limit) / units[n] for n, limit in asked.items())

    assert min(map(excess, every)) == pytest.approx(excess(plan.values()), abs=1e-4)
    assert "no choice of formats meets the budget" in plan.reason


def test_reasons_say_what_cannot_be_reached() -> None:
    layers = {"a": [Choice("small", 10, 4.0), Choice("large", 20, 1.0)]}
    plan = allocate(layers, max_bytes=5)
    assert "small" == plan["a"].label
    assert (
        "no choice of formats meets the budget: bytes of 10 exceed the budget of 5 (the least that "
        "the choices can reach, whatever the other budgets, is 10)" == plan.reason
    )
    both = allocate(layers, max_bytes=12, max_error=2)
    assert "exceed the budget of" in both.reason
    assert {} == allocate({})


def test_a_hundred_layers_of_a_real_size_are_quick_and_within_the_budget() -> None:
    rng = np.random.default_rng(0)
    layers = {}
    for i in range(100):
        error, size = float(rng.exponential()), int(rng.integers(10_000, 16_000_000))
        layers[f"layer{i}"] = [Choice(f"{b}", size * b, error * 4.0**-b) for b in (2, 3, 4)]
    whole = sum(options[-1].bytes for options in layers.values())
    plan = allocate(layers, max_bytes=0.6 * whole)
    assert plan.is_feasible
    assert plan.total("bytes") <= 0.6 * whole
    assert len({choice.label for choice in plan.values()}) > 1


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        ({"a": []}, {}, "at least one choice for layer 'a', got none"),
        ({"a": [Choice("x", 1, np.nan)]}, {}, "got nan for 'x' of layer 'a'"),
        ({"a": [Choice("x", -1, 1.0)]}, {}, "bytes that are finite and not negative, got -1"),
        ({}, {"objective": "speed"}, "one of bytes, error, latency, energy; got 'speed'"),
        ({}, {"max_bytes": -1}, "a budget of bytes that is not negative, got -1"),
    ],
)
def test_bad_choices_are_refused(layers, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        allocate(layers, **options)


def test_importance_is_that_of_the_paper() -> None:
    weights, hessian = gauss(0, 8, 32), moments(0, 32)
    damped = hessian + 0.01 * np.mean(np.diag(hessian)) * np.eye(32)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    scaled = weights / np.diag(upper)
    expected = np.linalg.norm(np.abs(scaled)) * np.std(scaled) ** 2
    assert paper_importance(weights, hessian) == pytest.approx(expected, rel=1e-3)
    assert 0 == paper_importance(weights, np.zeros((32, 32)))


def test_important_layers_get_more_bits_in_the_shares_that_were_asked() -> None:
    importance = {f"layer{i}": float(i) for i in range(10)}
    given_bits = allocate_by_importance(importance, {2: 0.8, 3: 0.2})
    assert [2] * 8 + [3] * 2 == [given_bits[f"layer{i}"] for i in range(10)]
    weights = {name: 8 if name == "layer9" else 1 for name in importance}
    heavy = allocate_by_importance(importance, {2: 0.6, 3: 0.4}, weights)
    assert ["layer9"] == [name for name, bits in heavy.items() if bits == 3]
    for shares in ({}, {2: 0.5}, {2: 1.5, 3: -0.5}):
        with pytest.raises(ValueError, match="shares of bits that add up to 1"):
            allocate_by_importance(importance, shares)
