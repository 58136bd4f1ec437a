"""Canonicalize fused: what ONNX Runtime's optimizer has fused goes back to standard operators.

Algebra     SkipLayerNormalization(x, y, g, b, c) = LN(x + y + c, g, b);
            BiasGelu(x, b) = Gelu(x + b);
            FusedMatMul(A, B) = alpha op(A) op(B);   FusedConv(x, W, b, z) = f(Conv(x, W, b) + z)
Source      ONNX Runtime's ContribOperators.md
Exactness   reassociated
Cost        more nodes in the file, the same work: the runtime fuses each of these again when it
            loads the model. It does not find attention again, so Attention, MultiHeadAttention and
            EmbedLayerNormalization stay
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir import Exact, Op, attribute, known_dtype, known_rank, require, rule
from addax.passes._family import Phase

PHASE = Phase.CANONICAL

_NATIVE = "com.microsoft"
_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def _input(node: ir.Node, position: int) -> ir.Value | None:
    return node.inputs[position] if len(node.inputs) > position else None


# --- Gelu ---------------------------------------------------------------------------------------


def _native_gelu(op: Op, x: ir.Value) -> ir.Value:
    return op.domain(_NATIVE).Gelu(x)


@rule("canonicalize-fused/gelu", match=_native_gelu, exact=Exact.REASSOCIATED)
def gelu(op: Op, x: ir.Value) -> ir.Value:
    """ONNX Runtime's Gelu(x) -> Gelu(x)."""
    require(op.opset >= 20, "Gelu needs opset 20", x)
    return op.Gelu(x)


def _fast_gelu(op: Op, x: ir.Value) -> ir.Value:
    return op.domain(_NATIVE).FastGelu(x, ...)


@rule("canonicalize-fused/fast-gelu", match=_fast_gelu, exact=Exact.REASSOCIATED)
def fast_gelu(op: Op, x: ir.Value) -> ir.Value:
    """FastGelu(x, b) -> Gelu(x + b, approximate="tanh")."""
    require(op.opset >= 20, "Gelu needs opset 20", x)
    bias = _input(op.root, 1)
    return op.Gelu(x if bias is None else op.Add(x, bias), approximate="tanh")


def _bias_gelu(op: Op, x: ir.Value, b: ir.Value) -> ir.Value:
    return op.domain(_NATIVE).BiasGelu(x, b)


@rule("canonicalize-fused/bias-gelu", match=_bias_gelu, exact=Exact.REASSOCIATED)
def bias_gelu(op: Op, x: ir.Value, b: ir.Value) -> ir.Value:
    """BiasGelu(x, b) -> Gelu(x + b), ONNX Runtime's own where the opset has none."""
    total = op.Add(x, b)
    made: ir.Value = op.Gelu(total) if op.opset >= 20 else op.domain(_NATIVE).Gelu(total)
    return made


def _quick_gelu(op: Op, x: ir.Value) -> ir.Value:
    return op.domain(_NATIVE).QuickGelu(x)


@rule("canonicalize-fused/quick-gelu", match=_quick_gelu, exact=Exact.REASSOCIATED)
def quick_gelu(op: Op, x: ir.Value) -> ir.Value:
    """QuickGelu(x, a) -> x Sigmoid(a x)."""
    slope = attribute(op.root, "alpha", 1.7020000219345093)
    return op.Mul(x, op.Sigmoid(x if slope == 1 else op.Mul(x, slope)))


# --- norms --------------------------------------------------------------------------------------


def _skip_layer_norm(op: Op, x: ir.Value, skip: ir.Value, g: ir.Value) -> ir.Value:
    return op.domain(_NATIVE).SkipLayerNormalization(x, skip, g, ...)


