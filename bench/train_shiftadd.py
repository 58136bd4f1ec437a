"""A vision transformer on its way to shifts and adds: what each step of ShiftAddViT costs.

    python -m bench.train_shiftadd [--quick] [--seed N] [--seeds COUNT] [--epochs N] [--keep DIR]

A softmax transformer is trained on noisy digits, and each network is converted from the one before
it (`addax.frontend.layers.convert`) and tuned: linear attention, binary linear attention, shift
maps around it, and then a mixture of Mult and Shift experts, or shift maps, in the feed-forward
parts. A softmax transformer that is tuned as often is there for comparison. The router's split is
compared with the theory of its loss, and a picture shows which patches were sent where. Frozen
networks go through `addax.optimize`; whether they still say the same of every test image is
counted, also with mixtures routed and powers of two as codes, whose kernels round activations to
int8. Energy is that of the papers' 45 nm figures for the products, a model and no measurement.
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
from addax.frontend.layers import (
    BinaryAttention,
    Mixture,
    MixtureFeedForward,
    Router,
    Shifts,
    balance_loss,
    convert,
    expert_latencies,
    freeze,
)
from bench.digit_training import RATE, Task, folded, keep, logits_of, recall, task, train, untrained
from bench.measure import arguments, emit_json, table
from bench.operation_counts import counts

SIZES = {"dim": 64, "heads": 4, "hidden": 256, "depth": 4}
QUICK_SIZES = {"dim": 32, "heads": 2, "hidden": 64, "depth": 1}
EPOCHS, QUICK_EPOCHS = 20, 1
QUICK_STEPS = ("softmax", "binary", "+ shift", "+ mixture")
TUNING_RATE = 1e-3
BALANCE = 0.01  # of the routers' losses, as published
GRID = 4  # patches along a side


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


def networks(
    data: Task, sizes: dict[str, int], epochs: int, seed: int, path: Path | None, quick: bool
) -> Iterator[tuple[str, nn.Module]]:
    """Every network, trained here or by an earlier run."""
    made: dict[str, nn.Module] = {}
    for step in steps(sizes["dim"], sizes["hidden"]):
        if quick and step.name not in QUICK_STEPS:
            continue
        if step.before is None:
            model: nn.Module = untrained(seed, **sizes)
        else:
            torch.manual_seed(seed)
            model = convert(made[step.before], step.plan).model
        kept = path and path / f"shiftadd-{step.name.replace(' ', '-')}-{epochs}-{seed}.pt"
        if not recall(model, kept):
            fit(model, data, step.times * epochs, seed, tuning=step.before is not None)
            keep(model, kept)
        made[step.name] = model
        yield step.name, model


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


@torch.no_grad()
def choices(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """For each mixture, whether each token [B, T] of the images goes to the Mult expert."""
    seen: dict[str, Tensor] = {}
    handles = [
        module.router.register_forward_hook(
            lambda _, __, made, name=name: seen.__setitem__(name, made[0] == 0)
        )
        for name, module in model.named_modules()
        if isinstance(module, MixtureFeedForward)
    ]
    model(images)
    for handle in handles:
        handle.remove()
    return seen


def judge(model: nn.Module, data: Task) -> dict[str, Any]:
    """Accuracy, the routers' split, work by kind, and whether the optimized network agrees."""
    frozen = freeze(model)
    before, after = logits_of(frozen, data), logits_of(folded(frozen, data.test_images), data)
    routed = logits_of(coded(frozen, data.test_images), data)
    chosen = choices(model, data.test_images)
    shares = {name: float(mult.double().mean()) for name, mult in chosen.items()}
    work = counts(model, data.test_images[:1], shares)
    return {
        "accuracy": float((before.argmax(1) == data.test_labels.numpy()).mean()),
        "same_predictions": int((before.argmax(1) == after.argmax(1)).sum()),
        "accuracy_coded": float((routed.argmax(1) == data.test_labels.numpy()).mean()),
        "same_predictions_coded": int((before.argmax(1) == routed.argmax(1)).sum()),
        "images": len(before),
        "difference": float(np.abs(before - after).max() / np.abs(before).max()),
        "mult_share": statistics.fmean(shares.values()) if shares else None,
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


def picture(model: nn.Module, images: Tensor) -> list[dict[str, Any]]:
    """Per cent of the images whose patch goes to Mult: a line for each row of patches."""
    shares = {
        name: mult.double().mean(dim=0) * 100 for name, mult in choices(model, images).items()
    }
    rows: list[dict[str, Any]] = [
        {"patches": "class token", **{name: f"{float(s[0]):.0f}" for name, s in shares.items()}}
    ]
    for row in range(GRID):
        line = slice(1 + row * GRID, 1 + (row + 1) * GRID)
        cells = {n: " ".join(f"{float(v):3.0f}" for v in s[line]) for n, s in shares.items()}
        rows.append({"patches": f"row {row}", **cells})
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
    """Train, convert, tune, count, compare."""
    parser = arguments("train_shiftadd", "What each step towards shifts and adds costs and saves.")
    parser.add_argument("--seeds", type=int, default=2, help="networks of each form (default 2)")
    parser.add_argument("--epochs", type=int, help=f"of each training (default {EPOCHS})")
    parser.add_argument("--keep", type=Path, help="folder for trained weights (default: none)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    sizes = QUICK_SIZES if options.quick else SIZES
    epochs = options.epochs or (QUICK_EPOCHS if options.quick else EPOCHS)
    seeds = range(options.seed, options.seed + (1 if options.quick else options.seeds))

    data = task()
    rows: list[dict[str, Any]] = []
    routed = None
    for seed in seeds:
        for name, model in networks(data, sizes, epochs, seed, options.keep, options.quick):
            rows.append({"network": name, "seed": seed, **judge(model, data)})
            routed = model if name == "+ mixture" else routed
    title = f"noisy digits, {epochs} epochs a step, seeds {list(seeds)}; to Mult: measured (theory)"
    table(title, list(shown(rows)))
    patches = [] if routed is None else picture(routed, data.test_images)
    table("test images whose patch goes to the Mult expert, %, by block", patches)
    figures = {"epochs": epochs, "sizes": sizes, "networks": rows, "patches": patches}
    emit_json("train_shiftadd", figures, seed=options.seed)


if __name__ == "__main__":
    main()
