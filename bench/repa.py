"""Idle channels: what a feed-forward part loses when most of it is linear, and what folding gives.

    python -m bench.repa [--quick] [--seed N] [--seeds COUNT] [--epochs N] [--keep FOLDER]

Vision transformers are trained on noisy digits with 0, 25, 50 and 75 % of the hidden channels idle
(`addax.frontend.layers.ChannelIdleFeedForward`), with the batch norms of RePaViT, and at 75 % with
a LayerNorm for contrast, beside the plain network; then folded. Latency is that of ONNX Runtime,
one thread, one image, of the trained networks and of the same structures at the size of ViT-Tiny
with random weights. With `--keep` trained weights stay in a folder, and a later run starts from
them.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from addax.demo.vit import DigitsViT, Mlp, VisionTransformer
from addax.frontend import to_ir
from addax.frontend.layers import ChannelIdleFeedForward
from bench.depth import summary, timed
from bench.digit_training import Task, folded, judge, keep, recall, task, train, untrained
from bench.measure import arguments, emit_json, table

Form = Callable[[int, int], nn.Module]
FORMS: dict[str, Form] = {
    "plain": Mlp,
    **{
        f"{ratio:.0%} idle": partial(ChannelIdleFeedForward, idle_ratio=ratio)
        for ratio in (0.0, 0.25, 0.5, 0.75)
    },
    "75% idle, LayerNorm": partial(ChannelIdleFeedForward, idle_ratio=0.75, norm="layer"),
}
QUICK_FORMS = ("plain", "75% idle")
SIZES = {"dim": 64, "heads": 4, "hidden": 256, "depth": 4}
TINY = {"image": 224, "patch": 16, "channels": 3, "classes": 1000, "dim": 192, "heads": 3}
EPOCHS, QUICK_EPOCHS = 20, 1


def without_second_norm(model: Any, name: str) -> Any:
    """Leave the norm before the feed-forward part to the part itself, where it has one."""
    if name != "plain":
        for block in model.blocks:
            block.norm2 = nn.Identity()
    return model


def network(name: str, data: Task, epochs: int, seed: int, path: Path | None) -> DigitsViT:
    """One network, trained here or by an earlier run."""
    model: DigitsViT = without_second_norm(untrained(seed, mlp=FORMS[name], **SIZES), name)
    kept = path and path / f"repa-{name.replace(' ', '-')}-{epochs}-{seed}.pt"
    if not recall(model, kept):
        train(model, data, epochs, seed=seed)
        keep(model, kept)
    return model


def at_size_of_vit_tiny(images: Tensor) -> dict[str, Any]:
    """Networks at ViT-Tiny's size with random weights: plain, as trained, and folded."""
    graphs = {}
    for name, mlp in FORMS.items():
        model = VisionTransformer(**TINY, depth=12, hidden=768, mlp=mlp)
        model = without_second_norm(model, name).eval()
        if name == "75% idle":
            graphs[f"{name}, as trained"] = to_ir(model, images)
        graphs[name] = folded(model, torch.cat([images, images])).model
    return graphs


def main(argv: list[str] | None = None) -> None:
    """Train, fold, compare, time."""
    parser = arguments("repa", "What idle channels lose, and what folding them gives.")
    parser.add_argument("--seeds", type=int, default=2, help="networks of each form (default 2)")
    parser.add_argument("--epochs", type=int, help=f"of training (default {EPOCHS})")
    parser.add_argument("--keep", type=Path, help="folder for trained weights (default: none)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = QUICK_FORMS if options.quick else tuple(FORMS)
    epochs = options.epochs or (QUICK_EPOCHS if options.quick else EPOCHS)
    seeds = range(options.seed, options.seed + (1 if options.quick else options.seeds))

    data = task()
    rows, graphs = [], {}
    for seed in seeds:
        for name in names:
            model = network(name, data, epochs, seed, options.keep)
            made = folded(model, data.test_images)
            rows.append({"network": name, "seed": seed, **judge(model, made, data)})
            graphs[name] = made.model
    table(f"noisy digits, {epochs} epochs, seeds {list(seeds)}", list(summary(rows)))
    rounds = 5 if options.quick else 30
    figures = {"epochs": epochs, "networks": rows}
    figures["latency"] = timed("folded, 17 tokens of 64", graphs, data.test_images, rounds)
    if not options.quick:
        images = torch.zeros(1, 3, 224, 224)
        tiny = at_size_of_vit_tiny(images)
        figures["latency_vit_tiny"] = timed("ViT-Tiny's size", tiny, images, rounds)
    emit_json("repa", figures, seed=options.seed)


if __name__ == "__main__":
    main()
