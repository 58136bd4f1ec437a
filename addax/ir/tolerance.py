"""How far apart two models may be that are equal over the reals.

Algebra     |y' - y| <= E(before) + E(after), E the first-order forward error bound of a model that
            computes in its own number formats, its operations in any order
Source      Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., chapters 2 and 3

The models are compared in float64, where what remains is what a rewrite did to the constants. A
constant that a rewrite folds is rounded once where the network would have rounded at each step,
so the bound of the network's own rounding is one for the rewrite's; and it knows about bad
conditioning: where terms cancel, it grows as much as the error may.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import UnsupportedOpError
from addax.ir._bounds.analysis import Analysis
from addax.ir._judge.arrays import Array
from addax.ir._judge.feeds import checked
from addax.ir.evaluate import evaluate
from addax.ir.model import scopes
from addax.ir.query import constant_tensor
from addax.ir.rule import Exact

__all__ = ["Disagreement", "Margins", "bounds", "disagreement", "judged", "outputs", "tolerance"]


@dataclass(frozen=True)
class Disagreement:
    """One element of an output that is further off than it may be."""

    output: str
    index: tuple[int, ...]
    before: Any
    after: Any
    allowed: float

    def __str__(self) -> str:
        place = f"{self.output}[{', '.join(map(str, self.index))}]"
        apart = f"{self.before} became {self.after}"
        return f"{place}: {apart}, which may differ by {self.allowed:.3g}"


def bounds(
    model: ir.Model, feeds: Mapping[str, Any], *, given: ir.Model | None = None
) -> dict[str, tuple[Array, Array]]:
    """Each output by name: its values in float64, and how far rounding may move each of them.

    Args:
        model: What is analysed; its constants may have been rounded once.
        feeds: An array for each input.
        given: A model whose constants are exact; where absent, those of `model` are.

    Raises:
        InputError: The feeds do not fit the inputs.
        EvaluationError: A node fails on what it is given.
        UnsupportedOpError: An operator has no meaning here, or no error analysis.
    """
    defaults = {value for value in model.graph.inputs if value.const_value is not None}
    fed = checked(model.graph.inputs, defaults, feeds, np.dtype(np.float64))
    known = None if given is None else {_digest(tensor) for tensor in _constants(given)}
    analysis = Analysis(model, lambda tensor: known is None or _digest(tensor) in known)
    results = analysis.run({str(value.name): array for value, array in fed.items()})
    if any(isinstance(made, list) for made in results):
        raise UnsupportedOpError("an output is a sequence, which has no error analysis")
    return {
        str(value.name): (made.value, made.errors)
        for value, made in zip(model.graph.outputs, results, strict=True)
        if made is not None
    }


def tolerance(
    model: ir.Model, feeds: Mapping[str, Any], *, given: ir.Model | None = None
) -> dict[str, Array]:
    """How far rounding may move each element of each output; arguments as for `bounds`."""
    return {name: error for name, (_, error) in bounds(model, feeds, given=given).items()}


def disagreement(
    before: ir.Model, after: ir.Model, feeds: Mapping[str, Any], exact: Exact
) -> Disagreement | None:
    """The worst element in which a rewritten model breaks what `exact` promises, if there is one.

    BITWISE compares in the models' own formats, REASSOCIATED in float64 within the bound of both
    models' rounding. An approximation promises nothing that this could judge.

    Raises:
        InputError: The feeds do not fit the inputs.
        EvaluationError: A node of either model fails on what it is given.
        UnsupportedOpError: An operator has no meaning here, or no error analysis.
    """
    return judged(*outputs(before, after, feeds, exact)).disagreement


@dataclass(frozen=True)
class Margins:
    """How much of what rounding may cost two models' difference takes.

    `worst` is the largest share over all elements. `lone_nan` is a NaN of one model only that a
    bound without end excuses, as where something is divided by nearly zero. `is_informative` says
    whether any output had a finite element with a finite bound.
    """

    disagreement: Disagreement | None
    worst: float
    lone_nan: Disagreement | None
    is_informative: bool


Outputs = Mapping[str, Any]


def outputs(
    before: ir.Model, after: ir.Model, feeds: Mapping[str, Any], exact: Exact
) -> tuple[Outputs, Outputs, dict[str, Array]]:
    """The outputs of both models by name, and how far apart each element may be."""
    if exact is Exact.BITWISE:
        expected, actual = evaluate(before, feeds), evaluate(after, feeds)
        return expected, actual, {n: np.zeros(np.shape(array)) for n, array in expected.items()}
    old, new = bounds(before, feeds), bounds(after, feeds, given=before)
    allowed = {
        name: error + new[name][1] if error.shape == new[name][1].shape else np.zeros(())
        for name, (_, error) in old.items()
    }
    return {n: y for n, (y, _) in old.items()}, {n: y for n, (y, _) in new.items()}, allowed


def judged(expected: Outputs, actual: Outputs, allowed: Mapping[str, Array]) -> Margins:
    """What outputs that may be `allowed` apart show."""
    found = _worst(expected, actual, allowed)
    if found is not None:
        return Margins(found, np.inf, None, is_informative=True)
    worst, lone, informative = 0.0, None, False
    for name, value in expected.items():
        if isinstance(value, list):
            continue
        x, y, bound = np.asarray(value), np.asarray(actual[name]), allowed[name]
        if x.dtype.kind not in "fiu":
            informative |= x.size > 0
            continue
        x, y = x.astype(np.float64), y.astype(np.float64)
        lone = lone or _lone_nan(name, x, y, bound)
        with np.errstate(all="ignore"):
            share = np.abs(x - y) / bound
        worst = max(worst, float(np.max(np.where(np.isfinite(share), share, 0.0), initial=0.0)))
        informative |= bool(np.any(np.isfinite(x) & np.isfinite(bound)))
    return Margins(None, worst, lone, informative)


def _lone_nan(name: str, before: Array, after: Array, allowed: Array) -> Disagreement | None:
    places = np.argwhere(np.isnan(before) != np.isnan(after))
    if not len(places):
        return None
    at = tuple(int(i) for i in places[0])
    return Disagreement(name, at, before[at], after[at], float(allowed[at]))


def _worst(
    expected: Mapping[str, Any], actual: Mapping[str, Any], allowed: Mapping[str, Array]
) -> Disagreement | None:
    worst: tuple[float, Disagreement] | None = None
    for name, before in expected.items():
        after = actual[name]
        if np.shape(before) != np.shape(after):
            return Disagreement(name, (), np.shape(before), np.shape(after), 0.0)
        excess = _excess(np.asarray(before), np.asarray(after), allowed[name])
        if not excess.size or not np.any(excess > 0):
            continue
        at = np.unravel_index(int(np.argmax(excess)), excess.shape)
        index = tuple(int(i) for i in at)
        found = Disagreement(name, index, before[at], after[at], float(allowed[name][at]))
        if worst is None or float(excess[at]) > worst[0]:
            worst = float(excess[at]), found
    return None if worst is None else worst[1]


def _excess(before: Array, after: Array, allowed: Array) -> Array:
    """How far each element is beyond its bound; infinite where one is NaN and the other not."""
    if before.dtype.kind in "OSUc":
        return np.where(before == after, 0.0, np.inf)
    if before.dtype.kind in "iub":
        return np.where((before == after) | (allowed > 0), 0.0, np.inf)
    a, b = before.astype(np.float64), after.astype(np.float64)
    with np.errstate(all="ignore"):
        apart = np.abs(a - b) - allowed
    same = (a == b) | (np.isnan(a) & np.isnan(b)) | np.isposinf(allowed)
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def _constants(model: ir.Model) -> list[ir.TensorProtocol]:
    found = []
    for scope in scopes(model):
        values = list(getattr(scope, "initializers", {}).values())
        values += [node.outputs[0] for node in scope if node.op_type == "Constant"]
        tensors = (v.const_value if v.is_graph_input() else constant_tensor(v) for v in values)
        found += [tensor for tensor in tensors if tensor is not None]
    return found


def _digest(tensor: ir.TensorProtocol) -> bytes:
    if tensor.dtype == ir.DataType.STRING:
        return b""
    head = f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
    return hashlib.blake2b(head + tensor.tobytes(), digest_size=16).digest()
