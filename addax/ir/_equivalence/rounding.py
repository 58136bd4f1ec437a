"""How far the rounding of a model's constants moves its outputs, by rounding them anew at random.

Source      Parker, Monte Carlo Arithmetic, 1997; Vignes, CESTAC, 1978

A worst-case bound adds up every error with the same sign, and for a network of some depth lies
orders of magnitude above what happens: a weight that is 1 % wrong can hide below it. Here each
constant moves by up to half a unit in its last place, and what the outputs do is observed.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from addax.ir._judge.arrays import Array
from addax.ir.evaluate import evaluate
from addax.ir.model import clone, scopes
from addax.ir.query import constant_tensor

_DRAWS = 2


def movement(
    model: ir.Model, feeds: Mapping[str, np.ndarray], values: Mapping[str, Array], seed: int
) -> dict[str, Array]:
    """How far each element of each floating output moves: itself, or as the output on average.

    Args:
        model: It is not changed.
        feeds: Its inputs.
        values: Its outputs in float64, by name.
        seed: Of the rounding.
    """
    moved = {name: np.zeros(np.shape(y)) for name, y in values.items() if _is_real(y)}
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        copy = clone(model)
        _round_anew(copy, rng)
        results = evaluate(copy, feeds, precision=np.float64)
        for name, known in moved.items():
            if np.shape(results[name]) == known.shape:
                with np.errstate(all="ignore"):
                    apart = np.abs(results[name] - values[name])
                moved[name] = np.maximum(known, np.where(np.isfinite(apart), apart, 0.0))
    return {name: np.maximum(y, _root_mean_square(y)) for name, y in moved.items()}


def _is_real(y: object) -> bool:
    return isinstance(y, np.ndarray) and y.dtype.kind == "f"


def _root_mean_square(y: Array) -> float:
    return float(np.sqrt(np.mean(np.square(y)))) if y.size else 0.0


def _round_anew(model: ir.Model, rng: np.random.Generator) -> None:
    """Move each floating constant by up to half a unit in its last place; inputs keep theirs."""
    for scope in scopes(model):
        for value in getattr(scope, "initializers", {}).values():
            tensor = constant_tensor(value)
            if tensor is not None and tensor.dtype in _EPS:
                value.const_value = _rounded(tensor, rng)
        for node in scope:
            tensor = constant_tensor(node.outputs[0]) if node.op_type == "Constant" else None
            if tensor is not None and tensor.dtype in _EPS and "value" in node.attributes:
                node.attributes["value"] = ir.AttrTensor("value", _rounded(tensor, rng))
                node.outputs[0].const_value = None


_EPS = {
    ir.DataType.FLOAT16: 2.0**-11,
    ir.DataType.BFLOAT16: 2.0**-8,
    ir.DataType.FLOAT: 2.0**-24,
    ir.DataType.DOUBLE: 2.0**-53,
}
"""Half a unit in the last place of 1."""

_SHORT = {
    ir.DataType.FLOAT16: 1 << 5,
    ir.DataType.BFLOAT16: 1 << 3,
    ir.DataType.FLOAT: 1 << 11,
    ir.DataType.DOUBLE: 1 << 11,
}
"""A number of so few digits was written, not rounded; well below what the type can hold."""


def _rounded(tensor: ir.TensorProtocol, rng: np.random.Generator) -> ir.TensorProtocol:
    x = tensor.numpy().astype(np.float64)
    short = _SHORT[tensor.dtype]
    with np.errstate(all="ignore"):
        fraction, _ = np.frexp(x)
        was_rounded = np.isfinite(x) & (np.rint(fraction * short) != fraction * short)
        moved = x * (1 + _EPS[tensor.dtype] * rng.uniform(-1, 1, x.shape))
    return ir.Tensor(np.where(was_rounded, moved, x), name=tensor.name)
