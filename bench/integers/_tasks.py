"""The networks, and three disjoint parts of their data: to calibrate, to choose by, to judge by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from addax.demo import load_images, load_model
from bench import zoo
from bench.stress import stretched
from bench.zoo import minilm
from bench.zoo.deit import classes, top1

Arrays = tuple[np.ndarray, ...]
Score = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], dict[str, float]]

STRETCHED = "digits, stretched"
BATCH = 16
PUBLISHED_CALIBRATION = 32  # images, as in the papers


@dataclass(frozen=True)
class Task:
    """A network with its data.

    Attributes:
        name: Of the network.
        model: In float32.
        dynamic_shapes: As `torch.export.export` takes them.
        calibration: Inputs, one tuple a batch.
        tuning: Batches to make choices by.
        judging: Batches to judge by, in which no choice has seen anything.
        decide: What a user reads off an output.
        score: The metric, of all outputs against all targets.
        folds: Whether its norms are read by linear layers alone, so that they can be folded.
    """

    name: str
    model: nn.Module
    dynamic_shapes: tuple[dict[int, torch.export.Dim], ...]
    calibration: list[Arrays]
    tuning: list[zoo.Batch]
    judging: list[zoo.Batch]
    decide: Callable[[np.ndarray], np.ndarray] = classes
    score: Score = top1
    folds: bool = True

    @property
    def example(self) -> tuple[Tensor, ...]:
        """Inputs to export with."""
        return tuple(torch.from_numpy(array[:2]) for array in self.calibration[0])

    def few(self, seed: int) -> Tensor:
        """As many images as the papers calibrate on, drawn from the calibration part."""
        images = np.concatenate([inputs[0] for inputs in self.calibration])
        chosen = np.random.default_rng(seed).choice(
            len(images), PUBLISHED_CALIBRATION, replace=False
        )
        return torch.from_numpy(images[chosen])


def _batches(images: np.ndarray, labels: np.ndarray) -> list[zoo.Batch]:
    starts = range(0, len(images), BATCH)
    return [zoo.Batch((images[i : i + BATCH],), labels[i : i + BATCH]) for i in starts]


def _spaced(count: int, wanted: int) -> np.ndarray:
    """A mask with so many of `count`, evenly spaced."""
    mask = np.zeros(count, bool)
    mask[np.linspace(0, count - 1, wanted).astype(int)] = True
    return mask


def digits(seed: int, limit: int | None, *, stretch: bool = False) -> Task:
    """The demo: 256 training images calibrate; of the held-out ones 60 tune and 300 judge."""
    model = stretched(load_model(), seed) if stretch else load_model()
    images, labels = load_images("test")
    tuning = _spaced(len(images), 60)
    calibration = _batches(*load_images("calibration"))
    return Task(
        STRETCHED if stretch else "digits",
        model,
        ({0: torch.export.Dim("batch")},),
        [batch.inputs for batch in calibration],
        _batches(images[tuning], labels[tuning]),
        _batches(images[~tuning][:limit], labels[~tuning][:limit]),
    )


def deit(seed: int, limit: int | None) -> Task:
    """DeiT-Tiny: of 500 images, one a class, 64 calibrate, 36 tune and 400 judge."""
    del seed
    entry = zoo.entry("deit-tiny")
    found = list(entry.data(None, BATCH))
    images = np.concatenate([batch.inputs[0] for batch in found])
    labels = np.concatenate([batch.targets for batch in found])
    calibrates = _spaced(len(images), 64)
    others = np.flatnonzero(~calibrates)
    tunes = _spaced(len(others), 36)
    calibration, tuning, rest = np.flatnonzero(calibrates), others[tunes], others[~tunes]
    if limit is not None:
        rest = rest[_spaced(len(rest), min(limit, len(rest)))]
    return Task(
        entry.name,
        entry.build(),
        entry.dynamic_shapes,
        [batch.inputs for batch in _batches(images[calibration], labels[calibration])],
        _batches(images[tuning], labels[tuning]),
        _batches(images[rest], labels[rest]),
    )


def sentences(seed: int, limit: int | None) -> Task:
    """MiniLM: 512 sentences of STS-B's training part calibrate; of its dev pairs 1/6 tune."""
    entry = zoo.entry("minilm-l6")
    pairs = list(entry.data(limit, 25))
    return Task(
        entry.name,
        entry.build(),
        entry.dynamic_shapes,
        minilm.training_sentences(512, seed),
        pairs[5::6],
        [batch for i, batch in enumerate(pairs) if i % 6 != 5],
        entry.decide,
        entry.score,
        folds=False,
    )


TASKS: dict[str, Callable[[int, int | None], Task]] = {
    "digits": digits,
    STRETCHED: lambda seed, limit: digits(seed, limit, stretch=True),
    "deit-tiny": deit,
    "minilm-l6": sentences,
}
