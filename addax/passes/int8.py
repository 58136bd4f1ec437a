"""Int8: linear layers multiply integers of 8 bits, activations rounded as they come.

Algebra     y = x W^T ~ s_x s[n] sum_k q_x[k] q[n, k]; s[n] = max |W[n]| / 127; q_x = rint(x / s_x),
            with a scale s_x for each row of x where the target has the kernel, for the whole
            tensor in ONNX Runtime's own DynamicQuantizeMatMul otherwise
Source      RepQ-ViT (2212.08254) quantizes the same places by ranges known beforehand; a scale for
            each row loses half as much as these in DeiT-Tiny, and needs no calibration to hold
Exactness   approximate; the error of each layer is measured on calibration data
Cost        a floating multiply-add a weight and row becomes one of bytes; 32 bits a weight 8

After "layernorm-reparam" where both are allowed, which makes the channels behind norms alike.
Weights of 4 bits on activations of 8 are those of "shift-add". Runs only when allowed by name:
`allow=("layernorm-reparam", "int8")`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.errors import OptionError
from addax.ir import Exact, Op, decline, rule, shape
from addax.ir.dialect import DOMAIN, operators
from addax.ir.numbers import pack_integers
from addax.ir.rule import EveryNode
from addax.ir.statistics import (
    HAS_KERNEL,
    LAYERS,
    NOTES,
    PLACES,
    Layer,
    Observer,
)
from addax.passes._family import Context, Phase
from addax.passes._int8 import IntegerWeights, by_tensor, by_token, sampled
from addax.passes._shift.lowering import lower_by
from addax.passes._shift.sites import Site
from addax.passes._shift.targets import (
    Target,
    Wanted,
    check_only,
    describe_left,
    find_targets,
)

PHASE = Phase.APPROXIMATE
AFTER = ("layernorm-reparam",)

_RUNTIME = "com.microsoft"
Serves = Callable[[ir.Node], bool]


@dataclass(frozen=True)
class Options:
    """Which layers, and how far.

    smallest: Weights of the smallest layer that is treated.
    skip: Names of layers, nodes or weights that stay, or parts of names, with * and ?.
    only: Whole names of the layers that are treated, as the report has them; None for all.
    convolutions: Whether convolutions that are linear layers (of 1 x 1, patch embeddings) are
        treated too; they are a small part of a transformer, and the image has few levels anyway.
    max_error: The relative error |y - y'| / |y| of a layer's output above which it stays; None
        for any.
    reduce_range: Weights within +-63, for processors whose products of bytes saturate (x86
        without VNNI) in ONNX Runtime's own operator; the kernels need it nowhere.
    """

    smallest: int = 4096
    skip: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    convolutions: bool = False
    max_error: float | None = None
    reduce_range: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.smallest, int) or self.smallest < 1:
            raise OptionError(
                f"int8: smallest must be a whole number, 1 or more; got {self.smallest!r}"
            )
        if not isinstance(self.skip, tuple) or not all(isinstance(s, str) for s in self.skip):
            raise OptionError(
                f"int8: skip must be a tuple of names, such as ('head',); got {self.skip!r}"
            )
        check_only("int8", self.only)
        if self.max_error is not None and not (
            isinstance(self.max_error, (int, float)) and self.max_error > 0
        ):
            raise OptionError(
                f"int8: max_error must be a positive number or None; got {self.max_error!r}"
            )


@rule("int8/replace", match=EveryNode(lambda _: True), exact=Exact.APPROXIMATE)
def replace(op: Op, site: Site, weights: IntegerWeights, by_rows: bool) -> ir.Value:
    """x W^T -> Int8MatMul(x, W), or DynamicQuantizeMatMul(x, W)."""
    build = _kernel if by_rows else _runtime
    return lower_by(op, site, lambda rows: build(op, site, rows, weights))


def _kernel(op: Op, site: Site, rows: ir.Value, weights: IntegerWeights) -> ir.Value:
    name = site.weight.name or "weight"
    made: ir.Value = op.domain(DOMAIN).Int8MatMul(
        rows,
        op.initializer(pack_integers(weights.integers), f"{name}.integers"),
        op.initializer(weights.scale, f"{name}.scale"),
    )
    node = made.producer()
    if node is None:
        decline("nothing was made")
    operators()["Int8MatMul"].shape(node)
    return made


def _runtime(op: Op, site: Site, rows: ir.Value, weights: IntegerWeights) -> ir.Value:
    name, dims = site.weight.name or "weight", shape(rows)
    made: ir.Value = op.domain(_RUNTIME).DynamicQuantizeMatMul(
        rows,
        op.initializer(np.ascontiguousarray(weights.integers.T), f"{name}.integers"),
        op.initializer(weights.scale, f"{name}.scale"),
    )
    made.type = rows.type
    if dims is not None:
        made.shape = ir.Shape([*dims[:-1], len(weights.scale)])
    return made


def run(model: ir.Model, context: Context) -> bool:
    """Treat every linear layer of the main graph once, in order.

    Raises:
        OptionError: If there is no calibration data.
    """
    calibration = context.calibration("int8")
    if not context.is_first("int8"):
        return False
    options: Options = context.options
    notes: list[str] = context.facts.setdefault(NOTES, [])
    targets, left = find_targets(model, Wanted(options.smallest, options.skip, only=options.only))
    notes += describe_left(left, "int8")
    observer, changed = calibration.walk(model), False
    for target in targets:
        fresh = target.refreshed()
        if context.limits.is_out_of_fuel:
            break
        if fresh.sites and (options.convolutions or not fresh.sites[0].view.kernel):
            told, done = _treat(model, fresh, observer, context)
            notes.append(f"int8, {target.name}: {told}")
            changed |= done
    return changed


def _treat(
    model: ir.Model, target: Target, observer: Observer, context: Context
) -> tuple[str, bool]:
    """Rewrite a layer wherever its weights are read; what to tell, and whether it was done."""
    options: Options = context.options
    began, site = time.perf_counter(), target.sites[0]
    if site.x.dtype != ir.DataType.FLOAT:
        return f"unchanged: its activations are {site.x.dtype}, and integers replace float32", False
    matrix = target.matrix()
    serves: Serves = context.facts.get(HAS_KERNEL, lambda _: True)
    by_rows = _is_served(site, serves)
    largest = 63 if options.reduce_range and not by_rows else 127
    weights = IntegerWeights.of(matrix, largest)
    error, reach = _measured(target, observer, matrix, weights, by_rows)
    if not np.isfinite(error):
        return "unchanged: its activations are not finite", False
    if options.max_error is not None and error > options.max_error:
        return f"unchanged: its error would be {error:.3g}, above {options.max_error:g}", False
    if not by_rows:
        model.opset_imports.setdefault(_RUNTIME, 1)
    before = set(model.graph)
    done = [context.driver.rewrite(replace, s.root, s, weights, by_rows) for s in target.sites]
    if not any(done):
        return "unchanged: the rewrite was declined", False
    made = tuple(n for n in model.graph if n not in before and n.op_type == "Int8MatMul")
    context.driver.resume()
    lost = float(np.linalg.norm(matrix - weights.decode()) / np.linalg.norm(matrix))
    outputs, inputs = target.size
    context.facts.setdefault(LAYERS, []).append(
        Layer(
            target.name, outputs, inputs, "int8", 8, lost, error,
            target.stored_bytes, weights.nbytes, time.perf_counter() - began,
        )
    )  # fmt: skip
    context.facts.setdefault(PLACES, []).append(made)
    how = "a scale for each row" if by_rows else "one scale for a tensor, DynamicQuantizeMatMul"
    return f"activations up to {reach:.3g} by {how}, output error {error:.3g}", True


def _is_served(site: Site, serves: Serves) -> bool:
    """Whether the target has the kernel for a layer, asked of a node like the one to be made."""
    outputs, inputs = site.size
    dims = shape(site.x) or ()
    rows = ir.Value(name="x", type=site.x.type)
    rows.shape = ir.Shape([*([None] * (max(len(dims), 2) - 1)), inputs])
    arrays: tuple[np.ndarray, ...] = (
        pack_integers(np.zeros((outputs, inputs), np.int8)),
        np.zeros(outputs, np.float32),
    )
    constants = [
        ir.Value(
            name=f"w{place}",
            const_value=ir.tensor(array),
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            shape=ir.Shape(array.shape),
        )
        for place, array in enumerate(arrays)
    ]
    node = ir.Node(DOMAIN, "Int8MatMul", [rows, *constants])
    ir.Graph([rows], node.outputs, nodes=[node], initializers=constants, name="layer")
    return serves(node)


def _measured(
    target: Target, observer: Observer, matrix: np.ndarray, weights: IntegerWeights, by_rows: bool
) -> tuple[float, float]:
    """The relative error of the outputs, infinite if they are not finite; the largest input."""
    missed = whole = reach = 0.0
    batches, decoded = len(observer.sizes()), weights.decode()
    rounded = by_token if by_rows else by_tensor
    for site in target.sites:
        for (array,) in observer.observe((site.x,)):
            rows = site.view.rows(array)
            x = sampled(rows.reshape(-1, rows.shape[-1]), batches)
            exact = x @ matrix.T
            missed += float(np.square(rounded(x) @ decoded.T - exact).sum())
            whole += float(np.square(exact).sum())
            reach = max(reach, float(np.abs(x).max(initial=0.0)))
    if not np.isfinite([missed, whole, reach]).all():
        return float("inf"), reach
    return float(np.sqrt(missed / (whole or 1.0))), reach
