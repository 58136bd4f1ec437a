"""Int8-attention: both products of attention, Q K^T and softmax times V, multiply integers.

Algebra     Q K^T ~ s_q s_k sum_d (q_q - z_q)(q_k - z_k);  q = rint(x / s) + z, 0 .. 2^bits - 1;
            P V ~ s_p s_v sum_l q_p (q_v - z_v), P = softmax(...) in codes of 8 bits
Source      RepQ-ViT (2212.08254) section 3.3 quantizes the same places; which share of what was
            seen a range covers is chosen by error
Exactness   approximate; the error of each product is measured on calibration data
Cost        a floating multiply-add becomes one of bytes; Q, K and V are moved as bytes, too

The softmax itself stays in float32: ONNX Runtime's own on integers takes six times as long.
Products are its MatMulIntegerToFloat, one operand unsigned and one signed, its fastest form. Where
"log2-softmax" is allowed too and the target has its kernel, P V is left to it. Runs only when
allowed by name: `allow=("layernorm-reparam", "int8", "int8-attention")`.
"""

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.errors import OptionError
from addax.ir import Exact, Op, decline, rule
from addax.ir.origin import describe, origin
from addax.ir.ranges import Histograms
from addax.ir.rule import EveryNode
from addax.ir.statistics import IN_RUNTIME, NOTES, Observer
from addax.passes._attention_products import (
    CODED,
    SCORES,
    VALUES,
    Product,
    find_products,
    find_source,
)
from addax.passes._family import Context, Phase
from addax.passes._int8_bits import Widths
from addax.passes._static_codes import Codes

PHASE = Phase.APPROXIMATE
AFTER = ("layernorm-reparam", "log2-softmax")

_RUNTIME = "com.microsoft"
_ENDS = (1.0, 0.5, 0.25)  # of the range of softmax; few tokens draw more than half
_LEAST = 4096  # numbers that a range must have been seen on
_TINY = np.finfo(np.float32).tiny
_SIDES = ("queries", "keys"), ("softmax", "values")


@dataclass(frozen=True)
class Options:
    """How many bits, and how far.

    bits: As "int8" takes them, such as "w4a4"; queries, keys and values have those of activations,
        in bytes. Softmax always has 8, which in so few codes as 4 would need others.
    skip: Names of nodes that stay, or parts of names, with * and ?.
    max_error: The relative error |y - y'| / |y| of a product above which it stays; None for any.
    reduce_range: Keys and values in 7 bits at most, for processors whose products of bytes
        saturate (x86 without VNNI).
    each_row: Whether softmax is rounded relative to the maximum of each row: a third of the error
        of softmax times V, or less, for two more passes over the softmax.
    """

    bits: str = "w8a8"
    skip: tuple[str, ...] = ()
    max_error: float | None = None
    reduce_range: bool = False
    each_row: bool = False

    def __post_init__(self) -> None:
        Widths.parse(self.bits, "int8-attention")
        if not isinstance(self.skip, tuple) or not all(isinstance(s, str) for s in self.skip):
            raise OptionError(
                f"int8-attention: skip must be a tuple of names, such as ('node_0',); "
                f"got {self.skip!r}"
            )
        if self.max_error is not None and not (
            isinstance(self.max_error, (int, float)) and self.max_error > 0
        ):
            raise OptionError(
                "int8-attention: max_error must be a positive number or None; "
                f"got {self.max_error!r}"
            )


@dataclass(frozen=True, eq=False)
class _Planned:
    """A product, the codes of what it multiplies, and its relative error with them.

    Where the left side is rounded relative to the maximum of `each_row`, so are its codes.
    """

    product: Product
    left: Codes
    right: Codes
    error: float
    each_row: bool

    def __str__(self) -> str:
        bits = self.right.levels.bit_length()
        if self.product.kind == CODED:
            return f"values of {bits} bits in {self.right}, output error {self.error:.3g}"
        names = _SIDES[self.product.kind != SCORES]
        if self.each_row:
            names = "softmax over the maximum of its row,", "values"
        sides = (
            f"{name} of {codes.levels.bit_length()} bits in {codes}"
            for name, codes in zip(names, (self.left, self.right), strict=True)
        )
        return f"{', '.join(sides)}, MatMulIntegerToFloat, output error {self.error:.3g}"


