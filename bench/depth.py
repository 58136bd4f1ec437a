"""Depth traded for parallel branches that merge: what is kept, and what it costs to run.

    python -m bench.depth [--quick] [--seed N] [--seeds COUNT] [--epochs N] [--keep FOLDER]

Vision transformers of twelve blocks' worth of weights are trained on noisy digits as 6 blocks of 2
branches, 4 of 3 and 3 of 4, joined progressively (`addax.frontend.layers`), beside plain ones of
12, 6, 4 and 3 blocks, all in the same way. Folding turns the first into networks of 6, 4 and 3
plain blocks. The latency is that of ONNX Runtime, one thread, one image: of the trained networks,
and of the same structures at the size of ViT-Tiny with random weights, where linear maps are what
counts. With `--keep` trained weights stay in a folder, and a later run starts from them.
"""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from addax.demo.vit import Attention, DigitsViT, Mlp, VisionTransformer
from addax.frontend import to_ir
from addax.frontend.layers import (
    JoiningSchedule,
    ParallelAttention,
    ParallelFeedForward,
    set_joining,
)
from bench.digit_training import (
    Task,
    folded,
    judge,
    keep,
    latency,
    linear_nodes,
    recall,
    size_of,
    task,
    train,
    untrained,
    updates,
)
from bench.measure import arguments, emit_json, table

# Blocks and branches.
FORMS = ((12, 1), (6, 2), (6, 1), (4, 3), (4, 1), (3, 4), (3, 1))
QUICK_FORMS = ((4, 1), (2, 2), (2, 1))
SIZES = {"dim": 64, "heads": 4, "hidden": 128}
TINY = {"image": 224, "patch": 16, "channels": 3, "classes": 1000}
EPOCHS, QUICK_EPOCHS = 20, 1
JOINED_BY = 0.6  # share of training after which the branches are joined


def name_of(blocks: int, branches: int) -> str:
    """What a form is called in tables: 6x2 has 6 blocks of 2 branches."""
    return f"{blocks}x{branches}" if branches > 1 else str(blocks)


def builders(branches: int) -> dict[str, Any]:
    """The two halves of a block."""
    if branches == 1:
        return {"attention": Attention, "mlp": Mlp}
    return {
        "attention": lambda dim, heads: ParallelAttention(dim, heads, branches),
        "mlp": lambda dim, hidden: ParallelFeedForward(dim, hidden, branches),
    }


def network(blocks: int, branches: int, data: Task, epochs: int, seed: int, path: Any) -> DigitsViT:
    """One network, trained here or by an earlier run."""
    model = untrained(seed, depth=blocks, **SIZES, **builders(branches))
    kept = path and path / f"depth-{name_of(blocks, branches)}-{epochs}-{seed}.pt"
    if recall(model, kept):
        return model
    if branches == 1:
        train(model, data, epochs, seed=seed)
    else:
        schedule = JoiningSchedule(model, updates(data, epochs), end=JOINED_BY)
        train(model, data, epochs, seed=seed, after_update=schedule.step)
    keep(model, kept)
    return model


def at_size_of_vit_tiny(forms: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Networks at ViT-Tiny's size with random weights: as exported, and folded."""
    graphs = {}
    images = torch.zeros(1, 3, 224, 224)
    for blocks, branches in forms:
        model = VisionTransformer(
            **TINY, dim=192, depth=blocks, heads=3, hidden=768, **builders(branches)
        ).eval()
        if branches > 1:
            set_joining(model, 1)
            graphs[f"{name_of(blocks, branches)} as trained"] = to_ir(model, images)
        made = folded(model, torch.zeros(2, 3, 224, 224))
        graphs[name_of(blocks, branches)] = made.model
    return graphs


def timed(title: str, graphs: dict[str, Any], images: Any, rounds: int) -> list[dict[str, Any]]:
    """Time graphs by name against the first of them, and print it."""
    timings = latency(graphs, images, rounds)
    first = next(iter(graphs))
    rows = [
        {
            "network": name,
            "linear nodes": linear_nodes(graph),
            "MMAC": size_of(graph) / 1e6,
            "ms": timings.seconds(name).p50 * 1e3,
            f"over {first}": timings.ratio(name, first),
        }
        for name, graph in graphs.items()
    ]
    table(title, rows)
    return rows


def summary(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One line a network: accuracies by seed, and what folding did to the graph."""
    for name in dict.fromkeys(row["network"] for row in rows):
        runs = [row for row in rows if row["network"] == name]
        yield {
            "network": name,
            "accuracy, %": " ".join(f"{100 * run['accuracy']:.1f}" for run in runs),
            "mean": 100 * statistics.mean(run["accuracy"] for run in runs),
            "folded, mean": 100 * statistics.mean(run["accuracy_folded"] for run in runs),
            "same": f"{sum(r['same_predictions'] for r in runs)}/{sum(r['images'] for r in runs)}",
            "difference": max(run["difference"] for run in runs),
            "linear": f"{runs[0]['linear_nodes']} -> {runs[0]['linear_nodes_folded']}",
            "MMAC": " -> ".join(
                f"{runs[0][key] / 1e6:.3g}" for key in ("multiplies", "multiplies_folded")
            ),
        }


def main(argv: list[str] | None = None) -> None:
    """Train, fold, compare, time."""
    parser = arguments("depth", "Depth traded for parallel branches that merge.")
    parser.add_argument("--seeds", type=int, default=2, help="networks of each form (default 2)")
    parser.add_argument("--epochs", type=int, help=f"of training (default {EPOCHS})")
    parser.add_argument("--keep", type=Path, help="folder for trained weights (default: none)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    forms = QUICK_FORMS if options.quick else FORMS
    epochs = options.epochs or (QUICK_EPOCHS if options.quick else EPOCHS)
    seeds = range(options.seed, options.seed + (1 if options.quick else options.seeds))

    data = task()
    rows, graphs = [], {}
    for seed in seeds:
        for blocks, branches in forms:
            model = network(blocks, branches, data, epochs, seed, options.keep)
            made, name = folded(model, data.test_images), name_of(blocks, branches)
            rows.append({"network": name, "seed": seed, **judge(model, made, data)})
            graphs[name] = made.model
    table(f"noisy digits, {epochs} epochs, seeds {list(seeds)}", list(summary(rows)))
    rounds = 5 if options.quick else 30
    figures = {"epochs": epochs, "networks": rows}
    figures["latency"] = timed("folded, 17 tokens of 64", graphs, data.test_images, rounds)
    if not options.quick:
        tiny = at_size_of_vit_tiny(FORMS)
        images = torch.zeros(1, 3, 224, 224)
        figures["latency_vit_tiny"] = timed("ViT-Tiny's size", tiny, images, rounds)
    emit_json("depth", figures, seed=options.seed)


if __name__ == "__main__":
    main()
