"""Int8: linear layers multiply integers of 8 bits or fewer.

Algebra     y = x W^T ~ s_x s[n] sum_k q_x[k] q[n, k];  q_x = rint(x / s_x) with a scale s_x for
            each row of x where the target has the kernel, for the whole tensor in ONNX Runtime's
            own DynamicQuantizeMatMul otherwise; or with a range known beforehand (`static`),
            even levels or a codebook
Source      RepQ-ViT (2212.08254) quantizes the same places by ranges known beforehand; weights
            that make up for each other's errors: OPTQ (2210.17323)
Exactness   approximate; the error of each layer is measured on calibration data
Cost        a floating multiply-add a weight and row becomes one of bytes; 32 bits a weight 8

`bits="w4a4"` are 4 bits of a weight and of an activation, in bytes: the products are as fast as
those of 8 bits. Layers are fitted in the order of the network, each on the activations that the
layers before it leave. After "layernorm-reparam" where both are allowed, which makes the channels
behind norms alike, and after what attention becomes. Runs only when allowed by name:
`allow=("layernorm-reparam", "int8")`.
"""

import time
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.errors import InputError, OptionError
from addax.ir import Exact, Op, rule
from addax.ir.rule import EveryNode
from addax.ir.statistics import HAS_KERNEL, LAYERS, NOTES, PLACES, Layer, Observer
from addax.passes._family import Context, Phase
from addax.passes._int8_bits import Widths
from addax.passes._integer.fitting import Fit, NotFiniteError, Wanted, fit_layer
from addax.passes._integer.nodes import RUNTIME, node_like, product
from addax.passes._shift.lowering import lower_by
from addax.passes._shift.sites import Site
from addax.passes._shift.targets import Target, check_only, describe_left, find_targets
from addax.passes._shift.targets import Wanted as Which

PHASE = Phase.APPROXIMATE
AFTER = ("layernorm-reparam", "log2-softmax", "int8-attention")

_OPS = ("Int8MatMul", "StaticInt8MatMul")


