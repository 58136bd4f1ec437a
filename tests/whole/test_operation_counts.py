"""What networks cost by kind of operation, as the bench counts it."""

import torch
from torch import nn

from addax.frontend.layers import ShiftLinear
from bench.operation_counts import counts


def test_shifts_are_shifts() -> None:
    model = nn.Sequential(
        nn.Linear(6, 5, bias=False), ShiftLinear.like(nn.Linear(5, 4, bias=False))
    )
    made = counts(model, torch.ones(2, 6), {})
    assert (2 * 30 + 2 * 4, 2 * 30 + 2 * 20, 2 * 20) == (made.multiplies, made.adds, made.shifts)


def test_a_part_of_the_tokens_is_a_part_of_the_work() -> None:
    model = nn.ModuleDict({"part": nn.Module()})
    model.part.mult = nn.Linear(6, 5, bias=False)
    model.part.shift = ShiftLinear.like(nn.Linear(6, 5, bias=False))
    model.forward = lambda x: model.part.mult(x) + model.part.shift(x)
    made = counts(model, torch.ones(10, 6), {"part": 0.4})
    assert (120 + 30, 120 + 180, 180) == (made.multiplies, made.adds, made.shifts)
