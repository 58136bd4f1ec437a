"""The networks whose weights are rounded: what calibrates them, and what judges them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from bench import zoo
from bench.zoo import deit, minilm, prose, tinystories

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Task:
    """A trained network with disjoint data to calibrate and to judge by.

    Attributes:
        entry: The network, its metric, and what a user reads off its outputs.
        calibration: Inputs, one tuple a batch, from a seed.
        judging: Batches with what should come out.
        metric: Which figure of `entry.score` is shown.
        skip: Linear layers that stay as they are: the head.
        keep: The same, and what else a compiler might take for a linear layer, by names.
    """

    entry: zoo.Entry
    calibration: Callable[[int], list[Arrays]]
    judging: Callable[[bool], list[zoo.Batch]]
    metric: str
    skip: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


def _image_halves(quick: bool) -> tuple[list[zoo.Batch], list[zoo.Batch]]:
    """Every fourth image calibrates, the others judge: 125 and 375 of 500, in batches of 25."""
    (batch,) = zoo.entry("deit-tiny").data(None, 500)
    chosen = np.arange(len(batch.targets)) % 4 == 0
    parts = []
    for mask, limit in ((chosen, None), (~chosen, 50 if quick else None)):
        images, labels = batch.inputs[0][mask][:limit], batch.targets[mask][:limit]
        starts = range(0, len(labels), 25)
        parts.append([zoo.Batch((images[i : i + 25],), labels[i : i + 25]) for i in starts])
    return parts[0], parts[1]


@torch.no_grad()
def told_stories(seed: int, count: int = 32, length: int = 96) -> list[Arrays]:
    """Stories that the small Llama tells itself: there is no other text for it here."""
    model = tinystories.stories260k()
    source = torch.Generator().manual_seed(seed)
    tokens = torch.tensor([tinystories.tokenizer().encode("")] * count)
    for _ in range(length - 1):
        likely = model(tokens)[:, -1].softmax(-1)
        tokens = torch.cat([tokens, torch.multinomial(likely, 1, generator=source)], dim=1)
    return [(part.numpy(),) for part in tokens.split(8)]


def _data(entry: zoo.Entry, few: int) -> Callable[[bool], list[zoo.Batch]]:
    return lambda quick: list(entry.data(few if quick else None, 24))


def _prose(seed: int) -> list[Arrays]:
    return [(part,) for part in np.split(prose.calibration(64, seed), 8)]


TASKS: dict[str, Task] = {
    "llama-stories260k": Task(
        tinystories.ENTRIES[0], told_stories, _data(tinystories.ENTRIES[0], 5), "perplexity"
    ),
    "llama-prose": Task(prose.ENTRIES[0], _prose, _data(prose.ENTRIES[0], 6), "perplexity"),
    "minilm-l6": Task(
        minilm.ENTRIES[0],
        lambda seed: list(minilm.training_sentences(512, seed)),
        _data(minilm.ENTRIES[0], 100),
        "spearman",
    ),
    "deit-tiny": Task(
        deit.ENTRIES[0],
        lambda seed: [batch.inputs for batch in _image_halves(False)[0]],
        lambda quick: _image_halves(quick)[1],
        "top1",
        skip=("head",),
        keep=("head*", "patch_embed*"),
    ),
}


NAMES = tuple(TASKS)


def available(names: list[str]) -> Iterator[Task]:
    """The tasks of these names whose files are here; says which are not."""
    for name in names:
        reason = TASKS[name].entry.missing()
        if reason:
            print(f"{name}: skipped: {reason}")
        else:
            yield TASKS[name]