@rule("int8-attention/product", match=EveryNode(lambda _: True), exact=Exact.APPROXIMATE)
def multiply(op: Op, planned: _Planned) -> ir.Value:
    """MatMul(a, b) -> MatMulIntegerToFloat(QuantizeLinear(a), QuantizeLinear(b))."""
    (a, b), old = op.root.inputs, op.root.outputs[0]
    left, right, top = planned.left, planned.right, None
    if planned.each_row:
        axes = op.initializer(np.array([-1]), "axes")
        top = op.ReduceMax(a, axes) if op.opset >= 18 else op.ReduceMax(a, axes=[-1])
        a = op.Div(a, top)
    made: ir.Value = op.domain(_RUNTIME).MatMulIntegerToFloat(
        _rounded(op, a, left),
        _rounded(op, b, right),
        op.initializer(np.asarray(left.scale), "scale"),
        op.initializer(np.asarray(right.scale), "scale"),
        op.initializer(left.stored_zero, "zero_point"),
        op.initializer(right.stored_zero, "zero_point"),
    )
    made.type, made.shape = old.type, old.shape
    return made if top is None else op.Mul(made, top)


@rule("int8-attention/values", match=EveryNode(lambda _: True), exact=Exact.APPROXIMATE)
def narrow(op: Op, planned: _Planned) -> ir.Value:
    """LogCodeAttention(s, m, v) -> LogCodeAttention(s, m, DequantizeLinear(QuantizeLinear(v)))."""
    codes = planned.right

    def both_ways(source: ir.Value) -> ir.Value:
        constants = _constants(op, codes)
        made: ir.Value = op.DequantizeLinear(_codes(op, source, codes), *constants)
        return made

    node = op.root
    scores, mask, values = node.inputs
    made: ir.Value = op.domain(node.domain).LogCodeAttention(
        scores,
        mask,
        _moved(op, values, both_ways),
        **{attr.name: attr for attr in node.attributes.values()},
    )
    made.type, made.shape = node.outputs[0].type, node.outputs[0].shape
    return made


def _constants(op: Op, codes: Codes) -> tuple[ir.Value, ir.Value]:
    scale = op.initializer(np.asarray(codes.scale), "scale")
    return scale, op.initializer(codes.stored_zero, "zero_point")


def _codes(op: Op, x: ir.Value, codes: Codes) -> ir.Value:
    """The codes of x as bytes."""
    if codes.is_narrow:
        low, high = (op.initializer(np.asarray(b, np.float32), "bound") for b in codes.bounds)
        x = op.Clip(x, low, high)
    made: ir.Value = op.QuantizeLinear(x, *_constants(op, codes))
    return made


def _rounded(op: Op, x: ir.Value | None, codes: Codes) -> ir.Value:
    return _moved(op, x, lambda source: _codes(op, source, codes))