@rule("canonicalize-fused/skip-layer-norm", match=_skip_layer_norm, exact=Exact.REASSOCIATED)
def skip_layer_norm(op: Op, x: ir.Value, skip: ir.Value, g: ir.Value) -> tuple[ir.Value, ...]:
    """SkipLayerNormalization(x, y, g, b, c) -> s = (x + y) + c, LayerNormalization(s, g, b)."""
    require(op.opset >= 17, "LayerNormalization needs opset 17", x)
    node = op.root
    total = _sum(op, x, skip, _input(node, 4))
    b = _input(node, 3)
    # ONNX Runtime leaves mean and deviation empty here, so nobody can have read them.
    made = op.LayerNormalization(
        total, g, *([] if b is None else [b]), epsilon=attribute(node, "epsilon", 1e-12)
    )
    return _with_sum(op, made, total)


def _sum(op: Op, x: ir.Value, skip: ir.Value, bias: ir.Value | None) -> ir.Value:
    total: ir.Value = op.Add(x, skip)
    return total if bias is None else op.Add(total, bias)


def _with_sum(op: Op, made: ir.Value, total: ir.Value) -> tuple[ir.Value, ...]:
    """The outputs of a norm after an addition: itself, two unread statistics, the sum."""
    statistics = [v for v in op.root.outputs[1:3] if v.uses() or v.is_graph_output()]
    require(not statistics, "the mean or the deviation is used", *statistics)
    return (made,) if len(op.root.outputs) < 4 else (made, made, made, total)


def _skip_rms_norm(op: Op, x: ir.Value, skip: ir.Value, g: ir.Value) -> ir.Value:
    return op.domain(_NATIVE).SkipSimplifiedLayerNormalization(x, skip, g, ...)


@rule("canonicalize-fused/skip-rms-norm", match=_skip_rms_norm, exact=Exact.REASSOCIATED)
def skip_rms_norm(op: Op, x: ir.Value, skip: ir.Value, g: ir.Value) -> tuple[ir.Value, ...]:
    """SkipSimplifiedLayerNormalization(x, y, g, c) -> s = (x + y) + c, RMS(s) g."""
    total = _sum(op, x, skip, _input(op.root, 3))
    made = _rms_norm(op, total, g, attribute(op.root, "epsilon", 1e-12))
    return _with_sum(op, made, total)


def _simplified(op: Op, x: ir.Value, g: ir.Value) -> ir.Value:
    return op.SimplifiedLayerNormalization(x, g, axis=-1)


def _native_simplified(op: Op, x: ir.Value, g: ir.Value) -> ir.Value:
    return op.domain(_NATIVE).SimplifiedLayerNormalization(x, g, axis=-1)


@rule(
    "canonicalize-fused/rms-norm",
    match=(_simplified, _native_simplified),
    exact=Exact.REASSOCIATED,
)
def rms_norm(op: Op, x: ir.Value, g: ir.Value) -> ir.Value:
    """SimplifiedLayerNormalization(x, g) -> RMS(x) g."""
    return _rms_norm(op, x, g, attribute(op.root, "epsilon", 1e-5))


def _rms_norm(op: Op, x: ir.Value, g: ir.Value, epsilon: float) -> ir.Value:
    """RMSNormalization, or before opset 23 the spelling that `canonicalize-norms` has for it."""
    if op.opset >= 23:
        return op.RMSNormalization(x, g, epsilon=epsilon)
    half = known_dtype(x) if known_dtype(x) in _HALVES else None
    wide = x if half is None else op.Cast(x, to=int(ir.DataType.FLOAT))
    squares = op.Mul(wide, wide)
    mean = op.ReduceMean(squares, [-1]) if op.opset >= 18 else op.ReduceMean(squares, axes=[-1])
    y = op.Mul(wide, op.Reciprocal(op.Sqrt(op.Add(mean, epsilon))))
    return op.Mul(y if half is None else op.Cast(y, to=int(half)), g)


# --- products and convolutions ------------------------------------------------------------------


