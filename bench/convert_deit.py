"""DeiT-Tiny converted and not tuned: what each step of ShiftAddViT does before any training.

    python -m bench.convert_deit [--quick] [--seed N] [--limit N]

A trained transformer is converted by `addax.frontend.layers.convert`, a part at a time and all
together, and runs as it is. Powers of two and mixtures are near what they stand for; linear and
binary attention have the weights of a softmax attention but are another function, which the papers
train for 100 epochs. Judged on ImageNet images by top-1, by how often the class is that of the
trained network, and by the size of the logits' change over that of the logits.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from addax.frontend.layers import BinaryAttention, Mixture, Shifts, convert, freeze
from bench import zoo
from bench.expert_choices import choices
from bench.measure import arguments, emit_json, table

LIMIT, QUICK_LIMIT, BATCH = 200, 4, 20
LAST = "blocks.11.attn"
ATTENTION, AROUND, FEED_FORWARD = "blocks.*.attn", "blocks.*.attn.*", "blocks.*.mlp"
PAPERS = Shifts(levels=15, scaled=False)


@dataclass(frozen=True)
class Form:
    """What is converted, in the order in which it is."""

    name: str
    plans: tuple[dict[str, Any], ...]


def forms(seed: int) -> tuple[Form, ...]:
    """Steps alone, and on top of each other; the seed draws the routers."""
    linear, binary = BinaryAttention(binary=False), BinaryAttention()
    mixture = {FEED_FORWARD: Mixture(seed=seed)}
    shift = {AROUND: Shifts()}
    return (
        Form("trained", ()),
        Form("shift", ({**shift, "blocks.*.mlp.*": Shifts()},)),
        Form("shift, as published", ({AROUND: PAPERS, "blocks.*.mlp.*": PAPERS},)),
        Form("mixture", (mixture,)),
        Form("shift around attention, mixture", ({**shift, **mixture},)),
        Form("linear attention, last block", ({LAST: linear},)),
        Form("binary attention, last block", ({LAST: binary},)),
        Form("linear attention", ({ATTENTION: linear},)),
        Form("binary attention", ({ATTENTION: binary},)),
        Form("binary attention, shift", ({ATTENTION: binary}, shift)),
        Form("binary attention, shift, mixture", ({ATTENTION: binary}, {**shift, **mixture})),
    )


def converted(model: nn.Module, form: Form) -> nn.Module:
    """A copy in this form, as it runs."""
    for plan in form.plans:
        model = convert(model, plan).model
    return freeze(model)


@torch.no_grad()
def logits_of(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """Logits [N, 1000] of images [N, 3, 224, 224]."""
    return torch.cat([model(part) for part in torch.from_numpy(images).split(BATCH)]).numpy()


def judge(logits: np.ndarray, trained: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """A form's logits beside those of the trained network, per cent."""
    classes = logits.argmax(1)
    change = np.linalg.norm(logits - trained) / np.linalg.norm(trained)
    return {
        "top-1": 100 * float((classes == labels).mean()),
        "same class": 100 * float((classes == trained.argmax(1)).mean()),
        "change of logits": 100 * float(change),
    }


def main(argv: list[str] | None = None) -> None:
    """Convert, run, compare."""
    parser = arguments(
        "convert_deit", "DeiT-Tiny in the forms of ShiftAddViT, not trained further."
    )
    parser.add_argument("--limit", type=int, help=f"images (default {LIMIT})")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    limit = options.limit or (QUICK_LIMIT if options.quick else LIMIT)
    entry = zoo.entry("deit-tiny")
    (batch,) = entry.data(limit, limit)
    images = batch.inputs[0]
    model = entry.build().eval()

    rows: list[dict[str, Any]] = []
    trained = np.zeros(0)
    for form in forms(options.seed):
        made = converted(model, form)
        logits = logits_of(made, images)
        trained = trained if form.plans else logits
        split = choices(made, torch.from_numpy(images[:BATCH])).values()
        share = float(np.mean([float(mult.double().mean()) for mult in split])) if split else None
        rows.append({"form": form.name, **judge(logits, trained, batch.targets), "to Mult": share})
    table(f"DeiT-Tiny, {len(images)} images, %, not tuned", rows)
    emit_json("convert_deit", {"images": len(images), "forms": rows}, seed=options.seed)


if __name__ == "__main__":
    main()
