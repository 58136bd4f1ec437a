"""Plans under a budget beside every setting of a single family and ONNX Runtime's own quantizers.

    python -m bench.planner [--quick] [--seed N] [--networks NAME ...] [--samples N] [--judged N]

Each network is quantized in every form first: `int8`, codes of 4, 3 and 2 bits everywhere, ONNX
Runtime's dynamic and static quantizers. Then it is planned once for each of three errors: that of
the best, the middle and the worst of these forms. A plan is to be as small and fast as every form
whose error is no smaller than its own. `error` is |y - y'| / |y| of all outputs on samples that
nobody chose by; `over budget` how far a plan exceeds its budget there, as a share of it. All forms
are timed in turn, one sample, one thread; `predicted` is what the plan's report said before.
Convolutions that are no linear layers are nothing to plan: of a CIFAR ResNet nothing changes, and
the bench says so. `--quick` is the digits transformer with one budget. Take figures on a machine
that does nothing else; `addax measure` before it makes predictions those of the machine.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

import addax
from addax.demo import load_images, load_model
from addax.frontend import to_ir
from addax.ir.cost import weight_bytes
from addax.runtime.session import Session
from bench import quantizers, zoo
from bench.measure import arguments, emit_json, interleave, table, timing_table
from bench.sessions import one_thread

NETWORKS = ("digits", "deit-tiny", "minilm-l6", "llama-stories260k", "cifar-resnet20")
SINGLE = {
    "int8": {"allow": ("int8",)},
    "4 bits": {"allow": ("shift-add",), "bits": 4},
    "3 bits": {"allow": ("shift-add",), "bits": 3},
    "2 bits": {"allow": ("shift-add",), "bits": 2},
}
_BATCH = 8

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Task:
    """A network as a graph, samples to choose by, and samples that judge, in batches."""

    graph: ir.Model
    calibration: Sequence[Arrays]
    judged: Sequence[Arrays]


@dataclass(frozen=True)
class Form:
    """A network in one form: what runs it, its bytes, its error, and the plan behind it."""

    session: Session
    bytes: int
    error: float
    plan: Any = None
    seconds: float = 0.0


def task(name: str, samples: int, judged: int) -> Task:
    """Samples that come in turn: one of two to choose by, the other to judge."""
    if name == "digits":
        model = load_model()
        calibration, _ = load_images("calibration")
        images, _ = load_images("test")
        shapes: Any = ({0: torch.export.Dim("batch")},)
        graph = to_ir(model, torch.from_numpy(images[:2]), dynamic_shapes=shapes)
        cut = [(calibration[i : i + 32],) for i in range(0, samples, 32)]
        return Task(graph, cut, [(images[i : i + 32],) for i in range(0, judged, 32)])
    entry = zoo.entry(name)
    found = [batch.inputs for batch in entry.data(samples + judged, _BATCH)]
    share = max(1, round((samples + judged) / max(judged, 1)))
    held = [number % share == share - 1 for number in range(len(found))]
    graph = to_ir(entry.build(), entry.example_inputs(), dynamic_shapes=entry.dynamic_shapes)
    return Task(
        graph,
        [batch for batch, out in zip(found, held, strict=True) if not out],
        [batch for batch, out in zip(found, held, strict=True) if out],
    )


def error_of(session: Session, exact: Sequence[np.ndarray], judged: Sequence[Arrays]) -> float:
    """|y - y'| / |y| of the first output."""
    names = [port.name for port in session.inputs]
    missed = whole = 0.0
    for arrays, wanted in zip(judged, exact, strict=True):
        made = next(iter(session.run(dict(zip(names, arrays, strict=True))).values()))
        missed += float(np.square(made - wanted.astype(np.float64)).sum())
        whole += float(np.square(wanted.astype(np.float64)).sum())
    return float(np.sqrt(missed / whole))


