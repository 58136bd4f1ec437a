"""Real trained networks on their real data: what `addax.optimize` keeps, and what it changes.

    python -m bench.models [--quick] [--seed N] [--only NAME]

Each network of the zoo is optimized by every exact pass and compared on its real data with the
torch module that it came from: run in ONNX Runtime, and turned back into a module of torch. The
latency of one example is that of ONNX Runtime with its own optimizations on, one thread, beside
torch's own optimized export (`torch.onnx.export(optimize=True)`) in the same runtime.
"""

import contextlib
import functools
import hashlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

import addax
from addax.backends.to_ort import to_ort
from addax.ir.cost import weight_bytes
from addax.report import Size
from addax.runtime.session import Session
from bench import zoo
from bench.measure import Timings, arguments, emit_json, interleave, table

QUICK = ("mobilenet-v1-025", "cifar-resnet20", "ecbsr-residual")
OPSET = 20
MOST = 1000  # examples: all of each but CIFAR's 5,000 and STS-B's 1,500


@dataclass(frozen=True)
class Optimized:
    """A network of the zoo, what came of it, and how to call both."""

    entry: zoo.Entry
    module: nn.Module
    made: addax.Optimized

    @classmethod
    def of(cls, entry: zoo.Entry) -> "Optimized":
        """Optimize a network by every exact pass."""
        module = entry.build()
        with _quiet():
            made = addax.optimize(
                module, entry.example_inputs(), dynamic_shapes=entry.dynamic_shapes, progress=False
            )
        return cls(entry, module, made)

    @functools.cached_property
    def reference(self) -> zoo.Predict:
        """The original in torch; what it said once is not computed again."""
        said: dict[bytes, np.ndarray] = {}
        predict = zoo.torch_predict(self.module)

        def remembered(*inputs: np.ndarray) -> np.ndarray:
            digest = hashlib.blake2b(b"".join(array.tobytes() for array in inputs)).digest()
            if digest not in said:
                said[digest] = predict(*inputs)
            return said[digest]

        return remembered

    def in_runtime(self, limit: int | None) -> zoo.Agreement:
        """The original in torch against the optimized model in ONNX Runtime, one thread."""
        candidate = runtime_predict(to_ort(self.made.model))
        return zoo.compare(self.entry, self.reference, candidate, limit)

    def in_torch(self, limit: int | None) -> zoo.Agreement:
        """The original in torch against the optimized model as a module of torch."""
        candidate = zoo.torch_predict(self.made.to_torch())
        return zoo.compare(self.entry, self.reference, candidate, limit)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's talk."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        yield


def runtime_predict(model: ir.Model) -> zoo.Predict:
    """A model as a function of arrays, in ONNX Runtime with its optimizations on, one thread."""
    session = Session(model, threads=1)
    names = [port.name for port in session.inputs]

    def predict(*inputs: np.ndarray) -> np.ndarray:
        outputs = session.run(dict(zip(names, inputs, strict=True)))
        return next(iter(outputs.values()))

    return predict


def exported(entry: zoo.Entry, module: nn.Module) -> ir.Model:
    """What torch's own exporter makes of a network, optimized by itself."""
    with _quiet():
        program = torch.onnx.export(
            module,
            entry.example_inputs(),
            dynamic_shapes=entry.dynamic_shapes,
            opset_version=OPSET,
            optimize=True,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model: ir.Model = program.model
    return model


def latency(found: Optimized, export: ir.Model, rounds: int) -> Timings:
    """One example, in turn: torch's export and ours, both in ONNX Runtime on one thread."""
    inputs = tuple(array[:1] for array in next(found.entry.data(1, 1)).inputs)
    models = {"torch export": export, "addax": to_ort(found.made.model)}
    calls = {name: runtime_predict(model) for name, model in models.items()}
    return interleave(
        {name: lambda call=call: call(*inputs) for name, call in calls.items()}, rounds=rounds
    )


def measure(entry: zoo.Entry, limit: int | None, rounds: int) -> dict[str, Any]:
    """All figures of one network."""
    found = Optimized.of(entry)
    in_runtime, in_torch = found.in_runtime(limit), found.in_torch(limit)
    export = exported(entry, found.module)
    timings = latency(found, export, rounds)
    report = found.made.report
    return {
        "model": entry.name,
        "examples": in_runtime.examples,
        "same_in_runtime": in_runtime.same,
        "difference_in_runtime": in_runtime.difference,
        "same_in_torch": in_torch.same,
        "difference_in_torch": in_torch.difference,
        "metric_before": in_runtime.reference,
        "metric_after": in_runtime.candidate,
        "nodes_before": report.before.nodes,
        "nodes_torch_export": Size.of(export).nodes,
        "nodes_after": report.after.nodes,
        "weight_bytes_torch_export": weight_bytes(export),
        "weight_bytes_after": report.after.weight_bytes,
        "seconds": report.seconds,
        "rules_seconds": sum(rule.seconds for rule in report.rules),
        "ms_torch_export": timings.seconds("torch export").p50 * 1e3,
        "ms_after": timings.seconds("addax").p50 * 1e3,
        "ratio": timings.ratio("addax", "torch export"),
    }


def show(figures: list[dict[str, Any]]) -> None:
    """Two tables: whether it is the same network, and what it costs."""
    table(
        "the original in torch against the optimized model, on real data",
        [
            {
                "model": row["model"],
                "examples": row["examples"],
                "same, ORT": f"{row['same_in_runtime']:.7g}",
                "diff": f"{row['difference_in_runtime']:.1e}",
                "same, torch": f"{row['same_in_torch']:.7g}",
                "diff ": f"{row['difference_in_torch']:.1e}",
                "metric": _change(row["metric_before"], row["metric_after"]),
            }
            for row in figures
        ],
    )
    table(
        "torch's optimized export -> addax; latency of one example in ORT, one thread",
        [
            {
                "model": row["model"],
                "nodes": f"{row['nodes_torch_export']} -> {row['nodes_after']}",
                "weights, kB": f"{row['weight_bytes_torch_export'] / 1e3:.5g} -> "
                f"{row['weight_bytes_after'] / 1e3:.5g}",
                "ms": f"{row['ms_torch_export']:.3g} -> {row['ms_after']:.3g}",
                "ratio": row["ratio"],
                "s": row["seconds"],
            }
            for row in figures
        ],
    )


def _change(before: dict[str, float], after: dict[str, float]) -> str:
    """The first metric, before and after."""
    name, value = next(iter(before.items()))
    return f"{name} {value:.5g} -> {after[name]:.5g}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and end with a line of JSON."""
    parser = arguments("models", __doc__ or "")
    parser.add_argument("--only", help="one network, by its name in the zoo")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    for name, reason in zoo.missing().items():
        print(f"left out: {name}: {reason}")
    entries = [entry for entry in zoo.entries() if not options.quick or entry.name in QUICK]
    if options.only:
        entries = [zoo.entry(options.only)]
    limit, rounds = (20, 10) if options.quick else (MOST, 40)
    figures = []
    for number, entry in enumerate(entries):
        print(f"{number + 1} of {len(entries)}: {entry.name}", file=sys.stderr, flush=True)
        figures.append(measure(entry, limit, rounds))
    show(figures)
    rows = [{**row, "ratio": asdict(row["ratio"])} for row in figures]
    emit_json("models", {"models": rows, "missing": sorted(zoo.missing())}, seed=options.seed)


if __name__ == "__main__":
    main()
