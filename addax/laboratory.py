"""Where the planner's models run: this machine, the caller's data and metric, and cost tables."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.backends.to_ort import to_ort
from addax.delivery import Delivery, delivery_to
from addax.errors import BuildError, EvaluationError, InputError
from addax.ir.cost import total_cost
from addax.ir.model import clone
from addax.ir.query import constant_tensor
from addax.ir.shapes import infer_shapes
from addax.ir.statistics import CALIBRATION, EXECUTOR, HAS_KERNEL, TELL
from addax.planner import Budget, Verdict
from addax.runtime.calibrate import Batches
from addax.runtime.cost_table import CostTable, cost_table
from addax.runtime.measured_costs import median_seconds
from addax.runtime.samples import few_samples, fingerprints, first_sample, split, takes_any_batch
from addax.runtime.session import Session

_PROBED = 32  # samples that sensitivities are measured on
_SECONDS, _FEWEST, _MOST = 0.4, 5, 60  # that a model is timed for, and how often
Call = Callable[..., Any]


class HostLaboratory:
    """The `Laboratory` of `addax.optimize`.

    Args:
        model: As it came: the original of all comparisons.
        delivery: The way to the target.
        budget: Whose metric is asked.
        batches: All calibration data; a part of it is held out to judge.
        runner: Makes of a model what the metric is called with.
        executor: Who fits codes.
        tell: Called with what is done now.
    """

    def __init__(
        self,
        model: ir.Model,
        delivery: Delivery,
        budget: Budget,
        batches: Batches,
        *,
        runner: Callable[[ir.Model, Delivery], Call],
        executor: Any = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._delivery, self._budget, self._runner, self._tell = delivery, budget, runner, tell
        self._original = clone(model)
        self.fitting, self._judging = split(model, batches)
        self.workload = first_sample(model, self.fitting)
        self.facts: Mapping[str, Any] = {
            TELL: tell,
            EXECUTOR: executor,
            HAS_KERNEL: delivery.has_kernel(),
            CALIBRATION: self.fitting,
        }

    @property
    def held_out(self) -> int:
        """Samples that judge."""
        return self._judging.samples

    # --- errors ---------------------------------------------------------------------------------

    def errors(
        self, model: ir.Model, variants: Iterable[tuple[str, Callable[[], np.ndarray]]]
    ) -> list[float]:
        """For each pair of weights and what stands in for them, the error of the outputs."""
        pairs = list(variants)
        if not pairs:
            return []
        opened, stored = _opened(model, [name for name, _ in pairs])
        session = Session(to_ort(opened))
        feeds = list(few_samples(self._original, self.fitting, _PROBED).feeds())
        exact = [session.run(batch | stored) for batch in feeds]
        found = []
        for number, (name, stand_in) in enumerate(pairs):
            self._tell(f"planning: how much each place matters ({number + 1} of {len(pairs)})")
            changed = stored | {name: stand_in()}
            made = (session.run(batch | changed) for batch in feeds)
            found.append(_largest(zip(exact, made, strict=True)))
        return found

    def judge(self, model: ir.Model) -> Verdict:
        """What a model does on held-out samples, as the target computes it."""
        session = self._prepared(model).session(model)
        error = _largest(
            (exact, session.run({n: feeds[n] for n in _names(session)}))
            for exact, feeds in zip(self._exact, self._judging.feeds(), strict=True)
        )
        if not math.isfinite(error):
            error = math.inf
        return Verdict(error, self._scored(model))

    @cached_property
    def _exact(self) -> list[dict[str, np.ndarray]]:
        session = Session(to_ort(self._original))
        return [session.run({n: f[n] for n in _names(session)}) for f in self._judging.feeds()]

    def _scored(self, model: ir.Model) -> float | None:
        metric = self._budget.metric
        if metric is None:
            return None
        watched = _Watched(self._runner(model, self._prepared(model)), self._original)
        try:
            score = float(metric(watched))
        except Exception as error:
            raise EvaluationError(
                f"Budget: the metric raised {type(error).__name__} when it was called with a "
                f"model: {error}"
            ) from error
        if math.isnan(score):
            raise EvaluationError(
                "Budget: the metric gave NaN for a model; expected a number that is better if "
                "larger: look at what it does where the model's outputs are all alike"
            )
        seen = watched.samples
        if seen and seen <= self._known:
            raise InputError(
                f"Budget: all {len(seen)} samples that the metric runs the model on are among the "
                "calibration data, which the model is chosen and fitted by, so that it says little "
                "about others: give the metric samples of its own"
            )
        return score

    @cached_property
    def _known(self) -> set[bytes]:
        free = takes_any_batch(self._original)
        return set(fingerprints(self.fitting.feeds(), free))

    # --- costs ----------------------------------------------------------------------------------

    def seconds(self, form: str, rows: int, weights: int, stored: int) -> float | None:
        """How long a layer takes on one thread, by the cost table; None where there is none."""
        return None if self._table is None else self._table.seconds(form, rows, weights, stored)

    def rest(self, model: ir.Model, layers: float) -> float | None:
        """How long all but the layers takes: measured where that can be, else by arithmetic."""
        if self._table is None:
            return None
        whole = self.timed(model)
        if whole is not None:
            return max(whole - layers, 0.0)
        cost = total_cost(self._sized(model))
        work = (cost.multiplies + cost.adds) // 2
        return max(self._table.seconds("fp32", 1 << 10, work >> 10, 0) - layers, 0.0)

    def timed(self, model: ir.Model) -> float | None:
        """Seconds of one evaluation on one thread, measured; None where it cannot run here."""
        if not self._delivery.times_layers:
            return None
        kernels = self._prepared(model).kernels
        made = to_ort(model) if kernels is None else to_ort(model, has_kernel=kernels.has)
        library = None if kernels is None else kernels.path
        session = Session(made, threads=1, library=library)
        (feeds,) = self.workload.feeds()
        call = session.bound({name: feeds[name] for name in _names(session)})
        return median_seconds(call, seconds=_SECONDS, fewest=_FEWEST, most=_MOST)

    def joules(self, model: ir.Model) -> float:
        """Arithmetic of one evaluation of the workload, by the papers' 45 nm figures."""
        return total_cost(self._sized(model)).energy * 1e-12

    def about_costs(self) -> str:
        """Where the figures of the cost table come from, in words."""
        if self._table is None:
            return f"nothing is known about layers on {self._delivery.target!r}"
        return self._table.about

    @cached_property
    def _table(self) -> CostTable | None:
        return cost_table(self._delivery.target)

    def _sized(self, model: ir.Model) -> ir.Model:
        """A copy whose inputs have the sizes of the workload."""
        made = clone(model)
        (feeds,) = self.workload.feeds()
        for value in made.graph.inputs:
            if value.name in feeds:
                value.shape = ir.Shape(feeds[value.name].shape)
        infer_shapes(made)
        return made

    def _prepared(self, model: ir.Model) -> Delivery:
        """The way on which a model is judged here: kernels of all targets give the same numbers."""
        if self._delivery.target == "portable":
            return self._delivery.prepared(model)[0]
        try:
            return delivery_to("host").prepared(model)[0]
        except BuildError:
            return delivery_to("portable").prepared(model)[0]


