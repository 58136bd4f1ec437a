"""Networks on their way to shifts and adds, each converted from one before it and tuned."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from addax.frontend.layers import (
    BinaryAttention,
    Mixture,
    Router,
    Shifts,
    balance_loss,
    convert,
    expert_latencies,
)
from bench import cifar_training, digit_training
from bench.digit_training import RATE, Task, keep, recall, train

QUICK_SIZES = {"dim": 32, "heads": 2, "hidden": 64, "depth": 1}
QUICK_STEPS = ("softmax", "binary", "+ shift", "+ mixture")
TUNING_RATE = 1e-3
BALANCE = 0.01  # of the routers' losses, as published


@dataclass(frozen=True)
class Images:
    """What is trained on, how large a network, and for how long: the first one, and each step."""

    task: Callable[[], Task]
    untrained: Callable[..., nn.Module]
    sizes: dict[str, int]
    first: int
    epochs: int


IMAGES = {
    "digits": Images(
        digit_training.task,
        digit_training.untrained,
        {"dim": 64, "heads": 4, "hidden": 256, "depth": 4},
        first=20,
        epochs=20,
    ),
    "cifar": Images(
        cifar_training.task,
        cifar_training.untrained,
        {"dim": 64, "heads": 4, "hidden": 256, "depth": 4},
        first=24,
        epochs=6,
    ),
}


@dataclass(frozen=True)
class Step:
    """A network: what it is made from, what is converted in it, and how often it is tuned."""

    name: str
    before: str | None = None
    plan: Any = None
    times: int = 1


def steps(dim: int, hidden: int) -> tuple[Step, ...]:
    """The networks in the order in which they are trained."""
    latencies = expert_latencies(dim, hidden)
    return (
        Step("softmax"),
        # A mixture has been tuned three times when it is done.
        Step("softmax, tuned on", "softmax", {}, times=3),
        Step("linear", "softmax", BinaryAttention(binary=False)),
        Step("binary", "softmax", BinaryAttention()),
        Step("+ shift", "binary", {"blocks.*.attn.*": Shifts()}),
        Step("+ mixture", "+ shift", {"blocks.*.mlp": Mixture(latencies)}),
        Step("+ mixture, half", "+ shift", {"blocks.*.mlp": Mixture()}),
        Step("all shift", "+ shift", {"blocks.*.mlp.*": Shifts()}),
    )


@dataclass(frozen=True)
class Run:
    """One way through the steps."""

    images: str
    data: Task
    sizes: dict[str, int]
    first: int
    epochs: int
    seed: int
    quick: bool
    path: Path | None

    def networks(self) -> Iterator[tuple[str, nn.Module]]:
        """Every network, trained here or by an earlier run."""
        made: dict[str, nn.Module] = {}
        for step in steps(self.sizes["dim"], self.sizes["hidden"]):
            if self.quick and step.name not in QUICK_STEPS:
                continue
            if step.before is None:
                model, epochs = IMAGES[self.images].untrained(self.seed, **self.sizes), self.first
            else:
                torch.manual_seed(self.seed)
                model = convert(made[step.before], step.plan).model
                epochs = step.times * self.epochs
            kept = self._kept(step.name)
            if not recall(model, kept):
                fit(model, self.data, epochs, self.seed, tuning=step.before is not None)
                keep(model, kept)
            made[step.name] = model
            yield step.name, model

    def _kept(self, name: str) -> Path | None:
        """Where weights stay; those of digits are of 20 epochs a step, say, and seed 0."""
        if self.path is None:
            return None
        length = f"{self.first}-{self.epochs}-{self.seed}"
        return self.path / f"shiftadd-{self.images}-{name.replace(' ', '-')}-{length}.pt"


def fit(model: nn.Module, data: Task, epochs: int, seed: int, *, tuning: bool) -> None:
    """Train, with the routers' losses where there are routers."""
    routed = any(isinstance(module, Router) for module in model.modules())
    train(
        model,
        data,
        epochs,
        seed=seed,
        rate=TUNING_RATE if tuning else RATE,
        more_loss=lambda: BALANCE * balance_loss(model) if routed else 0.0,
    )
