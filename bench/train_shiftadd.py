"""A vision transformer on its way to shifts and adds: what each step of ShiftAddViT costs.

    python -m bench.train_shiftadd [--quick] [--seed N] [--seeds COUNT] [--epochs N] [--keep DIR]
                                   [--images digits|cifar] [--picture FILE]

A softmax transformer is trained on noisy digits, or on CIFAR-10 images, and each network is
converted from the one before it (`addax.frontend.layers.convert`) and tuned: linear attention,
binary linear attention, shift maps around it, and then a mixture of Mult and Shift experts, or
shift maps, in the feed-forward parts. A softmax transformer that is tuned as often is there for
comparison. The router's split is compared with the theory of its loss, and a picture shows which
patches were sent where. Frozen networks go through `addax.optimize`; whether they still say the
same of every test image is counted, also with mixtures routed and powers of two as codes, whose
kernels round activations to int8. Latency is that of ONNX Runtime, one thread, one image, as
exported and as optimized. Energy is that of the papers' 45 nm figures for the products, a model
and no measurement.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import addax
from addax.frontend import to_ir
from addax.frontend.layers import Router, freeze
from bench.digit_training import Task, folded, latency, logits_of
from bench.expert_choices import choices, draw, shares
from bench.measure import arguments, emit_json, table
from bench.operation_counts import counts
from bench.shiftadd_steps import IMAGES, QUICK_SIZES, Run

WAYS = ("exported", "optimized", "routed, codes")


@dataclass(frozen=True)
class Made:
    """A trained network, as it runs, and what `addax.optimize` makes of that for any batch."""

    model: nn.Module
    frozen: nn.Module
    optimized: addax.Optimized
    coded: addax.Optimized

    @classmethod
    def of(cls, model: nn.Module, images: Tensor) -> "Made":
        """Optimize a network by example images; also with mixtures routed and powers as codes."""
        frozen = freeze(model)
        coded = addax.optimize(
            frozen,
            images[:2],
            dynamic_shapes={0: "batch"},
            allow=("route-experts{dispatch=2}", "shift-weights"),
            progress=False,
        )
        return cls(model, frozen, folded(frozen, images), coded)


def judge(made: Made, data: Task) -> dict[str, Any]:
    """Accuracy, the routers' split, work by kind, and whether the optimized network agrees."""
    before, after = logits_of(made.frozen, data), logits_of(made.optimized, data)
    routed = logits_of(made.coded, data)
    chosen = choices(made.model, data.test_images)
    split = {name: float(mult.double().mean()) for name, mult in chosen.items()}
    work = counts(made.model, data.test_images[:1], split)
    return {
        "accuracy": float((before.argmax(1) == data.test_labels.numpy()).mean()),
        "same_predictions": int((before.argmax(1) == after.argmax(1)).sum()),
        "accuracy_coded": float((routed.argmax(1) == data.test_labels.numpy()).mean()),
        "same_predictions_coded": int((before.argmax(1) == routed.argmax(1)).sum()),
        "images": len(before),
        "difference": float(np.abs(before - after).max() / np.abs(before).max()),
        "mult_share": statistics.fmean(split.values()) if split else None,
        "mult_share_of_loss": theory(made.model),
        "multiplies": work.multiplies,
        "adds": work.adds,
        "shifts": work.shifts,
        "energy_nj": work.energy / 1000,
    }


def theory(model: nn.Module) -> float | None:
    """alpha_1 / (alpha_0 + alpha_1), where the loss is smallest."""
    for module in model.modules():
        if isinstance(module, Router):
            return float(module.alpha[1] / module.alpha.sum())
    return None