class _Watched:
    """A model that the metric calls, and the samples that it was called on."""

    def __init__(self, call: Call, model: ir.Model) -> None:
        self._call, self._names = call, [str(value.name) for value in model.graph.inputs]
        self._free = takes_any_batch(model)
        self.samples: set[bytes] = set()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As `Optimized` is called."""
        feeds = dict(zip(self._names, args, strict=False)) | kwargs
        arrays = {
            name: np.asarray(
                feeds[name].detach() if hasattr(feeds[name], "detach") else feeds[name]
            )
            for name in self._names
            if name in feeds
        }
        if len(arrays) == len(self._names):
            self.samples.update(fingerprints(iter([arrays]), self._free))
        return self._call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def _names(session: Any) -> list[str]:
    return [port.name for port in session.inputs]


def _opened(model: ir.Model, names: list[str]) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """A copy whose weights of these names are inputs, and what they are."""
    made = clone(model)
    stored = {}
    for name in dict.fromkeys(names):
        value = made.graph.initializers.pop(name)
        stored[name] = np.ascontiguousarray(_data(value))
        value.const_value = None
        if not value.is_graph_input():
            made.graph.inputs.append(value)
    return made, stored


def _data(value: ir.Value) -> np.ndarray:
    tensor = constant_tensor(value)
    return np.zeros(0) if tensor is None else tensor.numpy()


def _largest(pairs: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> float:
    """|y - y'| / |y| over all samples, of the worst floating output."""
    missed: dict[str, float] = {}
    whole: dict[str, float] = {}
    for exact, made in pairs:
        for name, array in exact.items():
            if array.dtype.kind != "f" or made[name].shape != array.shape:
                continue
            wide = array.astype(np.float64)
            missed[name] = missed.get(name, 0.0) + float(np.square(made[name] - wide).sum())
            whole[name] = whole.get(name, 0.0) + float(np.square(wide).sum())
    tiny = float(np.finfo(np.float64).tiny)
    return max((math.sqrt(m / max(whole[n], tiny)) for n, m in missed.items()), default=0.0)