def _moved(op: Op, x: ir.Value | None, change: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """Change(x), an elementwise change, made before the moves that end in x."""
    if x is None:
        decline("an operand is missing")
    source, moves = find_source(x)
    made = change(source)
    for node in moves:
        attributes = {attr.name: attr for attr in node.attributes.values()}
        made = getattr(op, node.op_type)(made, *node.inputs[1:], **attributes)
    return made


def run(model: ir.Model, context: Context) -> bool:
    """Treat both products of every attention of the main graph once, in order.

    Raises:
        OptionError: If there is no calibration data.
    """
    calibration = context.calibration("int8-attention")
    if not context.is_first("int8-attention"):
        return False
    notes: list[str] = context.facts.setdefault(NOTES, [])
    options: Options = context.options
    observer, planned = calibration.walk(model), []
    # All ranges first: what is rewritten lies before what would be observed next.
    for product in find_products(model.graph):
        where = f"int8-attention, {describe(product.root)}"
        if product.kind != CODED and not context.facts.get(IN_RUNTIME, True):
            notes.append(f"{where}: unchanged: ONNX Runtime does not run the model on this target")
            continue
        found = _plan(product, observer, options)
        if isinstance(found, str):
            notes.append(f"{where}: unchanged: {found}")
        elif found is not None:
            planned.append((where, found))
    changed = False
    for where, each in planned:
        if context.limits.is_out_of_fuel:
            break
        if each.product.kind != CODED:
            model.opset_imports.setdefault(_RUNTIME, 1)
        change = narrow if each.product.kind == CODED else multiply
        done = context.driver.rewrite(change, each.product.root, each)
        notes.append(f"{where}: {each if done else 'unchanged: the rewrite was declined'}")
        changed |= done
    context.driver.resume()
    return changed


def _plan(product: Product, observer: Observer, options: Options) -> _Planned | str | None:
    """The codes of a product; or why it stays; or None if there is nothing to do."""
    bits = Widths.parse(options.bits).activations
    if product.kind == CODED and bits == 8:
        return None  # as kernels round them anyway
    if _is_named(product.root, options.skip):
        return "skip= names it"
    for value in (product.left, product.right):
        if value.dtype != ir.DataType.FLOAT:
            return f"it multiplies {value.dtype}, and integers replace float32"
    seen = _observed(product, observer)
    if isinstance(seen, str):
        return seen
    signed = min(bits, 7) if options.reduce_range else bits
    right = Codes.best(seen[1], signed, signed=True)
    each_row = options.each_row and product.kind == VALUES
    lefts = _left(product, seen[0], bits, each_row=each_row)
    made = _chosen(product, observer, lefts, right, each_row=each_row)
    if not np.isfinite(made.error):
        return "its products are not finite"
    if options.max_error is not None and made.error > options.max_error:
        return f"its error would be {made.error:.3g}, above {options.max_error:g}"
    return made


def _is_named(node: ir.Node, patterns: tuple[str, ...]) -> bool:
    place = origin(node)
    names = (node.name or "", "" if place is None else place.module)
    return any(fnmatch.fnmatchcase(n, f"*{p}*") for n in names for p in patterns)


def _left(product: Product, seen: Histograms, bits: int, *, each_row: bool) -> list[Codes]:
    """What the left side may be rounded to; for softmax, up to 1 or to less, finer."""
    if product.kind == SCORES:
        return [Codes.best(seen, bits, signed=False)]
    if product.kind == CODED:
        return [Codes.best(seen, bits, signed=True)]
    return [Codes.of(0.0, end, 8, signed=False) for end in (_ENDS[:1] if each_row else _ENDS)]


def _observed(product: Product, observer: Observer) -> tuple[Histograms, Histograms] | str:
    """The numbers of both sides; or why there are none to go by."""
    seen = Histograms(1), Histograms(1)
    for arrays in observer.observe((product.left, product.right)):
        for histogram, array in zip(seen, _sides(product, *arrays), strict=True):
            histogram.add(array.reshape(-1, 1))
    for name, histogram in zip(_SIDES[product.kind != SCORES], seen, strict=True):
        if not histogram.is_finite:
            return f"its {name} are not finite on the calibration data"
        if histogram.count < _LEAST:
            return (
                f"its {name} were seen on {histogram.count} numbers, and a range needs {_LEAST}: "
                "more calibration data"
            )
        if not max(abs(histogram.low[0]), abs(histogram.high[0])) > 0:
            return f"its {name} are 0 on all calibration data, which says nothing of their range"
    return seen


def _sides(product: Product, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is multiplied; rows of a softmax that see nothing are NaN, and count as zeros."""
    if product.kind in {SCORES, CODED}:
        return left, right
    return np.where(np.isnan(left).all(-1, keepdims=True), np.float32(0), left), right


def _chosen(
    product: Product, observer: Observer, lefts: list[Codes], right: Codes, *, each_row: bool
) -> _Planned:
    """Of the codes of the left side those with the smallest error of the product."""
    missed, whole = np.zeros(len(lefts)), 0.0
    for arrays in observer.observe((product.left, product.right)):
        a, b = _sides(product, *arrays)
        exact = b if product.kind == CODED else a @ b
        whole += float(np.square(exact, dtype=np.float64).sum())
        rounded = right.decoded(b)
        top = np.maximum(a.max(-1, keepdims=True), _TINY) if each_row else np.float32(1)
        for place, left in enumerate(lefts):
            made = rounded if product.kind == CODED else left.decoded(a / top) @ rounded * top
            missed[place] += np.square(made - exact, dtype=np.float64).sum()
    best = int(missed.argmin())
    error = float(np.sqrt(missed[best] / (whole or 1.0)))
    return _Planned(product, lefts[best], right, error, each_row)