class Forms:
    """All forms of a network, judged by the same samples."""

    def __init__(self, made: Task, folder: str) -> None:
        self.task, self._folder = made, folder
        self.plain = addax.optimize(made.graph, progress=False)
        session = one_thread(self.plain)
        names = [port.name for port in session.inputs]
        self._exact = [
            next(iter(session.run(dict(zip(names, arrays, strict=True))).values()))
            for arrays in made.judged
        ]
        self.found: dict[str, Form] = {
            "float32": Form(session, weight_bytes(self.plain.model), 0.0)
        }

    def add(self, name: str, network: Any, plan: Any = None, seconds: float = 0.0) -> Form:
        """Judge what `addax.optimize` made, or a rival's graph."""
        session = one_thread(network)
        graph = network.model if isinstance(network, addax.Optimized) else network
        error = error_of(session, self._exact, self.task.judged)
        self.found[name] = Form(session, weight_bytes(graph), error, plan, seconds)
        return self.found[name]

    def single(self, quick: bool) -> None:
        """One family everywhere, and the rivals."""
        for name, options in SINGLE.items():
            if quick and name not in ("int8", "4 bits"):
                continue
            self.add(name, self._optimized(**options))
        proto = ir.to_proto(self.plain.model)
        rivals: Mapping[str, Callable[[], Any]] = {
            "ORT dynamic": lambda: quantizers.dynamic(proto),
            "ORT static": lambda: quantizers.static(proto, self.task.calibration),
        }
        for name, make in rivals.items():
            self.add(name, to_ir(make()))

    def planned(self, budget: float, objective: str) -> Form:
        """The plan for an error."""
        began = time.perf_counter()
        # Fits are the same for every budget; what a plan takes is measured with an empty folder.
        folder = f"shift-add{{folder={str(Path(self._folder, objective))!r}}}"
        made = self._optimized(
            allow=("int8", folder), budget=addax.Budget(max_error=budget, objective=objective)
        )
        seconds = time.perf_counter() - began
        return self.add(f"plan {budget:.3g}, {objective}", made, made.report.plan, seconds)

    def _optimized(self, **options: Any) -> addax.Optimized:
        return addax.optimize(
            self.task.graph, calibration=self.task.calibration, progress=False, **options
        )


def budgets(forms: Mapping[str, Form], quick: bool) -> list[float]:
    """Errors of the best, the middle and the worst form."""
    errors = sorted(form.error for name, form in forms.items() if name != "float32")
    chosen = [errors[0], errors[len(errors) // 2], errors[-1]]
    return [chosen[1]] if quick else list(dict.fromkeys(chosen))


def beaten(plan: Form, name: str, forms: Mapping[str, Form], ratio: float) -> str:
    """How a plan stands to a form whose error is no smaller."""
    form = forms[name]
    if form.error < plan.error or form.plan is not None or name == "float32":
        return ""
    smaller, faster = plan.bytes <= form.bytes, ratio <= 1
    return "both" if smaller and faster else "bytes" if smaller else "time" if faster else "LOST"


def judged_network(name: str, options: Any) -> dict[str, Any]:
    """All forms of a network: errors, bytes, times, plans."""
    made = task(name, options.samples, options.judged)
    with TemporaryDirectory(prefix="addax-bench-") as folder:
        forms = Forms(made, folder)
        forms.single(options.quick)
        for budget in budgets(forms.found, options.quick):
            for objective in ("latency",) if options.quick else ("latency", "bytes"):
                forms.planned(budget, objective)
    found = forms.found
    feeds = [array[:1] for array in made.judged[0]]
    calls = {
        label: form.session.bound(
            {p.name: a for p, a in zip(form.session.inputs, feeds, strict=True)}
        )
        for label, form in found.items()
    }
    timings = interleave(calls, rounds=5 if options.quick else 20, min_time=0.02)
    clock = timings.clock()
    rows = []
    for label, form in found.items():
        row: dict[str, Any] = {"form": label, "error": form.error, "bytes": form.bytes}
        row["ms"] = timings.seconds(label, clock).p50 * 1e3
        if form.plan is not None:
            predicted, limit = form.plan.predicted.seconds, float(label.split()[1].rstrip(","))
            row["predicted ms"] = predicted * 1e3
            row["predicted over measured"] = predicted * 1e3 / row["ms"]
            row["over budget"] = max(form.error / limit - 1, 0.0)
            row["planning s"] = form.seconds
            row["against"] = {
                rival: told
                for rival in found
                if (told := beaten(form, rival, found, timings.ratio(label, rival, clock).p50))
            }
        rows.append(row)
    table(name, rows)
    timing_table(name, timings, "float32")
    return {"forms": rows, "timings": timings.figures("float32")}


def main(argv: Sequence[str] | None = None) -> None:
    """Quantize, plan, judge, time, print."""
    parser = arguments("planner", "Plans under a budget beside single settings and rivals.")
    parser.add_argument("--networks", choices=NETWORKS, nargs="+", help="default: all there are")
    parser.add_argument("--samples", type=int, default=64, help="to choose by")
    parser.add_argument("--judged", type=int, default=64, help="that judge")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = options.networks or (["digits"] if options.quick else NETWORKS)
    figures = {}
    for name in names:
        missing = "" if name == "digits" else zoo.entry(name).missing()
        if missing:
            print(f"{name} is left out: {missing}")
            continue
        figures[name] = judged_network(name, options)
    emit_json("planner", figures, seed=options.seed)


if __name__ == "__main__":
    main()
