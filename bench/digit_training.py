"""Small vision transformers trained on noisy digits, by seed, and what folding does to them.

The 8 x 8 digits of scikit-learn (split as in `train_digits`) in Gaussian noise of 0.3 of white, so
that depth and width matter. Training shifts, turns and zooms them and draws the noise anew for
every batch; the 360 held-out digits are drawn ten times each, with a generator of their own, so
that 3600 images judge every network: one standard error is about half a point.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import addax
from addax.demo.vit import DigitsViT
from addax.frontend import to_ir
from addax.ir.model import clone
from addax.ir.shapes import infer_shapes
from addax.report import Size
from bench.measure import Timings, interleave
from bench.sessions import caller
from bench.train_digits import augment, split, tensors

NOISE, DRAWS, TEST_SEED = 0.3, 10, 1_000_003
BATCH, RATE, DECAY, SMOOTHING = 32, 2e-3, 0.05, 0.1
CHUNK = 600  # test images run at once
LINEAR = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Task:
    """Images [M, C, H, W] to train on, and fixed ones to judge by.

    `drawn` makes of a batch what training sees of it, anew each time.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    drawn: Callable[[Tensor], Tensor]


def task() -> Task:
    """The digits and 3600 noisy ones; the same for every seed of training."""
    parts = split()
    digits, labels = tensors(parts.train_levels, parts.train_labels)
    held, held_labels = tensors(parts.test_levels, parts.test_labels)
    generator = torch.Generator().manual_seed(TEST_SEED)
    held = held.repeat(DRAWS, 1, 1, 1)
    noise = torch.randn(held.shape, generator=generator)
    return Task(digits, labels, held + NOISE * noise, held_labels.repeat(DRAWS), drawn=noisy)


def noisy(digits: Tensor) -> Tensor:
    """Digits [B, 1, 8, 8] moved a little, in noise."""
    moved = augment(digits)
    return moved + NOISE * torch.randn_like(moved)


def untrained(seed: int, **sizes: Any) -> DigitsViT:
    """A network with weights drawn by the seed; `sizes` as `DigitsViT` takes them."""
    torch.manual_seed(seed)
    model = DigitsViT(**sizes)
    nn.init.normal_(model.cls_token, std=0.3)
    nn.init.normal_(model.pos_embed, std=0.3)
    return model


def updates(data: Task, epochs: int) -> int:
    """Updates of the weights in so many epochs."""
    return epochs * (len(data.images) // BATCH)


def train(
    model: nn.Module,
    data: Task,
    epochs: int,
    *,
    seed: int,
    rate: float = RATE,
    more_loss: Callable[[], Tensor | float] = lambda: 0.0,
    after_update: Callable[[], None] = lambda: None,
) -> None:
    """Train with AdamW and one cycle of the learning rate, and leave it in evaluation mode.

    `more_loss` is added to the loss of every batch after the model has seen it; `after_update` is
    called after every update of the weights.
    """
    torch.manual_seed(seed)
    steps = updates(data, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=epochs * steps, pct_start=0.1
    )
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(data.images))[: steps * BATCH].split(BATCH):
            logits = model(data.drawn(data.images[chosen]))
            loss = functional.cross_entropy(logits, data.labels[chosen], label_smoothing=SMOOTHING)
            loss = loss + more_loss()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            after_update()
    model.eval()


def recall(model: nn.Module, kept: Path | None) -> bool:
    """Load the weights that an earlier run left, if it did; the model is then ready for use."""
    if kept is None or not kept.exists():
        return False
    model.load_state_dict(torch.load(kept, weights_only=True))
    model.eval()
    return True


def keep(model: nn.Module, kept: Path | None) -> None:
    """Leave the weights for a later run."""
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), kept)


@torch.no_grad()
def logits_of(predict: Callable[[Tensor], Tensor], data: Task) -> np.ndarray:
    """Logits [N, 10] of the test images."""
    return torch.cat([predict(part) for part in data.test_images.split(CHUNK)]).double().numpy()


def folded(model: nn.Module, images: Tensor) -> addax.Optimized:
    """A network through every exact pass, for any number of images."""
    return addax.optimize(model, images[:2], dynamic_shapes={0: "batch"}, progress=False)


def judge(model: nn.Module, made: addax.Optimized, data: Task) -> dict[str, Any]:
    """Accuracy of a network before and after folding, and its size, for one image."""
    before, after = logits_of(model, data), logits_of(made, data)
    labels = data.test_labels.numpy()
    report = made.report
    return {
        "accuracy": float((before.argmax(1) == labels).mean()),
        "accuracy_folded": float((after.argmax(1) == labels).mean()),
        "same_predictions": int((before.argmax(1) == after.argmax(1)).sum()),
        "images": len(labels),
        "difference": float(np.abs(before - after).max() / np.abs(before).max()),
        "linear_nodes": linear_nodes(to_ir(model, data.test_images[:2])),
        "linear_nodes_folded": linear_nodes(made.model),
        "multiplies": report.before.cost.multiplies,
        "multiplies_folded": report.after.cost.multiplies,
        "weights_folded": report.after.weight_bytes // 4,
    }


def linear_nodes(graph: Any) -> int:
    """Nodes that multiply matrices: linear maps, and the two products of each attention."""
    return sum(node.op_type in LINEAR for node in graph.graph.all_nodes())


def latency(models: dict[str, Any], images: Tensor, rounds: int) -> Timings:
    """One example, in turn, in ONNX Runtime on one thread.

    `models` has graphs, or what `addax.optimize` made, by name.
    """
    feed = images[:1].numpy()
    calls = {name: caller(network, feed) for name, network in models.items()}
    return interleave(calls, rounds=rounds)


def size_of(graph: Any) -> int:
    """Multiplications for one example; what an exporter left unsaid of shapes is inferred."""
    known = clone(graph)
    infer_shapes(known)
    return Size.of(known).cost.multiplies