def timed(networks: dict[str, Made], images: Tensor, rounds: int) -> list[dict[str, Any]]:
    """Each network as exported for one image, as optimized, and routed with codes; all in turn."""
    models: dict[str, Any] = {}
    for name, made in networks.items():
        graphs = (to_ir(made.frozen, images[:1]), made.optimized, made.coded)
        models |= {f"{name} {way}": graph for way, graph in zip(WAYS, graphs, strict=True)}
    timings = latency(models, images, rounds)
    first = next(iter(models))
    return [
        {
            "network": name,
            "exported, ms": timings.seconds(f"{name} exported").p50 * 1e3,
            **{f"{way} / {first}": timings.ratio(f"{name} {way}", first) for way in WAYS},
        }
        for name in networks
    ]


def shown(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A line for each network: means over the seeds."""
    for name in dict.fromkeys(row["network"] for row in rows):
        mine = [row for row in rows if row["network"] == name]

        def mean(key: str, rows: list[dict[str, Any]] = mine) -> float:
            return statistics.fmean(row[key] for row in rows)

        split = "-"
        if mine[0]["mult_share"] is not None:
            split = f"{mean('mult_share'):.2f} ({mean('mult_share_of_loss'):.2f})"
        yield {
            "network": name,
            "accuracy, %": f"{100 * mean('accuracy'):.1f}",
            "to Mult": split,
            "multiplies / adds / shifts, k": " / ".join(
                f"{mean(kind) / 1000:.0f}" for kind in ("multiplies", "adds", "shifts")
            ),
            "energy, nJ": f"{mean('energy_nj'):.0f}",
            "changed by optimizing": changed(mine, "same_predictions"),
            "by codes": changed(mine, "same_predictions_coded"),
        }


def changed(rows: list[dict[str, Any]], key: str) -> str:
    """Images of all seeds that are given another class than before."""
    return str(sum(row["images"] - row[key] for row in rows))


def main(argv: list[str] | None = None) -> None:
    """Train, convert, tune, count, compare, time."""
    parser = arguments("train_shiftadd", "What each step towards shifts and adds costs and saves.")
    parser.add_argument("--images", choices=IMAGES, default="digits", help="default: digits")
    parser.add_argument("--seeds", type=int, default=2, help="networks of each form (default 2)")
    parser.add_argument("--epochs", type=int, help="of each step (default 20 digits, 6 CIFAR-10)")
    parser.add_argument("--keep", type=Path, help="folder for trained weights (default: none)")
    parser.add_argument("--picture", type=Path, help="where to draw which patch went where")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    images = IMAGES[options.images]
    sizes = QUICK_SIZES if options.quick else images.sizes
    epochs = options.epochs or (1 if options.quick else images.epochs)
    first = 1 if options.quick else images.first * epochs // images.epochs
    seeds = range(options.seed, options.seed + (1 if options.quick else options.seeds))

    data = images.task()
    trained = {
        (name, seed): model
        for seed in seeds
        for name, model in Run(
            options.images, data, sizes, first, epochs, seed, options.quick, options.keep
        ).networks()
    }
    rows: list[dict[str, Any]] = []
    networks: dict[str, Made] = {}
    for (name, seed), model in trained.items():
        made = Made.of(model, data.test_images)
        rows.append({"network": name, "seed": seed, **judge(made, data)})
        networks.setdefault(name, made)
    title = f"{options.images}, {first} epochs and {epochs} a step, seeds {list(seeds)}"
    table(f"{title}; to Mult: measured (theory)", list(shown(rows)))
    routed = networks["+ mixture"].model
    patches = shares(routed, data.test_images)
    table("test images whose patch goes to the Mult expert, %, by block", patches)
    if options.picture is not None:
        draw(routed, data.test_images, options.picture)
    times = timed(networks, data.test_images, rounds=5 if options.quick else 40)
    table("ONNX Runtime, one thread, one image: time over the first network's export", times)
    figures = {
        "images": options.images,
        "first_epochs": first,
        "epochs": epochs,
        "sizes": sizes,
        "networks": rows,
        "patches": patches,
        "latency": times,
    }
    emit_json("train_shiftadd", figures, seed=options.seed)


if __name__ == "__main__":
    main()
