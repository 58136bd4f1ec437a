"""A network beside the original: its metric, what it loses, decisions kept, error of outputs."""

from collections.abc import Callable

import numpy as np

from bench.integers._tasks import Task
from bench.zoo import Batch

Predict = Callable[..., np.ndarray]
Form = tuple[str, Callable[[], Predict]]


class Judge:
    """Holds what the original says of some batches, and compares others with it."""

    def __init__(self, task: Task, batches: list[Batch], original: Predict) -> None:
        self.task, self.batches = task, batches
        self.targets = [batch.targets for batch in batches]
        self.exact = [original(*batch.inputs) for batch in batches]
        ((self.metric, self.score),) = task.score(self.exact, self.targets).items()

    @property
    def examples(self) -> int:
        """How many examples judge."""
        return sum(map(len, self.targets))

    def row(self, predict: Predict) -> dict[str, float]:
        """The metric in percent, points lost, share of equal decisions, |y - y'| / |y|."""
        made = [predict(*batch.inputs) for batch in self.batches]
        score = self.task.score(made, self.targets)[self.metric]
        decide = self.task.decide
        same = [decide(a) == decide(b) for a, b in zip(made, self.exact, strict=True)]
        found, exact = np.concatenate(made), np.concatenate(self.exact)
        return {
            self.metric: score,
            "drop": self.score - score,
            "same": 100 * float(np.mean(np.concatenate(same))),
            "error": float(np.linalg.norm(found - exact) / np.linalg.norm(exact)),
        }
