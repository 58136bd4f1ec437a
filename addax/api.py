"""`optimize`: the one file that knows every layer.

Use it so:

    fast = addax.optimize(model, example_inputs)
    print(fast.report)
    fast.save("model.onnx")
    logits = fast(images)
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from addax import __version__
from addax.delivery import TARGETS, Delivery
from addax.errors import InputError
from addax.frontend import STRUCTURE, to_ir
from addax.ir.certificate import Certificate
from addax.ir.model import clone
from addax.ir.shapes import infer_shapes
from addax.ir.statistics import (
    CALIBRATION,
    EXECUTOR,
    HAS_KERNEL,
    IN_RUNTIME,
    LAYERS,
    NOTES,
    PLACES,
    TELL,
)
from addax.ir.verify import verify as require_well_formed
from addax.passes._certifying import Certify
from addax.passes._checking import CheckEach
from addax.passes._instrument import Instrument
from addax.passes._pipeline import run_pipeline
from addax.passes._reproducing import Reproduce
from addax.passes._statistics import Statistics
from addax.plan import choose_delivery, make_plan
from addax.progress import Progress
from addax.report import Report, Size

if TYPE_CHECKING:
    import torch

    from addax.backends.tvm.library import Library
    from addax.planner import Budget
    from addax.planning import Asked
    from addax.report_page import Pictures
    from addax.runtime.calibrate import Batches
    from addax.runtime.kernels import Kernels
    from addax.runtime.session import Session
    from addax.runtime.tvm_session import TvmSession

__all__ = ["TARGETS", "Optimized", "optimize"]


@dataclass(frozen=True)
class Optimized:
    """An optimized model: `report`, `save`, `to_torch`, and the call itself.

    `model` is the graph; treat it as read-only. After `optimize(verify=True)`, `certificate` says
    step by step what was done, and `original` is the graph that it was done to. `delivery` is how
    it gets to its target.
    """

    model: ir.Model
    report: Report
    delivery: Delivery
    certificate: Certificate | None = None
    original: ir.Model | None = None

    @property
    def target(self) -> str:
        """Where the model runs, as `optimize` was told."""
        return self.delivery.target

    @property
    def kernels(self) -> "Kernels | None":
        """The library that computes the dialect here; None if its ops run through their bodies."""
        return self.delivery.kernels

    @property
    def library(self) -> "Library | None":
        """The whole model in machine code, for the target "tvm" only."""
        return self.delivery.library

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model: in ONNX Runtime, or for the target "tvm" as machine code.

        Positional arguments are the inputs in order, keywords the inputs by name; tensors of
        torch or arrays. A model that was a module of torch takes what its `forward` took, dicts
        and all, and returns what it returned: a dict, a tuple, a class that torch's pytrees know.
        Other models return the output, or a tuple of outputs. Values are tensors of torch if an
        argument was one, else arrays.

        Raises:
            InputError: If the arguments do not fit the inputs.
        """
        structure = self.model.meta.get(STRUCTURE)
        names = [port.name for port in self.session.inputs]
        if structure is not None and not structure.is_plain(args, kwargs, names):
            args, kwargs = tuple(structure.inputs(args, kwargs)), {}
        if len(args) > len(names):
            raise InputError(f"expected at most {len(names)} inputs {names}, got {len(args)}")
        feeds = dict(zip(names, args, strict=False))
        if twice := sorted(feeds.keys() & kwargs):
            raise InputError(f"inputs given twice, by position and by name: {twice}")
        outputs = self.session.run({k: _as_array(v) for k, v in (feeds | kwargs).items()})
        values = tuple(outputs.values())
        if any(hasattr(v, "detach") for v in (*args, *kwargs.values())):
            import torch

            values = tuple(torch.from_numpy(v) for v in values)
        if structure is not None:
            return structure.restore(values)
        return values[0] if len(values) == 1 else values

    @cached_property
    def session(self) -> "Session | TvmSession":
        """The model loaded in what runs it; made at the first call and kept."""
        return self.delivery.session(self.model)

    def save(self, path: str | os.PathLike[str], *, external_data: bool | None = None) -> None:
        """Write plain ONNX that runs in any ONNX Runtime, and beside it the library of kernels.

        A model that has ops of the dialect is written with their bodies in standard ops; for the
        target "host", `model.onnx` gets a `model.addax.so` (`.dylib`, `.dll`) that makes it fast.
        `addax.load("model.onnx")` runs both, and says how other programs do. For another machine,
        say "android-arm64", a folder `model.android-arm64` gets the machine code of the kernels, a
        CMake project of that library, the model in ORT format and a README. For a GPU, say "cuda",
        a folder `model.cuda` gets the source of the kernels, how they are launched, and weights.
        For the target "tvm", a path that does not end in `.onnx` gets the model as a shared
        library, which `addax.load("model.so")` runs.

        Args:
            path: Where; written under a temporary name and renamed.
            external_data: Weights in a file beside it; None means where the format demands it.

        Raises:
            ModelFileError: If it cannot be written; nothing half-written stays.
            BuildError: If the machine code for another machine cannot be made.
        """
        self.delivery.save(self.model, path, external_data=external_data)

    def to_torch(self) -> "torch.fx.GraphModule":
        """The model as a module of torch again, its weights as parameters."""
        from addax.backends.to_torch import to_torch

        return to_torch(self.model)


