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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import addax
from addax.frontend import to_ir
from addax.frontend.layers import (
    BinaryAttention,
    Mixture,
    Router,
    Shifts,
    balance_loss,
    convert,
    expert_latencies,
    freeze,
)
from bench import cifar_training, digit_training
from bench.digit_training import RATE, Task, folded, keep, latency, logits_of, recall, train
from bench.expert_choices import choices, draw, shares
from bench.measure import arguments, emit_json, table
from bench.operation_counts import counts

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


def judge(model: nn.Module, data: Task) -> dict[str, Any]:
    """Accuracy, the routers' split, work by kind, and whether the optimized network agrees."""
    frozen = freeze(model)
    before, after = logits_of(frozen, data), logits_of(folded(frozen, data.test_images), data)
    routed = logits_of(coded(frozen, data.test_images), data)
    chosen = choices(model, data.test_images)
    split = {name: float(mult.double().mean()) for name, mult in chosen.items()}
    work = counts(model, data.test_images[:1], split)
    return {
        "accuracy": float((before.argmax(1) == data.test_labels.numpy()).mean()),
        "same_predictions": int((before.argmax(1) == after.argmax(1)).sum()),
        "accuracy_coded": float((routed.argmax(1) == data.test_labels.numpy()).mean()),
        "same_predictions_coded": int((before.argmax(1) == routed.argmax(1)).sum()),
        "images": len(before),
        "difference": float(np.abs(before - after).max() / np.abs(before).max()),
        "mult_share": statistics.fmean(split.values()) if split else None,
        "mult_share_of_loss": theory(model),
        "multiplies": work.multiplies,
        "adds": work.adds,
        "shifts": work.shifts,
        "energy_nj": work.energy / 1000,
    }


def coded(model: nn.Module, images: Tensor) -> addax.Optimized:
    """A network whose mixtures are routed and whose powers of two are codes, for any batch."""
    return addax.optimize(
        model,
        images[:2],
        dynamic_shapes={0: "batch"},
        allow=("route-experts{dispatch=2}", "shift-weights"),
        progress=False,
    )


def theory(model: nn.Module) -> float | None:
    """alpha_1 / (alpha_0 + alpha_1), where the loss is smallest."""
    for module in model.modules():
        if isinstance(module, Router):
            return float(module.alpha[1] / module.alpha.sum())
    return None


def timed(networks: dict[str, nn.Module], images: Tensor, rounds: int) -> list[dict[str, Any]]:
    """Each network as exported, as optimized, and routed with codes; all in turn."""
    models: dict[tuple[str, str], Any] = {}
    for name, model in networks.items():
        frozen = freeze(model)
        models[name, "exported"] = to_ir(frozen, images[:1])
        models[name, "optimized"] = folded(frozen, images)
        models[name, "routed, codes"] = coded(frozen, images)
    timings = latency({" ".join(key): model for key, model in models.items()}, images, rounds)
    first = " ".join(next(iter(models)))
    rows: list[dict[str, Any]] = []
    for name in networks:
        alone = timings.seconds(f"{name} exported").p50
        row: dict[str, Any] = {"network": name, "exported, ms": alone * 1e3}
        for way in ("exported", "optimized", "routed, codes"):
            row[f"{way} / {first}"] = timings.ratio(f"{name} {way}", first)
        rows.append(row)
    return rows


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
    rows: list[dict[str, Any]] = []
    trained: dict[str, nn.Module] = {}
    for seed in seeds:
        run = Run(options.images, data, sizes, first, epochs, seed, options.quick, options.keep)
        for name, model in run.networks():
            rows.append({"network": name, "seed": seed, **judge(model, data)})
            trained.setdefault(name, model)
    title = f"{options.images}, {first} epochs and {epochs} a step, seeds {list(seeds)}"
    table(f"{title}; to Mult: measured (theory)", list(shown(rows)))
    routed = trained["+ mixture"]
    patches = shares(routed, data.test_images)
    table("test images whose patch goes to the Mult expert, %, by block", patches)
    if options.picture is not None:
        draw(routed, data.test_images, options.picture)
    times = timed(trained, data.test_images, rounds=5 if options.quick else 40)
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