@dataclass(frozen=True)
class Options:
    """Which layers, how many bits, and how far.

    bits: Of weights and of activations, 2 to 8 each: "w8a8", "w6a6", "w4a8", "w4a4", ...
    static: Whether ranges of activations are those of calibration data, so that nothing is looked
        for while the model runs; None: where activations have fewer than 8 bits.
    codebooks: Whether a static quantizer may have entries that are not even, where these lose much
        less, as behind a GELU. Free in our kernels; in ONNX Runtime's own ops a table read for
        each activation takes longer than the product.
    compensate: Whether weights make up for each other's errors (OPTQ), and the bias for what the
        mean of an output lacks.
    damping: Of the inputs' second moments for that, as a share of their mean.
    rows: Rows (tokens) that layers must be seen on where ranges are static; fewer are refused.
    smallest: Weights of the smallest layer that is treated.
    skip: Names of layers, nodes or weights that stay, or parts of names, with * and ?.
    only: Whole names of the layers that are treated, as the report has them; None for all.
    convolutions: Whether convolutions that are linear layers (of 1 x 1, patch embeddings) are
        treated too, with activations of 8 bits, since an image has few levels anyway; None: where
        weights or activations have fewer than 8 bits.
    max_error: The relative error |y - y'| / |y| of a layer's output above which it stays; None
        for any.
    reduce_range: Weights within +-63, for processors whose products of bytes saturate (x86
        without VNNI) in ONNX Runtime's own operator; the kernels need it nowhere.
    """

    bits: str = "w8a8"
    static: bool | None = None
    codebooks: bool = True
    compensate: bool = True
    damping: float = 0.01
    rows: int = 32
    smallest: int = 4096
    skip: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    convolutions: bool | None = None
    max_error: float | None = None
    reduce_range: bool = False

    def __post_init__(self) -> None:
        Widths.parse(self.bits)
        for name in ("smallest", "rows"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise OptionError(f"int8: {name} must be a whole number, 1 or more; got {value!r}")
        if not isinstance(self.skip, tuple) or not all(isinstance(s, str) for s in self.skip):
            raise OptionError(
                f"int8: skip must be a tuple of names, such as ('head',); got {self.skip!r}"
            )
        check_only("int8", self.only)
        for name in ("max_error", "damping"):
            value = getattr(self, name)
            optional = " or None" if name == "max_error" else ""
            if (value is not None or not optional) and not (
                isinstance(value, (int, float)) and value > 0
            ):
                raise OptionError(
                    f"int8: {name} must be a positive number{optional}; got {value!r}"
                )
        if self.static is False and self.widths.is_narrow:
            raise OptionError(
                f"int8: activations of {self.widths.activations} bits have ranges that are known "
                f"beforehand; leave out static=False, or say bits='w{self.widths.weights}a8'"
            )

    @property
    def widths(self) -> Widths:
        """The bits, read."""
        return Widths.parse(self.bits)

    @property
    def wanted(self) -> Wanted:
        """What each layer is to become."""
        widths = self.widths
        return Wanted(
            widths,
            widths.is_narrow if self.static is None else self.static,
            self.codebooks,
            self.compensate,
            self.damping,
            self.reduce_range,
        )

    @property
    def takes_convolutions(self) -> bool:
        """Whether convolutions are treated."""
        few = self.widths != Widths()
        return few if self.convolutions is None else self.convolutions


@rule("int8/replace", match=EveryNode(lambda _: True), exact=Exact.APPROXIMATE)
def replace(op: Op, site: Site, fit: Fit) -> ir.Value:
    """x W^T -> integers of x times integers of W."""
    name = site.weight.name or "weight"
    return lower_by(
        op, site, lambda rows: product(op, rows, name, fit.weights, fit.inputs), fit.offset
    )


def run(model: ir.Model, context: Context) -> bool:
    """Treat every linear layer of the main graph once, in order.

    Raises:
        OptionError: If there is no calibration data.
        InputError: If ranges are to be static, and no layer is seen on enough rows.
    """
    calibration = context.calibration("int8")
    if not context.is_first("int8"):
        return False
    options: Options = context.options
    notes: list[str] = context.facts.setdefault(NOTES, [])
    which = Which(options.smallest, options.skip, only=options.only)
    targets, left = find_targets(model, which)
    notes += describe_left(left, "int8")
    observer, changed = calibration.walk(model), False
    for target in targets:
        fresh = target.refreshed()
        if context.limits.is_out_of_fuel:
            break
        if fresh.sites and (options.takes_convolutions or not fresh.sites[0].view.kernel):
            told, done = _treat(model, fresh, observer, context)
            notes.append(f"int8, {target.name}: {told}")
            changed |= done
    return changed


def _treat(
    model: ir.Model, target: Target, observer: Observer, context: Context
) -> tuple[str, bool]:
    """Rewrite a layer wherever its weights are read; what to tell, and whether it was done."""
    options: Options = context.options
    wanted = options.wanted
    began, site = time.perf_counter(), target.sites[0]
    if site.x.dtype != ir.DataType.FLOAT:
        return f"unchanged: its activations are {site.x.dtype}, and integers replace float32", False
    serves = context.facts.get(HAS_KERNEL, lambda _: True)
    by_rows = bool(serves(node_like(site.x, *site.size, static=wanted.static)))
    has_bias = all(each.has_bias for each in target.sites)
    try:
        fit = fit_layer(target, observer, wanted, by_rows=by_rows, has_bias=has_bias)
    except NotFiniteError:
        return "unchanged: its activations are not finite", False
    if wanted.static and fit.rows < options.rows:
        raise InputError(
            f"int8: ranges that are known beforehand need layers to be seen on at least "
            f"{options.rows} rows (tokens) of calibration data, and {target.name} was seen on "
            f"{fit.rows}: ranges of fewer would cut off what comes later; give more, or say rows="
        )
    if options.max_error is not None and fit.error > options.max_error:
        return f"unchanged: its error would be {fit.error:.3g}, above {options.max_error:g}", False
    if not by_rows:
        model.opset_imports.setdefault(RUNTIME, 1)
    before = set(model.graph)
    done = [context.driver.rewrite(replace, each.root, each, fit) for each in target.sites]
    if not any(done):
        return "unchanged: the rewrite was declined", False
    made = tuple(n for n in model.graph if n not in before and n.op_type in _OPS)
    context.driver.resume()
    matrix = target.matrix()
    lost = float(np.linalg.norm(matrix - fit.weights.decode()) / np.linalg.norm(matrix))
    outputs, inputs = target.size
    widths = wanted.widths
    context.facts.setdefault(LAYERS, []).append(
        Layer(
            target.name, outputs, inputs, "int8" if widths == Widths() else str(widths),
            widths.weights, lost, fit.error, target.stored_bytes, fit.weights.nbytes,
            time.perf_counter() - began,
        )
    )  # fmt: skip
    context.facts.setdefault(PLACES, []).append(made)
    return "; ".join((_told(fit, widths), *fit.notes)), True


def _told(fit: Fit, widths: Widths) -> str:
    """The quantizer, its range, the error, the code path."""
    quantizer = fit.inputs.quantizer
    weights = "" if widths == Widths() else f"weights of {widths.weights} bits, "
    how = f"by {fit.inputs.path}"
    if quantizer is not None:
        low, high = quantizer.bounds
        how = f"in [{low:.3g}, {high:.3g}] {how}"
    return f"{weights}activations up to {fit.reach:.3g} {how}, output error {fit.error:.3g}"
