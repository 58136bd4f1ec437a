"""Linear layers: as they are, integers of 8 bits, codes of 4, 3 or 2."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from addax.ir.layer_nodes import joules, layer_node
from addax.ir.query import static_shape
from addax.ir.statistics import EXECUTOR, HAS_KERNEL, Observer
from addax.passes._family import families, make_options
from addax.passes._int8 import IntegerWeights, by_tensor, by_token, sampled
from addax.passes._shift.moments import Moments
from addax.passes._shift.sites import View
from addax.passes._shift.targets import Target, Wanted, find_targets, grouped
from addax.passes.choices._offer import FLOAT, Asked, Offer, Place

if TYPE_CHECKING:
    from addax.passes.fit import Fitted

INT8, CODES = "int8", "shift-add"
DYNAMIC = "dynamic-int8"  # the runtime's own operator, with one scale for all activations

Serves = Callable[[ir.Node], bool]


def linear_places(model: ir.Model, asked: Asked, facts: Mapping[str, Any]) -> Iterator[Place]:
    """Every linear layer of the main graph that a family could treat."""
    wanted = {name for name in (INT8, CODES) if name in asked.families}
    if not wanted:
        return
    options = {name: make_options(families()[name], asked.options.get(name, {})) for name in wanted}
    smallest = min(each.smallest for each in options.values())
    targets, _ = find_targets(model, Wanted(smallest))
    if not targets:
        return
    serves: Serves = facts.get(HAS_KERNEL, lambda _: False)
    rows = _rows(model, targets, asked)
    offers: dict[str, list[Offer]] = {
        target.name: [_as_it_is(target, rows[target.name])] for target in targets
    }
    for name, each in options.items():
        chosen, _ = find_targets(model, Wanted(each.smallest, each.skip))
        find = _integers if name == INT8 else _codes
        for target, offer in find(model, chosen, asked, facts, each):
            if target.name in offers:
                made = _costed(offer, target, rows[target.name], serves)
                offers[target.name].append(made)
    for target in targets:
        outputs, inputs = target.size
        weight = str(target.sites[0].weight.name)
        found = tuple(offers[target.name])
        if len(found) > 1:
            yield Place(target.name, "linear", outputs, inputs, rows[target.name], weight, found)


def _rows(model: ir.Model, targets: Sequence[Target], asked: Asked) -> dict[str, int]:
    """Rows that each layer multiplies in one evaluation."""
    sites = [(target.name, site) for target in targets for site in target.sites]
    counts = dict.fromkeys((target.name for target in targets), 0)
    (arrays,) = asked.workload.observe(model, [site.x for _, site in sites])
    for (name, site), array in zip(sites, arrays, strict=True):
        counts[name] += math.prod(site.view.rows(array).shape[:-1])
    return counts


def _as_it_is(target: Target, rows: int) -> Offer:
    node = layer_node(FLOAT, rows, *target.size)
    return Offer("", FLOAT, FLOAT, target.stored_bytes, 0.0, joules(node))


def _costed(offer: Offer, target: Target, rows: int, serves: Serves) -> Offer:
    """The offer with its energy, and whether there is a kernel; without one, how it runs then."""
    node = layer_node(offer.form, rows, *target.size)
    has_kernel = serves(node)
    form = offer.form
    if not has_kernel:
        form = DYNAMIC if offer.family == INT8 else FLOAT  # a body decodes weights when it loads
    return dataclasses.replace(offer, form=form, joules=joules(node), has_kernel=has_kernel)


def _integers(
    model: ir.Model, targets: Sequence[Target], asked: Asked, facts: Mapping[str, Any], options: Any
) -> Iterator[tuple[Target, Offer]]:
    """Each layer in int8, with the error that its activations' rounding adds."""
    serves: Serves = facts.get(HAS_KERNEL, lambda _: False)
    walk = asked.calibration.walk(model)
    for target in targets:
        site = target.sites[0]
        if site.x.dtype != ir.DataType.FLOAT:
            continue
        alone = len(target.sites) == 1
        observer: Observer = walk if alone else _Direct(asked, model)
        matrix, (outputs, inputs) = target.matrix(), target.size
        by_rows = serves(layer_node("int8", 1, outputs, inputs))
        weights = IntegerWeights.of(matrix)
        error, alone_error = _errors_of(target, observer, matrix, weights.decode(), by_rows)
        if np.isfinite(error) and (options.max_error is None or error <= options.max_error):
            stand_in = _stand_in(target, weights.decode)
            yield (
                target,
                Offer(
                    INT8, "int8", "int8", weights.nbytes, error,
                    stand_in=stand_in, stand_in_error=alone_error,
                ),
            )  # fmt: skip


