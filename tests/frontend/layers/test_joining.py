"""Degrees of joining: what they mean, how they are set, and their schedule."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from addax.errors import OptionError
from addax.frontend.layers import (
    JoiningSchedule,
    ParallelAttention,
    ParallelFeedForward,
    set_joining,
)


def two_parts() -> nn.Sequential:
    return nn.Sequential(ParallelAttention(8, 2, 2), nn.LayerNorm(8), ParallelFeedForward(8, 8, 2))


@given(st.floats(0, 1), st.integers(1, 4))
def test_what_enters_is_the_mixture(joining: float, branches: int) -> None:
    layer = ParallelFeedForward(4, 4, branches, joining=joining)
    parts = [torch.full((3,), float(2**b), dtype=torch.float64) for b in range(branches)]
    total = sum(2**b for b in range(branches))
    entries = [float(part[0]) for part in layer.join(parts)]
    if joining == 1 or branches == 1:
        assert entries == [total]
    else:
        assert entries == pytest.approx(
            [(1 - joining) * 2**b + joining * total for b in range(branches)], rel=1e-12
        )


def test_set_joining_reaches_every_part() -> None:
    model = two_parts()
    assert set_joining(model, 0.25) == 2
    assert [model[0].joining, model[2].joining] == [0.25, 0.25]


def test_a_model_without_branches() -> None:
    with pytest.raises(OptionError, match="Linear has no parallel branches to join"):
        set_joining(nn.Linear(2, 2), 1)


@pytest.mark.parametrize("value", [-0.1, 1.5, "1", True, float("nan")])
def test_no_share(value: object) -> None:
    with pytest.raises(OptionError, match=r"expected joining to be a number in 0\.\.1"):
        set_joining(two_parts(), value)


@pytest.mark.parametrize("count", [0, -1, 2.0, True])
def test_no_count(count: object) -> None:
    with pytest.raises(OptionError, match="expected branches to be a whole number of 1 or more"):
        ParallelFeedForward(4, 4, count)


@given(st.integers(1, 200))
def test_the_schedule_rises_from_unjoined_to_joined(steps: int) -> None:
    model = two_parts()
    schedule = JoiningSchedule(model, steps, end=0.6)
    seen = [model[0].joining]
    for _ in range(steps):
        schedule.step()
        seen.append(model[0].joining)
    assert seen[0] == 0
    assert seen == sorted(seen)
    assert seen[-1] == 1  # exactly: only then are branches merged
    assert all(value == 1 for value in seen[-(-6 * steps // 10) + 1 :])


def test_a_schedule_goes_on_where_it_stopped() -> None:
    first = JoiningSchedule(two_parts(), 10)
    for _ in range(4):
        first.step()
    model = two_parts()
    second = JoiningSchedule(model, 10)
    second.load_state_dict(first.state_dict())
    assert model[2].joining == first.value > 0


def test_a_schedule_ends_after_it_starts() -> None:
    with pytest.raises(OptionError, match="expected start < end, as shares of training"):
        JoiningSchedule(two_parts(), 10, start=0.5, end=0.5)