def optimize(
    model: Any,
    example_inputs: Any = None,
    *,
    target: str = "host",
    allow: Sequence[str] = (),
    calibration: Iterable[Any] | None = None,
    budget: "Budget | None" = None,
    bits: float | str | None = None,
    max_bytes: int | None = None,
    max_error: float | None = None,
    executor: Any = None,
    check: Mapping[str, np.ndarray] | None = None,
    verify: bool = False,
    dynamic_shapes: Any = None,
    pipeline: str | None = None,
    fuel: int | None = None,
    measure: bool = False,
    progress: bool | None = None,
) -> Optimized:
    """Rewrite a model to a fixed point: smaller, faster, with an error that was agreed to.

    Args:
        model: An `nn.Module`, `fx.GraphModule`, `ExportedProgram`, a path to an ONNX file, its
            bytes, a `ModelProto` or an `onnx_ir.Model`. It is never changed.
        example_inputs: For a module of torch: a tensor, or a tuple or dict of them.
        target: Where it shall run: "host" (this machine), "portable" (any ONNX Runtime), "tvm"
            (the whole model as machine code for this processor; "tvm{tune=60}" first searches for
            faster loops for 60 seconds), a machine that `save` writes kernels for:
            "android-arm64", "ios-arm64", "linux-arm64", "linux-x86_64", or a language for GPUs that
            `save` writes kernels in: "cuda", "metal", "opencl", "webgpu".
        allow: Families of approximate rewrites that may be used, by name, with their options where
            wanted: ("channel-idle{ratio=0.5}",); and options of those that run anyway:
            ("linear-attention{tokens=64}",).
        calibration: Batches of real inputs, for approximate families: each a tensor or array, a
            tuple of them in the order of the inputs, or a dict by name. Read once, to a temporary
            file.
        budget: How much error is accepted, or how small or fast the model must be; what is done to
            which layer is chosen by that, among the families in `allow`, or among all that can be
            chosen. One calibration sample in four is held out to judge the choice.
        bits: For "int8" and "int8-attention", bits of weights and activations, 2 to 8 each, such as
            "w8a8" or "w4a4". For "shift-add", bits of a weight: 2, 3 or 4; a mean of these such as
            2.2; "auto", to be chosen layer by layer under a budget; or a format such as "fitted4"
            or "binary3".
        max_bytes: For "shift-add" with bits="auto": bytes that all weights may take.
        max_error: For "shift-add" with bits="auto": root of the mean squared relative error that
            the outputs of layers may have.
        executor: For "shift-add": a `concurrent.futures.Executor` or a `dask.distributed.Client`
            that fits the layers; by default they are fitted here, one after another.
        check: Feeds by input name; the model is evaluated on them after each pass, and a pass
            that moves the outputs further than its rules promise raises `VerificationError`.
        verify: Prove each rewrite before it is made, over the reals, or measure it within rounding
            where no proof is known; the result has a `certificate`, which anybody can replay.
        dynamic_shapes: As `torch.export.export` takes them.
        pipeline: Text that says exactly what runs, such as "cleanup,fold-affine"; by default
            every exact family and the allowed ones.
        fuel: Stop after this many rewrites, to find the one that does something.
        measure: Time each layer that became codes on this machine, before and after, for the
            report; takes some seconds.
        progress: Show a progress line on standard error; by default if it is a terminal.

    Raises:
        OptionError: If an option does not exist or does not fit the others.
        BudgetError: If no choice keeps the budget.
        MissingPackageError: If `target` is "tvm" or a language for GPUs, and TVM is missing.
        BuildError: If `target` is another machine and TVM, which makes code for it, is missing.
        ModelFileError, InvalidGraphError, UnsupportedOpError: If `model` cannot be read.
        ExportError, InputError: If a module cannot be exported on `example_inputs`.
        ConvergenceError: If rewriting does not end.
        VerificationError: If `check` or `verify` finds a pass that changes what it must not.

    When a pass raises, a folder `addax-repro-...` with all that is needed to see it again is left
    in the current folder; the error has a note that names it (`ADDAX_REPRO=` turns this off).
    """
    settings = {"bits": bits, "max_bytes": max_bytes, "max_error": max_error}
    delivery = choose_delivery(target, measure=measure)
    asked = None if budget is None else _asked(budget, calibration, allow, settings, pipeline, fuel)
    plan = make_plan(() if asked else allow, calibration, pipeline, fuel, settings)
    began = time.perf_counter()
    with Progress(progress) as shown:
        shown.step("reading the model")
        graph = to_ir(model, example_inputs, dynamic_shapes=dynamic_shapes)
        infer_shapes(graph)
        before = Size.of(graph)
        facts = _facts(graph, delivery, calibration, executor, shown.step)
        record = None
        if asked is not None:
            plan, record = asked.plan(graph, delivery, facts, _candidate)
        crash = Reproduce(
            lambda: to_ir(model, example_inputs, dynamic_shapes=dynamic_shapes),
            plan,
            ("--certificate certificate.json",) if verify else (),
        )
        pictures = _pictures(graph)
        instruments: list[Instrument] = [shown, crash, pictures.lineage]
        if check is not None:
            instruments.append(CheckEach(graph, check))
        recorder, original = None, None
        if verify:
            original = clone(graph)
            recorder = Certify(graph)
            instruments.append(recorder)
        if calibration is not None:
            original = clone(graph) if original is None else original
        statistics = run_pipeline(graph, plan, fuel=fuel, instruments=instruments, facts=facts)
        shown.step("verifying the result")
        require_well_formed(graph)
        notes = tuple(facts.get(NOTES, ()))
        layers = tuple(facts.get(LAYERS, ()))
        if (notes or layers) and original is not None and CALIBRATION in facts:
            shown.step("measuring the error of the outputs")
            notes += (_measured(facts[CALIBRATION], original, graph),)
        delivery, told = delivery.prepared(graph, shown.step)
        notes += told
        if measure and not layers:
            notes += ("measure: no layer became codes, so that none was timed",)
        if layers and delivery.times_layers:
            from addax.runtime.latency import describe_latency

            places = facts[PLACES]
            layers = describe_latency(
                layers, places, delivery.kernels, measure=measure, tell=shown.step
            )
    certificate = None if recorder is None else recorder.certificate(__version__)
    if recorder is not None:
        notes = (recorder.summary, *notes)
    after, seconds = Size.of(graph), time.perf_counter() - began
    report = Report.of(str(plan), before, after, statistics, seconds, notes, layers)
    report = replace(report, plan=record, pictures=pictures)
    original = original if verify else None
    return Optimized(graph, report, delivery, certificate, original)


