"""Idle channels after training: accuracy and multiplies against the share of channels given up.

    python -m bench.channel_idle [--quick] [--seed N] [--ratios R ...] [--networks NAME ...]
                                [--methods NAME ...]

The digits of the demo and DeiT-Tiny on its sample of ImageNet, neither trained for it. Half of the
images calibrate (of the digits the 256 that ship for it), the others judge. Per ratio: idle
channels without and with the correction by least squares, pruning at equal cost with it, and the
better of the two in each layer, which is what callers get by default. `same` is the share of
images whose class is that of the original network. `--quick` is the digits at one ratio.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.export import Dim

import addax
from addax.backends.to_ort import to_ort
from addax.demo import load_images, load_model
from addax.frontend import to_ir
from addax.report import Size
from addax.runtime.session import Session
from bench.measure import arguments, emit_json, table
from bench.zoo.deit import ENTRIES

RATIOS = (0.125, 0.25, 0.5, 0.75)
METHODS = {
    "idle, uncorrected": "method='idle',correct=False",
    "idle": "method='idle'",
    "prune": "method='prune'",
    "better of both": "method='auto'",
}
BATCH, CALIBRATION = 50, 256


@dataclass(frozen=True)
class Task:
    """A trained network and disjoint images to calibrate and to judge by, [N, C, H, W]."""

    model: torch.nn.Module
    calibration: np.ndarray
    images: np.ndarray
    labels: np.ndarray


def digits() -> Task:
    """The demo."""
    return Task(load_model(), load_images("calibration")[0], *load_images("test"))


def deit() -> Task:
    """DeiT-Tiny; 256 images of the sample calibrate, spread over the classes."""
    (entry,) = ENTRIES
    if reason := entry.missing():
        raise SystemExit(reason)
    batches = list(entry.data(None, BATCH))
    images = np.concatenate([batch.inputs[0] for batch in batches])
    labels = np.concatenate([batch.targets for batch in batches])
    order = np.argsort(np.arange(len(images)) % 2, kind="stable")
    calibration, judging = order[:CALIBRATION], order[CALIBRATION:]
    return Task(entry.build(), images[calibration], images[judging], labels[judging])


NETWORKS: dict[str, Callable[[], Task]] = {"digits": digits, "deit-tiny": deit}


def classes(graph: Any, images: np.ndarray) -> np.ndarray:
    """The class that a graph gives each image."""
    session = Session(to_ort(graph), threads=1)
    (port,) = session.inputs
    parts = (images[i : i + BATCH] for i in range(0, len(images), BATCH))
    outputs = [next(iter(session.run({port.name: part}).values())) for part in parts]
    return np.concatenate(outputs).argmax(1)


def rows(name: str, ratios: list[float], methods: list[str]) -> Iterator[dict[str, Any]]:
    """One row for the exact network, then one for each ratio and method."""
    task = NETWORKS[name]()
    example = torch.from_numpy(task.images[:2])
    source = to_ir(task.model, example, dynamic_shapes=({0: Dim("batch")},))
    exact = addax.optimize(source, progress=False)
    before = classes(exact.model, task.images)
    plain = Size.of(exact.model).cost.multiplies
    first = {"network": name, "ratio": 0.0, "method": "exact", "multiplies": plain, "share": 1.0}
    yield first | {"top1": 100 * float(np.mean(before == task.labels)), "same": 100.0}
    batches = [task.calibration[i : i + BATCH] for i in range(0, len(task.calibration), BATCH)]
    for ratio in ratios:
        for method in methods:
            options = METHODS[method]
            made = addax.optimize(
                source,
                allow=(f"channel-idle{{ratio={ratio},{options}}}",),
                calibration=batches,
                progress=False,
            )
            now = classes(made.model, task.images)
            multiplies = Size.of(made.model).cost.multiplies
            yield {
                "network": name,
                "ratio": ratio,
                "method": method,
                "multiplies": multiplies,
                "share": multiplies / plain,
                "top1": 100 * float(np.mean(now == task.labels)),
                "same": 100 * float(np.mean(now == before)),
            }


def main(argv: list[str] | None = None) -> None:
    """Approximate, judge, print."""
    parser = arguments("channel_idle", "Idle channels of networks that were not trained for it.")
    parser.add_argument("--ratios", type=float, nargs="+", help=f"default {RATIOS}")
    parser.add_argument("--networks", choices=list(NETWORKS), nargs="+", help="default: all")
    parser.add_argument("--methods", choices=list(METHODS), nargs="+", help="default: all")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    ratios = options.ratios or ([0.5] if options.quick else list(RATIOS))
    names = options.networks or (["digits"] if options.quick else list(NETWORKS))
    made = []
    for name in names:
        found = list(rows(name, ratios, options.methods or list(METHODS)))
        table(f"{name}: share of channels given up", found)
        made += found
    emit_json("channel_idle", {"rows": made}, seed=options.seed)


if __name__ == "__main__":
    main()
