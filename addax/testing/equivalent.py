"""An assertion that two models compute the same function, with a reproducer when they do not."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from addax.api import Optimized
from addax.errors import InputError
from addax.frontend import to_ir
from addax.ir.equivalence import Equivalence, compare
from addax.ir.model import clone
from addax.ir.rule import Exact
from addax.testing._reproducer import program
from addax.testing._torch import is_module, run_apart, tensors

__all__ = ["assert_equivalent"]


def assert_equivalent(
    a: Any,
    b: Any,
    *,
    inputs: Any = None,
    match: Literal["name", "order"] = "name",
    exact: Exact = Exact.REASSOCIATED,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    draws: int = 3,
) -> Equivalence:
    """Require that two models compute the same function; returns what was found.

    Args:
        a: The reference: an `nn.Module`, `fx.GraphModule`, `ExportedProgram`, the path or bytes
            of an ONNX file, a `ModelProto`, an `onnx_ir.Model` or an `Optimized`.
        b: The other one, any of these.
        inputs: A tensor or array, a tuple of them in the order of the inputs, or a mapping by
            name. Modules of torch are exported with it in eval mode, and really run on it in
            torch too; both models are judged on it. By default inputs are drawn from the model's
            own input types.
        match: How inputs and outputs of the two models belong together: those of one name, or, as
            "order", the first with the first whatever they are called.
        exact: BITWISE asks for equal bits, REASSOCIATED for equality within rounding.
        sizes: What named dimensions are where inputs are drawn.
        seed: Of what is drawn.
        draws: How many sets of inputs are drawn.

    Raises:
        AssertionError: They differ, or nothing could be compared; with a program that shows it.
        InputError: The interfaces differ, an output depends on chance, or the inputs do not fit.
    """
    left, right = _graph(a, inputs), _graph(b, inputs)
    if match == "order":
        right = _renamed(right, left)
    feeds = None if inputs is None else _feeds(left, inputs)
    options = {"exact": exact, "sizes": sizes, "seed": seed, "draws": draws}
    found = compare(
        left,
        right,
        feeds=None if feeds is None else [feeds],
        exact=exact,
        sizes=sizes,
        seed=seed,
        draws=draws,
    )
    if not found.holds:
        raise AssertionError(
            f"{found}\n\nTo see it again:\n\n{program(left, right, feeds, options)}"
        )
    if feeds is not None:
        for model, graph in ((a, left), (b, right)):
            if is_module(model) and (apart := run_apart(model, inputs, graph, feeds)):
                raise AssertionError(apart)
    return found


def _graph(model: Any, inputs: Any) -> ir.Model:
    if isinstance(model, Optimized):
        return model.model
    if is_module(model):
        return to_ir(model, None if inputs is None else tensors(inputs))
    return to_ir(model)


def _renamed(model: ir.Model, like: ir.Model) -> ir.Model:
    """A copy whose inputs and outputs are called as those of the other model, in order."""
    copy = clone(model)
    for mine, theirs in (
        (copy.graph.inputs, like.graph.inputs),
        (copy.graph.outputs, like.graph.outputs),
    ):
        if len(mine) != len(theirs):
            raise InputError(
                f"match='order' needs as many inputs and outputs in both models, got "
                f"{[v.name for v in theirs]} and {[v.name for v in mine]}"
            )
    values = [*copy.graph.inputs, *copy.graph.outputs, *copy.graph.initializers.values()]
    values += [v for node in copy.graph for v in node.outputs]
    for number, value in enumerate(dict.fromkeys(values)):
        value.name = f"{value.name}__{number}"
    pairs = [*zip(copy.graph.inputs, like.graph.inputs, strict=True)]
    for value, other in [*pairs, *zip(copy.graph.outputs, like.graph.outputs, strict=True)]:
        value.name = other.name
    return copy


def _feeds(model: ir.Model, inputs: Any) -> dict[str, np.ndarray]:
    """The given inputs as arrays by name."""
    if isinstance(inputs, Mapping):
        return {name: _array(value) for name, value in inputs.items()}
    values = list(inputs) if isinstance(inputs, tuple | list) else [inputs]
    names = [str(v.name) for v in model.graph.inputs if v.const_value is None]
    if len(values) != len(names):
        raise InputError(
            f"expected {len(names)} inputs {names}, got {len(values)}; nested inputs can be "
            "given as a mapping by name"
        )
    return {name: _array(value) for name, value in zip(names, values, strict=True)}


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