def _asked(
    budget: "Budget",
    calibration: Iterable[Any] | None,
    allow: Sequence[str],
    settings: Mapping[str, Any],
    pipeline: str | None,
    fuel: int | None,
) -> "Asked":
    from addax.planning import Asked

    return Asked.of(budget, calibration, allow, {**settings, "pipeline": pipeline, "fuel": fuel})


def _facts(
    graph: ir.Model,
    delivery: Delivery,
    calibration: Iterable[Any] | None,
    executor: Any,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """What families get."""
    facts: dict[str, Any] = {
        TELL: tell,
        EXECUTOR: executor,
        HAS_KERNEL: delivery.has_kernel(),
        IN_RUNTIME: delivery.in_runtime,
    }
    if calibration is not None:
        from addax.runtime.calibrate import Batches

        facts[CALIBRATION] = Batches(graph, calibration, tell)
    return facts


def _pictures(graph: ir.Model) -> "Pictures":
    from addax.report_page import Pictures  # graphs are drawn by what few callers need

    return Pictures.of(graph)


def _candidate(model: ir.Model, delivery: Delivery) -> Optimized:
    """A model that the planner tries, as the metric of a budget is called with it."""
    size = Size.of(model)
    report = Report.of("", size, size, Statistics(), 0.0)
    return Optimized(model, report, delivery)


def _measured(calibration: "Batches", before: ir.Model, after: ir.Model) -> str:
    """What approximation did to the outputs, on all calibration samples, in one line."""
    from addax.runtime.calibrate import output_error

    errors = output_error(calibration, before, after)
    told = ", ".join(f"{name} {error:.3g}" for name, error in errors.items())
    return f"relative error of the outputs on {calibration.samples} calibration samples: {told}"


def _as_array(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
