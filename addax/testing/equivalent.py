"""An assertion that two models compute the same function, with a reproducer when they do not."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.api import Optimized
from addax.errors import InputError
from addax.frontend import to_ir
from addax.ir.equivalence import Equivalence, compare
from addax.ir.model import save
from addax.ir.rule import Exact

__all__ = ["assert_equivalent"]


def assert_equivalent(
    a: Any,
    b: Any,
    *,
    inputs: Any = None,
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
            name. Modules of torch are exported with it, and both models are judged on it. By
            default inputs are drawn from the model's own input types.
        exact: BITWISE asks for equal bits, REASSOCIATED for equality within rounding.
        sizes: What named dimensions are where inputs are drawn.
        seed: Of what is drawn.
        draws: How many sets of inputs are drawn.

    Raises:
        AssertionError: They differ, or nothing could be compared; with a program that shows it.
        InputError: The interfaces differ, an output depends on chance, or the inputs do not fit.
    """
    left, right = _graph(a, inputs), _graph(b, inputs)
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
            f"{found}\n\nTo see it again:\n\n{_program(left, right, feeds, options)}"
        )
    return found


def _graph(model: Any, inputs: Any) -> ir.Model:
    if isinstance(model, Optimized):
        return model.model
    return to_ir(model, inputs if not isinstance(inputs, Mapping) else None, kwargs=None)


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


def _program(
    a: ir.Model, b: ir.Model, feeds: Mapping[str, np.ndarray] | None, options: Mapping[str, Any]
) -> str:
    """A program that makes the comparison again, from files that are written for it."""
    folder = Path(tempfile.mkdtemp(prefix="addax-equivalent-"))
    save(a, folder / "a.onnx")
    save(b, folder / "b.onnx")
    given = "None"
    if feeds is not None:
        np.savez(folder / "inputs.npz", **dict(feeds))  # type: ignore[arg-type]  # keys are names
        given = f"[dict(np.load({str(folder / 'inputs.npz')!r}))]"
    passed = ", ".join(f"{key}={value!s}" for key, value in options.items())
    return (
        "import numpy as np\n"
        "from addax.frontend import to_ir\n"
        "from addax.ir.equivalence import compare\n"
        "from addax.ir.rule import Exact\n\n"
        f"a = to_ir({str(folder / 'a.onnx')!r})\n"
        f"b = to_ir({str(folder / 'b.onnx')!r})\n"
        f"print(compare(a, b, feeds={given}, {passed}))\n"
    )