def _fused_matmul(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    return op.domain(_NATIVE).FusedMatMul(a, b)


@rule("canonicalize-fused/matmul", match=_fused_matmul, exact=Exact.REASSOCIATED)
def fused_matmul(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    """FusedMatMul(A, B) -> alpha op(A) op(B)."""
    alpha = attribute(op.root, "alpha", 1.0)
    product = op.MatMul(_turned(op, a, "A"), _turned(op, b, "B"))
    return product if alpha == 1 else op.Mul(product, alpha)


def _turned(op: Op, x: ir.Value, name: str) -> ir.Value:
    """A factor with its last two axes exchanged, or its first axis put before the last."""
    last, batch = (attribute(op.root, f"{kind}{name}", 0) for kind in ("trans", "transBatch"))
    if not last and not batch:
        return x
    perm = list(range(known_rank(x)))
    if batch:
        perm = [*perm[1:-1], 0, perm[-1]]
    if last and len(perm) > 1:
        perm = [*perm[:-2], perm[-1], perm[-2]]
    return x if len(perm) < 2 else op.Transpose(x, perm=perm)


def _gemm_fast_gelu(op: Op, x: ir.Value, w: ir.Value) -> ir.Value:
    return op.domain(_NATIVE).GemmFastGelu(x, w, ...)


@rule("canonicalize-fused/gemm-fast-gelu", match=_gemm_fast_gelu, exact=Exact.REASSOCIATED)
def gemm_fast_gelu(op: Op, x: ir.Value, w: ir.Value) -> ir.Value:
    """GemmFastGelu(x, W, b) -> FastGelu(x W + b)."""
    bias = _input(op.root, 2)
    product = op.MatMul(x, w)
    total = product if bias is None else op.Add(product, bias)
    made: ir.Value = op.domain(_NATIVE).FastGelu(total)
    return made


def _fused_gemm(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    return op.domain(_NATIVE).FusedGemm(a, b, ...)


@rule("canonicalize-fused/gemm", match=_fused_gemm, exact=Exact.REASSOCIATED)
def fused_gemm(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    """FusedGemm(A, B, C) -> f(Gemm(A, B, C))."""
    node = op.root
    parameters = [attribute(node, f"activation_{name}", 0.0) for name in ("alpha", "beta")]
    attributes = _without_activation(node)
    made = op.Gemm(a, b, *node.inputs[2:], **attributes)
    return _activated(op, made, parameters)


def _fused_conv(op: Op, x: ir.Value, w: ir.Value) -> ir.Value:
    return op.domain(_NATIVE).FusedConv(x, w, ...)


@rule("canonicalize-fused/conv", match=_fused_conv, exact=Exact.REASSOCIATED)
def fused_conv(op: Op, x: ir.Value, w: ir.Value) -> ir.Value:
    """FusedConv(x, W, b, z) -> f(Conv(x, W, b) + z)."""
    node = op.root
    bias, addend = _input(node, 2), _input(node, 3)
    made = op.Conv(x, w, *([] if bias is None else [bias]), **_without_activation(node))
    total = made if addend is None else op.Add(made, addend)
    return _activated(op, total, attribute(node, "activation_params", ()))


def _without_activation(node: ir.Node) -> dict[str, ir.Attr]:
    return {name: a for name, a in node.attributes.items() if not name.startswith("activation")}


def _activated(op: Op, y: ir.Value, parameters: Any) -> ir.Value:
    """The activation that a fused node names, of `y`."""
    name = attribute(op.root, "activation", "")
    numbers = tuple(parameters)
    if not name:
        return y
    if name in ("Relu", "Tanh", "Sigmoid"):
        made: ir.Value = getattr(op, name)(y)
        return made
    if name == "LeakyRelu":
        return op.LeakyRelu(y, alpha=numbers[0])
    if name == "HardSigmoid":
        return op.HardSigmoid(y, alpha=numbers[0], beta=numbers[1])
    require(name == "Clip" and op.opset >= 11, f"the activation {name!r} has no standard node", y)
    low, high = np.array(numbers[:2], known_dtype(y).numpy())
    return op.Clip(y, op.initializer(np.asarray(low)), op.initializer(np.asarray(high)))


RULES = (
    gelu,
    fast_gelu,
    bias_gelu,
    quick_gelu,
    skip_layer_norm,
    skip_rms_norm,
    rms_norm,
    fused_matmul,
    gemm_fast_gelu,
    fused_gemm,
    fused_conv,
)
