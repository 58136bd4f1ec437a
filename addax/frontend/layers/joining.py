"""How far parallel branches are joined before a nonlinear part: a number, and its schedule.

At 0 every branch b has a nonlinearity of its own, at 1 all share that of their sum; between, each
branch enters the nonlinearity with a mixture

    u_b = (1 - joining) h_b + joining * sum_c h_c          h_b[..., H]

Only at 1 are the branches one linear map before and one after the nonlinearity, so that a compiler
can merge them exactly. Training starts near 0, where the branches are most expressive, and ends
at 1.

Source: Zhou, Chaudhary, Datta, "Rethinking Vision Transformer Depth via Structural
Reparameterization" (arXiv 2511.19718): branches joined progressively at the entry of the nonlinear
parts. The mixture above and the cosine schedule below are ours.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from addax.errors import OptionError

__all__ = ["JoinedBranches", "JoiningSchedule", "set_joining"]


class JoinedBranches(nn.Module):
    """A module with parallel branches and a degree of joining, which its state dict keeps."""

    def __init__(self, branches: int, joining: float) -> None:
        super().__init__()
        self.branches = at_least_one("branches", branches)
        self.joining = joining

    @property
    def joining(self) -> float:
        """0: a nonlinearity for every branch; 1: one for all, which merges exactly.

        Raises:
            OptionError: If it is set to a number outside 0..1.
        """
        return self._joining

    @joining.setter
    def joining(self, value: float) -> None:
        self._joining = share("joining", value)

    def join(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """The tensors that enter the nonlinearity: one for each branch, or one for all."""
        if len(parts) == 1 or self.joining == 0:
            return list(parts)
        total = add_up(parts)
        if self.joining == 1:
            return [total]
        return [(1 - self.joining) * part + self.joining * total for part in parts]

    def get_extra_state(self) -> Tensor:
        """The degree of joining as a tensor, so that every checkpoint format can hold it."""
        return torch.tensor(self.joining, dtype=torch.float64)

    def set_extra_state(self, state: Any) -> None:
        """Take the degree of joining from a state dict."""
        self.joining = float(state)


def add_up(parts: Sequence[Tensor]) -> Tensor:
    """The sum of tensors of one shape, in order, without a leading zero."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def set_joining(model: nn.Module, value: float) -> int:
    """Set the degree of joining of every parallel module inside a model; how many there are.

    Raises:
        OptionError: If the value is outside 0..1, or no module of the model has branches.
    """
    value = share("joining", value)
    modules = [module for module in model.modules() if isinstance(module, JoinedBranches)]
    if not modules:
        raise OptionError(
            f"{type(model).__name__} has no parallel branches to join: build it of "
            "ParallelFeedForward and ParallelAttention, or convert it first"
        )
    for module in modules:
        module.joining = value
    return len(modules)


class JoiningSchedule:
    """Raises the joining of a model from 0 to 1 along half a cosine; `step` after each update.

    Updates number 0..steps-1. Before update `start * steps` it stays 0, from `end * steps` on it
    is exactly 1, and the rest of training adapts the network to the form that merges:

        joining(t) = (1 - cos(pi p)) / 2,   p = (t / steps - start) / (end - start)
    """

    def __init__(
        self, model: nn.Module, steps: int, *, start: float = 0.0, end: float = 0.6
    ) -> None:
        self.model = model
        self.steps = at_least_one("steps", steps)
        self.start, self.end = share("start", start), share("end", end)
        if not start < end:
            raise OptionError(f"expected start < end, as shares of training; got {start}, {end}")
        self.done = 0
        set_joining(model, self.value)

    @property
    def value(self) -> float:
        """The joining of the next update, 0..1."""
        progress = (self.done / self.steps - self.start) / (self.end - self.start)
        if progress <= 0:
            return 0.0
        return 1.0 if progress >= 1 else (1 - math.cos(math.pi * progress)) / 2

    def step(self) -> None:
        """Count one update, and set the joining of the next."""
        self.done += 1
        set_joining(self.model, self.value)

    def state_dict(self) -> dict[str, int]:
        """The number of updates done."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where a schedule with these steps stopped."""
        self.done = state["done"]
        set_joining(self.model, self.value)


def at_least_one(name: str, value: Any) -> int:
    """A size or count, checked.

    Raises:
        OptionError: If it is not a whole number of 1 or more.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(f"expected {name} to be a whole number of 1 or more; got {value!r}")
    return value


def share(name: str, value: Any) -> float:
    """A share, checked.

    Raises:
        OptionError: If it is not a number in 0..1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise OptionError(f"expected {name} to be a number in 0..1; got {value!r}")
    return float(value)
