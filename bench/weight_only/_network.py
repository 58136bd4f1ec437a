"""A task at work: the network, what its layers read, what it answers; and how others compare."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench import zoo
from bench.weight_only._layers import linears, output_error, second_moments, with_weights
from bench.weight_only.tasks import Task


@dataclass(frozen=True)
class Rounded:
    """Weights[N, K] of all layers in few bits, and the bytes that they take with their scales."""

    weights: Mapping[str, Tensor]
    bytes: int


@dataclass(frozen=True)
class Judged:
    """How a network does.

    Attributes:
        score: The task's metric.
        same: Percentage of the decisions that the original network takes.
        error: Root mean square of the difference of all outputs, relative to theirs.
    """

    score: float
    same: float
    error: float


class Network:
    """A trained network with its calibration data read once.

    Args:
        task: The task.
        quick: Less to judge by.
        seed: Of the calibration data.
        fits: A folder that keeps our fits, for a run that goes on later.
    """

    def __init__(
        self, task: Task, *, quick: bool = False, seed: int = 0, fits: Path | None = None
    ) -> None:
        self.task = task
        self.fits = fits
        self.model: nn.Module = task.entry.build()
        self.layers = linears(self.model, task.skip)
        self.calibration = task.calibration(seed)
        self.judging = task.judging(quick)

    @functools.cached_property
    def weights(self) -> dict[str, Tensor]:
        """The layers' weights, float64 [N, K]."""
        return {name: part.weight.detach().double() for name, part in self.layers.items()}

    @functools.cached_property
    def moments(self) -> dict[str, Tensor]:
        """Second moments of what the layers read in the original network, float64 [K, K]."""
        batches = [tuple(map(torch.from_numpy, arrays)) for arrays in self.calibration]
        return second_moments(self.model, self.layers, batches)

    @functools.cached_property
    def outputs(self) -> list[np.ndarray]:
        """What the original network answers."""
        return self.answers(zoo.torch_predict(self.model))

    @property
    def size(self) -> int:
        """How many weights the layers have."""
        return sum(weight.numel() for weight in self.weights.values())

    def answers(self, predict: zoo.Predict) -> list[np.ndarray]:
        """The outputs of any callable on the data that judges."""
        return [np.asarray(predict(*batch.inputs)) for batch in self.judging]

    def judge(self, predict: zoo.Predict) -> Judged:
        """How any callable does."""
        found, entry = self.answers(predict), self.task.entry
        score = entry.score(found, [batch.targets for batch in self.judging])
        pairs = list(zip(self.outputs, found, strict=True))
        same = np.concatenate([(entry.decide(a) == entry.decide(b)).ravel() for a, b in pairs])
        wrong = sum(float(np.square(a - b, dtype=np.float64).sum()) for a, b in pairs)
        right = sum(float(np.square(a, dtype=np.float64).sum()) for a, _ in pairs)
        return Judged(score[self.task.metric], 100 * float(same.mean()), (wrong / right) ** 0.5)

    def judge_rounded(self, rounded: Rounded) -> Judged:
        """How the network does with rounded weights, in torch."""
        return self.judge(zoo.torch_predict(with_weights(self.model, rounded.weights)))

    def layer_error(self, rounded: Rounded) -> float:
        """The mean over the layers of their outputs' relative error."""
        errors = [
            output_error(weight, rounded.weights[name], self.moments[name])
            for name, weight in self.weights.items()
        ]
        return float(np.mean(errors))


Method = Callable[[Network], Rounded]
