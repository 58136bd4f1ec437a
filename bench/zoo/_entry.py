"""What an entry of the zoo is: a trained network, the real data it was made for, and its metric."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn


class Batch(NamedTuple):
    """Real inputs, as the network takes them one after another, and what should come out."""

    inputs: tuple[np.ndarray, ...]
    targets: np.ndarray


Data = Callable[[int | None, int], Iterator[Batch]]
Predict = Callable[..., Any]


@dataclass(frozen=True)
class Sanity:
    """A figure that the entry must show on its first `limit` examples, in float32.

    The tolerance covers what another processor's rounding may move: an image at the border of two
    classes.
    """

    metric: str
    value: float
    tolerance: float
    limit: int | None = None


@dataclass(frozen=True)
class Entry:
    """A real model with real data.

    Attributes:
        name: short, unique, kebab-case.
        build: a new module in evaluation mode with its trained weights.
        data: `data(limit, batch)` yields the first `limit` examples (None: all) in batches; a
            limit takes a sample over all classes, not the first of them.
        dynamic_shapes: as `torch.export.export` takes them.
        decide: what a user reads off an output [B, ...]: a class, a token, an 8-bit pixel.
        score: metrics of all outputs against all targets, each a list over batches.
        sanity: a figure that was measured before, and must come out again.
        missing: why the entry cannot be used here; empty if it can.
        examples: inputs of so many examples, where one batch of `data` does not serve.
    """

    name: str
    build: Callable[[], nn.Module]
    data: Data
    dynamic_shapes: tuple[Mapping[int, Any], ...]
    decide: Callable[[np.ndarray], np.ndarray]
    score: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], dict[str, float]]
    sanity: Sanity
    missing: Callable[[], str] = field(default=lambda: "")
    examples: Callable[[int], tuple[np.ndarray, ...]] | None = None

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """Real inputs of `batch` examples, for export."""
        if self.examples is not None:
            arrays = self.examples(batch)
        else:
            arrays = next(self.data(batch, batch)).inputs
        return tuple(torch.from_numpy(array) for array in arrays)


@dataclass(frozen=True)
class Agreement:
    """How a candidate's outputs on real data compare with the reference's.

    `same` is the share of equal decisions; `difference` the largest difference of outputs relative
    to the largest magnitude of the reference's output in the same batch.
    """

    examples: int
    same: float
    difference: float
    reference: dict[str, float]
    candidate: dict[str, float]


def torch_predict(module: nn.Module) -> Predict:
    """A module as a function of arrays, without gradients."""

    @torch.no_grad()
    def predict(*inputs: np.ndarray) -> np.ndarray:
        output: Tensor = module(*(torch.from_numpy(array) for array in inputs))
        return output.numpy()

    return predict


def outputs_of(entry: Entry, predict: Predict, limit: int | None, batch: int) -> list[np.ndarray]:
    """The outputs of any callable on the entry's data, one array a batch."""
    return [np.asarray(predict(*inputs)) for inputs, _ in entry.data(limit, batch)]


def evaluate(
    entry: Entry, predict: Predict, limit: int | None = None, *, batch: int = 50
) -> dict[str, float]:
    """The entry's metrics of any callable that takes and returns arrays."""
    targets = [targets for _, targets in entry.data(limit, batch)]
    return entry.score(outputs_of(entry, predict, limit, batch), targets)


def compare(
    entry: Entry,
    reference: Predict,
    candidate: Predict,
    limit: int | None = None,
    *,
    batch: int = 50,
) -> Agreement:
    """Two callables on the same real data: decisions, outputs and metrics side by side."""
    before = outputs_of(entry, reference, limit, batch)
    after = outputs_of(entry, candidate, limit, batch)
    targets = [targets for _, targets in entry.data(limit, batch)]
    same = [entry.decide(a) == entry.decide(b) for a, b in zip(before, after, strict=True)]
    differences = [
        float(np.abs(b - a).max() / max(np.abs(a).max(), np.finfo(a.dtype).tiny))
        for a, b in zip(before, after, strict=True)
    ]
    return Agreement(
        examples=sum(len(array) for array in targets),
        same=float(np.concatenate([array.ravel() for array in same]).mean()),
        difference=max(differences),
        reference=entry.score(before, targets),
        candidate=entry.score(after, targets),
    )