def _errors_of(
    target: Target, observer: Observer, matrix: np.ndarray, decoded: np.ndarray, by_rows: bool
) -> tuple[float, float]:
    """The relative error of the output, and that of the weights alone."""
    missed = by_weights = whole = 0.0
    batches, rounded = len(observer.sizes()), by_token if by_rows else by_tensor
    for site in target.sites:
        for (array,) in observer.observe((site.x,)):
            rows = site.view.rows(array)
            x = sampled(rows.reshape(-1, rows.shape[-1]), batches)
            exact = x @ matrix.T
            missed += float(np.square(rounded(x) @ decoded.T - exact).sum())
            by_weights += float(np.square(x @ decoded.T - exact).sum())
            whole += float(np.square(exact).sum())
    if not np.isfinite([missed, whole]).all():
        return math.inf, math.inf
    whole = whole or 1.0
    return math.sqrt(missed / whole), math.sqrt(by_weights / whole)


def _codes(
    model: ir.Model, targets: Sequence[Target], asked: Asked, facts: Mapping[str, Any], options: Any
) -> Iterator[tuple[Target, Offer]]:
    """Each layer in each format of codes that takes less than its weights."""
    from addax.passes._shift.fitting import Fitter  # solvers, which only codes need
    from addax.passes.fit import FitOptions, Format

    formats = [Format.parse(text) for text in asked.formats]
    tried = {
        target.name: [f for f in formats if f.packed_bytes(*target.size) < target.stored_bytes]
        for target in targets
    }
    groups = grouped(target for target in targets if tried[target.name])
    fitter = Fitter(
        Moments(model, asked.calibration, sequential=False),
        FitOptions(compensate=options.compensate, damping=options.damping),
        facts.get(EXECUTOR),
        options.folder,
        asked.tell,
    )
    for target, trials in fitter.trials(groups, tried).items():
        for trial in trials:
            fitted = trial.fitted
            asked.trials[target.name, str(fitted.format)] = trial
            form = f"{'binary' if fitted.format.is_binary else 'codebook'}{fitted.format.bits}"
            stand_in = _stand_in(target, functools.partial(_decoded, fitted))
            yield (
                target,
                Offer(
                    CODES, str(fitted.format), form, fitted.bytes, trial.error,
                    stand_in=stand_in, stand_in_error=trial.error,
                ),
            )  # fmt: skip


def _decoded(fitted: "Fitted") -> np.ndarray:
    return fitted.decoded


def _stand_in(target: Target, decoded: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    """Weights [N, K] as the model stores them."""
    site = target.sites[0]
    view: View = site.view
    dims = static_shape(site.weight) or ()
    kind = np.float32 if site.weight.dtype is None else site.weight.dtype.numpy()

    def stored() -> np.ndarray:
        matrix = decoded() / view.factor
        matrix = matrix.T if view.is_turned else matrix
        return np.ascontiguousarray(matrix.reshape(dims).astype(kind))

    return stored


@dataclass(frozen=True)
class _Direct:
    """Observes from the inputs each time."""

    asked: Asked
    model: ir.Model

    def sizes(self) -> tuple[int, ...]:
        return self.asked.calibration.sizes()

    def observe(self, values: Sequence[ir.Value]) -> Iterator[tuple[np.ndarray, ...]]:
        return self.asked.calibration.observe(self.model, values)
