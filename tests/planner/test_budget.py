"""Budgets: what they may say, and what they say when printed."""

import pytest

import addax
from addax.errors import OptionError
from addax.planner import Budget


def score(_: object) -> float:
    return 1.0


def test_the_public_name_is_the_planners():
    assert addax.Budget is Budget


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give at least one limit: max_error, max_bytes, max_latency, max_energy, or metric"),
        ({"objective": "bytes"}, "give at least one limit"),
        ({"max_error": -1}, "max_error must be a positive number; got -1"),
        ({"max_bytes": True}, "max_bytes must be a positive number; got True"),
        ({"max_latency": float("nan")}, "max_latency must be a positive number; got nan"),
        ({"max_energy": "low"}, "max_energy must be a positive number; got 'low'"),
        (
            {"max_error": 1, "objective": "speed"},
            "objective must be one of latency, bytes, energy; got 'speed'",
        ),
        ({"metric": 0.7, "floor": 1}, "metric must be a function of a model; got float"),
        ({"metric": score}, "metric without floor says nothing; give both"),
        ({"floor": 0.5}, "floor without metric says nothing; give both"),
        ({"metric": score, "floor": "high"}, "floor must be a number; got 'high'"),
    ],
)
def test_budgets_that_say_nothing_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Budget(**options)


def test_what_needs_latencies():
    assert Budget(max_error=0.1).needs_latency
    assert Budget(max_latency=0.1).needs_latency
    assert not Budget(max_error=0.1, objective="bytes").needs_latency
    assert not Budget(max_bytes=1000).needs_latency  # the error is what is made least


def test_as_text():
    assert "max_error 0.02, max_bytes 1e+06; least energy" == str(
        Budget(max_error=0.02, max_bytes=1e6, objective="energy")
    )
    assert "max_bytes 10; least error" == str(Budget(max_bytes=10))
    assert "metric at least 0.9; least latency" == str(Budget(metric=score, floor=0.9))


def test_from_text():
    made = Budget.parse("max_error=0.02, objective=bytes")
    assert Budget(max_error=0.02, objective="bytes") == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.02", "expected a budget such as max_error=0.02,objective=bytes, of"),
        ("metric=accuracy", "got 'metric=accuracy' in 'metric=accuracy'"),
        ("max_error=1,max_error=2", "once each; got 'max_error=2'"),
        ("max_error=small", "max_error must be a positive number; got 'small'"),
        ("", "give at least one limit"),
    ],
)
def test_texts_that_are_no_budget(text, message):
    with pytest.raises(OptionError, match=message):
        Budget.parse(text)
