"""Transformers in eight bits and fewer: ours, ONNX Runtime's quantizers, and forms of the papers.

    python -m bench.repq [--quick] [--seed N] [--networks NAME ...] [--limit N] [--methods TEXT ...]

Networks: the digits transformer, the same with stretched channels behind its norms (an equal
function, at which quantizers with one range for a tensor break), DeiT-Tiny on ImageNet images, and
MiniLM on pairs of sentences. Of each the data that calibrates, the data that choices are made by
(`--tuning` judges by it) and the data that judges are disjoint. `drop` is the points of top-1 or
Spearman lost, `same` the share of decisions that float32 takes too, `error` is |y - y'| / |y| of
all outputs. The papers' forms are re-implementations in torch (`bench.published`): they compute in
float32 with values that integers have, and are for vision transformers alone. What papers report
for DeiT-Tiny is printed beside them. The best peer at 8 bits that the specification names,
torchao's dynamic int8, has an error of .053 on DeiT-Tiny. Speed: `bench.int8_latency`.
`--methods` takes only rows with one of the texts in their names. `--quick` is the stretched digits
transformer alone.
"""

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from addax.demo.vit import VisionTransformer
from addax.errors import OptionError
from bench import zoo
from bench.integers import (
    STRETCHED,
    TASKS,
    Form,
    Judge,
    Source,
    Task,
    own_forms,
    rival_forms,
    runner,
)
from bench.measure import arguments, emit_json, table
from bench.published import DROPS, FORMS, quantized

PEER = 0.053  # torchao, int8 dynamic, DeiT-Tiny, all 500 images
QUICK = ("min-max W4A4", "RepQ-ViT W4A4")
STATIC = "ORT static W8A8"
Rows = list[dict[str, Any]]


def published_forms(task: Task, seed: int, quick: bool) -> Iterator[Form]:
    """How each of the papers' forms is made: of vision transformers, on 32 images."""
    if isinstance(task.model, VisionTransformer):
        for name in QUICK if quick else FORMS:
            make = partial(quantized, task.model, task.few(seed), FORMS[name])
            yield name, lambda make=make: zoo.torch_predict(make())


def forms(task: Task, source: Source, seed: int, quick: bool) -> Iterator[Form]:
    """Every form of a network but the original."""
    yield from rival_forms(task, source, quick)
    yield from published_forms(task, seed, quick)
    yield from own_forms(task, source, quick)


def rows(task: Task, options: Any) -> Rows:
    """Judge all forms of a network, and say so as they come."""
    source = Source(task)
    original = runner(source.made())
    judge = Judge(task, task.tuning if options.tuning else task.judging, original)
    found = [{"method": "float32", **judge.row(original)}]
    for name, make in forms(task, source, options.seed, options.quick):
        if options.methods and not any(text in name for text in options.methods):
            continue
        try:
            found.append({"method": name, **judge.row(make())})
        except OptionError as error:
            print(f"{task.name}: {name}: left out: {error}", flush=True)
            continue
        told = ", ".join(f"{k} {v:.4g}" for k, v in found[-1].items() if k != "method")
        print(f"{task.name}: {name}: {told}", flush=True)
    part = "tuning" if options.tuning else "judging"
    table(f"{task.name}: {judge.examples} {part} examples", found)
    return found


def stress(found: Rows) -> dict[str, Any]:
    """Of the stretched channels: how much less error the fold leaves, what four bits lose."""
    by_name = {row["method"]: row for row in found}
    drops = {name: row["drop"] for name, row in by_name.items() if "W4A4" in name}
    shown = [
        {"stretched channels": f"{name} loses, points", "found": d} for name, d in drops.items()
    ]
    figures: dict[str, Any] = {"drops": drops}
    if {STATIC, f"fold, {STATIC}"} <= by_name.keys():
        figures["fold"] = by_name[STATIC]["error"] / by_name[f"fold, {STATIC}"]["error"]
        said = f"times that the fold lowers the error of {STATIC}"
        shown.insert(0, {"stretched channels": said, "found": figures["fold"]})
    table("What the fold is for", shown)
    return figures


def published(found: Rows) -> Rows:
    """What papers report that DeiT-Tiny loses, beside what the same form loses here."""
    here = {row["method"]: row["drop"] for row in found}
    shown = [
        {
            "method": f"{drop.method} {drop.bits}",
            "top1": drop.top1,
            "drop": drop.drop,
            "drop here": here.get(f"{drop.method} {drop.bits}"),
            "source": drop.source,
        }
        for drop in DROPS
    ]
    table("DeiT-Tiny as published, on ImageNet's 50,000 images", shown)
    return shown


def main(argv: list[str] | None = None) -> None:
    """Quantize, judge, print."""
    parser = arguments("repq", "Eight bits and fewer for transformers.")
    parser.add_argument("--networks", choices=list(TASKS), nargs="+", help="default: all")
    parser.add_argument("--methods", nargs="+", metavar="TEXT", help="rows with it in their names")
    parser.add_argument("--limit", type=int, help="examples that judge; default: all")
    parser.add_argument("--tuning", action="store_true", help="judge by the part for choices")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # ONNX Runtime's quantizers name each tensor that they leave
    names = options.networks or ([STRETCHED] if options.quick else list(TASKS))
    figures: dict[str, Any] = {"rows": [], "stress": {}, "published": [], "peer": PEER}
    for name in names:
        if name in zoo.missing():
            print(f"{name}: left out: {zoo.missing()[name]}", flush=True)
            continue
        found = rows(TASKS[name](options.seed, options.limit), options)
        figures["rows"] += [{"network": name, **row} for row in found]
        if name == STRETCHED:
            figures["stress"] = stress(found)
        if name == "deit-tiny":
            figures["published"] = published(found)
    emit_json("repq", figures, seed=options.seed)


if __name__ == "__main__":
    main()
