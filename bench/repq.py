"""Eight bits and fewer for vision transformers: the fold of norms, integers, codes of attention.

    python -m bench.repq [--quick] [--seed N] [--networks NAME ...] [--limit N] [--no-latency]

Networks: the digits transformer, the same with stretched channels behind its norms (an equal
function that quantizers with one range for a tensor break at), and DeiT-Tiny on ImageNet images;
calibration and judging images are disjoint. `error` is |y - y'| / |y| of all logits, `same` the
share of the classes that the network takes in float32. Rivals: ONNX Runtime's static quantizer (all
operators, as it comes; products alone with float outputs, its fastest form), and its dynamic one;
each also behind our fold, which works for any. The best peer that the specification names on
DeiT-Tiny, torchao's dynamic int8, has an error of .053. Latency is of one image, on one thread.
`--quick` is the stretched digits transformer alone, without latency.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnxruntime.quantization import QuantType
from torch.export import Dim

import addax
from addax.backends.to_ort import to_ort
from addax.demo import load_images, load_model
from addax.demo.vit import VisionTransformer
from addax.frontend import to_ir
from addax.runtime.session import Session
from bench import quantizers, zoo
from bench.measure import arguments, emit_json, interleave, table, timing_table
from bench.stress import stretched

FOLD = "layernorm-reparam"
HARD = "digits, stretched"
PEER = 0.053  # torchao, int8 dynamic, DeiT-Tiny, all 500 images
CALIBRATION, BATCH = 64, 16
Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Task:
    """A network, images [M, ...] to calibrate on and to judge by, and their labels."""

    model: VisionTransformer
    calibration: np.ndarray
    images: np.ndarray
    labels: np.ndarray

    @property
    def batches(self) -> list[np.ndarray]:
        """The calibration images in batches."""
        return [self.calibration[i : i + BATCH] for i in range(0, len(self.calibration), BATCH)]


def digits(seed: int, limit: int | None, *, stretch: bool = False) -> Task:
    """The demo's network, on its held-out images."""
    model = stretched(load_model(), seed) if stretch else load_model()
    images, labels = load_images("test")
    calibration, _ = load_images("calibration")
    return Task(model, calibration, images[:limit], labels[:limit])


def deit(seed: int, limit: int | None) -> Task:
    """Of each class, every eighth image to calibrate on; the others, or `limit`, to judge by."""
    del seed
    entry = zoo.entry("deit-tiny")
    found = list(entry.data(None if limit is None else limit + CALIBRATION, BATCH))
    images = np.concatenate([batch.inputs[0] for batch in found])
    labels = np.concatenate([batch.targets for batch in found])
    chosen = np.zeros(len(images), bool)
    chosen[np.linspace(0, len(images) - 1, CALIBRATION).astype(int)] = True
    return Task(entry.build(), images[chosen], images[~chosen], labels[~chosen])


NETWORKS: dict[str, Callable[[int, int | None], Task]] = {
    "digits": digits,
    HARD: lambda seed, limit: digits(seed, limit, stretch=True),
    "deit-tiny": deit,
}


def judged(predict: Predict, task: Task, exact: np.ndarray) -> dict[str, float]:
    """What a network says of the images, beside what the original does."""
    parts = [task.images[i : i + BATCH] for i in range(0, len(task.images), BATCH)]
    made = np.concatenate([predict(part) for part in parts])
    return {
        "top1": 100 * float(np.mean(made.argmax(1) == task.labels)),
        "same": 100 * float(np.mean(made.argmax(1) == exact.argmax(1))),
        "error": float(np.linalg.norm(made - exact) / np.linalg.norm(exact)),
    }


def runner(proto: onnx.ModelProto) -> Predict:
    """A rival's model, on one thread."""
    session, name = quantizers.session(proto), proto.graph.input[0].name
    return lambda images: session.run(None, {name: images})[0]


def own_runner(made: addax.Optimized) -> Predict:
    """Our model on one thread, with its kernels."""
    library = made.kernels
    graph = to_ort(made.model) if library is None else to_ort(made.model, has_kernel=library.has)
    session = Session(graph, threads=1, library=None if library is None else library.path)
    (port,) = session.inputs
    return lambda images: next(iter(session.run({port.name: images}).values()))


def contenders(task: Task, quick: bool) -> Iterator[tuple[str, Predict]]:
    """Every form of a network, the original first."""
    example = torch.from_numpy(task.images[:2])
    source = to_ir(task.model, example, dynamic_shapes=({0: Dim("batch")},))

    def ours(*allow: str, target: str = "portable") -> addax.Optimized:
        data = task.batches if allow else None
        return addax.optimize(source, target=target, allow=allow, calibration=data, progress=False)

    plain = ours()
    yield "float32", own_runner(plain)
    for before, made in (("", plain), ("fold, ", ours(FOLD))):
        proto, data = ir.to_proto(made.model), task.batches
        yield f"{before}ORT static", runner(quantizers.static(proto, data))
        if not quick:
            everything = quantizers.static(proto, data, linear_only=False)
            yield f"{before}ORT static, all operators", runner(everything)
        yield f"{before}ORT dynamic", runner(quantizers.dynamic(proto))
        if not quick:
            four = quantizers.static(proto, data, weights=QuantType.QInt4)
            yield f"{before}ORT static, W4A8", runner(four)
    integers = "int8{smallest=512}"
    yield "addax portable", own_runner(ours(integers))
    yield "addax portable, fold", own_runner(ours(FOLD, integers))
    if not quick:
        yield "addax kernels", own_runner(ours(integers, target="host"))
        yield "addax kernels, fold", own_runner(ours(FOLD, integers, target="host"))
        both = ours(FOLD, integers, "log2-softmax", target="host")
        yield "addax kernels, fold, log2-softmax", own_runner(both)


def main(argv: list[str] | None = None) -> None:
    """Quantize, judge, time, print."""
    parser = arguments("repq", "Eight bits and fewer for vision transformers.")
    parser.add_argument("--networks", choices=list(NETWORKS), nargs="+", help="default: all")
    parser.add_argument("--limit", type=int, help="images that judge; default: all")
    parser.add_argument("--no-latency", action="store_true", help="only accuracy")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = options.networks or ([HARD] if options.quick else list(NETWORKS))
    figures: dict[str, Any] = {"rows": [], "latency": {}}
    for name in names:
        task = NETWORKS[name](options.seed, options.limit)
        found, calls, exact = [], {}, np.zeros(0)
        for method, predict in contenders(task, options.quick):
            if not found:
                parts = range(0, len(task.images), BATCH)
                exact = np.concatenate([predict(task.images[i : i + BATCH]) for i in parts])
            found.append({"network": name, "method": method, **judged(predict, task, exact)})
            calls[method] = lambda predict=predict, one=task.images[:1]: predict(one)
        table(f"{name}: {len(task.images)} images", found)
        figures["rows"] += found
        if not (options.quick or options.no_latency):
            timings = interleave(calls, rounds=15, min_time=0.05)
            timing_table(f"{name}: one image", timings, baseline="float32")
            figures["latency"][name] = timings.figures("float32")
    errors = {(row["network"], row["method"]): row["error"] for row in figures["rows"]}
    if (HARD, "ORT static") in errors:
        figures["fold"] = errors[HARD, "ORT static"] / errors[HARD, "fold, ORT static"]
        print(f"stretched channels: the fold lowers ORT's static error {figures['fold']:.1f} times")
    figures["peer"] = PEER
    emit_json("repq", figures, seed=options.seed)


if __name__ == "__main__":
    main()
