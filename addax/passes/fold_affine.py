"""Fold affine: batch norm, scales and shifts into the neighbouring linear operator.

Algebra     k = gamma / sqrt(var + eps);   BN(y) = k y + (beta - k mu)
            after:   s (x W + b) + t = x (W diag s) + (s b + t)
            before:  (s x + t) W + b = x (diag(s) W) + (t W + b);  for a convolution the shift
            folds only without padding, since padding inserts zeros and not t
            x[..., K], W[K, N]; for convolutions x[B, I, ...], W[O, I/g, ...], channels on axis 1
Source      Jacob et al. 2018 (1712.05877) section 3.2; RepVGG (2101.03697) equation 3
Exactness   reassociated: W is rounded once, |y' - y| <= (K + 4) eps (|x| |W| |s| + |s b| + |t|)
Cost        removes one elementwise operator; never adds one
"""

import numpy as np
import onnx_ir as ir

from addax.ir import Exact, Op, attribute, const, decline, known_rank, producing, require, rule
from addax.ir.query import constant_tensor, store_once
from addax.passes._family import Phase

PHASE = Phase.FOLD


def _per_channel(op: Op, v: ir.Value, channels: int, axis: int, out_rank: int) -> ir.Value:
    """A constant that is broadcast along `axis` alone, as a vector[channels]."""
    dims = const(v, "the scale or shift").shape
    require(len(dims) <= out_rank, "the constant raises the rank", v)
    if int(np.prod(dims)) == 1:
        return op.Expand(op.Reshape(v, [1]), [channels])
    full = (1,) * (out_rank - len(dims)) + dims
    where = axis % out_rank
    require(full[where] == channels, "the constant does not run along the channels", v)
    require(
        all(d == 1 for i, d in enumerate(full) if i != where),
        "the constant varies along another axis than the channels",
        v,
    )
    return op.Reshape(v, [channels])


def _dims(w: ir.Value, least: int) -> tuple[int, ...]:
    tensor = constant_tensor(w)
    if tensor is None:
        decline("the weights are not constant", w)
    dims = tuple(int(d) for d in tensor.shape.numpy())
    require(len(dims) >= least, f"the weight has rank {len(dims)}, expected {least} or more", w)
    require(0 not in dims, "the weight is empty", w)
    return dims


# --- after a matrix product ---------------------------------------------------------------------


def _scaled_matmul(op: Op, x: ir.Value, w: ir.Value, s: ir.Value) -> ir.Value:
    return op.Mul(op.MatMul(x, w, _as="y"), s)


@rule("fold-affine/scale-after-matmul", match=_scaled_matmul, exact=Exact.REASSOCIATED)
def scale_after_matmul(op: Op, x: ir.Value, w: ir.Value, s: ir.Value, y: ir.Value) -> ir.Value:
    """s (x W) -> x (W diag s)."""
    store_once(w)
    dims = _dims(w, 2)
    scale = _per_channel(op, s, dims[-1], -1, known_rank(y))
    return op.MatMul(x, op.Mul(w, scale))


def _scaled_biased(op: Op, x: ir.Value, w: ir.Value, b: ir.Value, s: ir.Value) -> ir.Value:
    return op.Mul(op.Add(op.MatMul(x, w, _as="y"), b), s)


@rule("fold-affine/scale-after-linear", match=_scaled_biased, exact=Exact.REASSOCIATED)
def scale_after_linear(
    op: Op, x: ir.Value, w: ir.Value, b: ir.Value, s: ir.Value, y: ir.Value
) -> ir.Value:
    """s (x W + b) -> x (W diag s) + s b."""
    store_once(w)
    dims = _dims(w, 2)
    scale = _per_channel(op, s, dims[-1], -1, known_rank(y))
    bias = _per_channel(op, b, dims[-1], -1, known_rank(y))
    return op.Add(op.MatMul(x, op.Mul(w, scale)), op.Mul(bias, scale))


# --- before a matrix product --------------------------------------------------------------------


def _matmul_of_scaled(op: Op, x: ir.Value, s: ir.Value, w: ir.Value) -> ir.Value:
    return op.MatMul(op.Mul(x, s), w)


@rule("fold-affine/scale-before-matmul", match=_matmul_of_scaled, exact=Exact.REASSOCIATED)
def scale_before_matmul(op: Op, x: ir.Value, s: ir.Value, w: ir.Value) -> ir.Value:
    """(s x) W -> x (diag(s) W)."""
    store_once(w)
    dims = _dims(w, 2)
    scale = _per_channel(op, s, dims[-2], -1, known_rank(x))
    return op.MatMul(x, op.Mul(w, op.Reshape(scale, [dims[-2], 1])))


def _linear_of_shifted(op: Op, x: ir.Value, t: ir.Value, w: ir.Value, b: ir.Value) -> ir.Value:
    return op.Add(op.MatMul(op.Add(x, t), w, _as="y"), b)


@rule("fold-affine/shift-before-linear", match=_linear_of_shifted, exact=Exact.REASSOCIATED)
def shift_before_linear(
    op: Op, x: ir.Value, t: ir.Value, w: ir.Value, b: ir.Value, y: ir.Value
) -> ir.Value:
    """(x + t) W + b -> x W + (t W + b)."""
    dims = _dims(w, 2)
    require(len(dims) == 2, "a batch of weights would need a batch of biases", w)
    shift = _per_channel(op, t, dims[0], -1, known_rank(x))
    bias = _per_channel(op, b, dims[1], -1, known_rank(y))
    moved = op.Squeeze(op.MatMul(op.Unsqueeze(shift, [0]), w), [0])
    return op.Add(op.MatMul(x, w), op.Add(moved, bias))


# --- after a convolution ------------------------------------------------------------------------


class _Convolution:
    """The parts of a Conv or ConvTranspose node with constant weights."""

    def __init__(self, op: Op, y: ir.Value, w: ir.Value) -> None:
        self.op = op
        self.node = producing(y)
        self.w = w
        self.group: int = attribute(self.node, "group", 1)
        store_once(w)
        self.dims = _dims(w, 3)
        self.transposed = self.node.op_type == "ConvTranspose"
        self.outputs = self.dims[1] * self.group if self.transposed else self.dims[0]
        self.inputs = self.dims[0] if self.transposed else self.dims[1] * self.group
        bias = self.node.inputs[2] if len(self.node.inputs) > 2 else None
        if bias is not None:
            const(bias, "the bias")
        self.bias = bias

    @property
    def is_padded(self) -> bool:
        """Whether the border of the input may meet zeros that padding put there."""
        automatic = attribute(self.node, "auto_pad", "NOTSET")
        return automatic not in ("NOTSET", "VALID") or any(attribute(self.node, "pads", ()))

    def scaled_outputs(self, s: ir.Value) -> ir.Value:
        """W with output channel o multiplied by s[o]."""
        op, ones = self.op, [1] * (len(self.dims) - 2)
        if not self.transposed:
            return op.Mul(self.w, op.Reshape(s, [self.outputs, 1, *ones]))
        grouped = [self.group, self.inputs // self.group, self.dims[1], -1]
        scaled = op.Mul(
            op.Reshape(self.w, grouped), op.Reshape(s, [self.group, 1, self.dims[1], 1])
        )
        return op.Reshape(scaled, list(self.dims))

    def scaled_inputs(self, s: ir.Value) -> ir.Value:
        """W with input channel i multiplied by s[i]; for Conv only."""
        op, each = self.op, self.dims[1]
        grouped = [self.group, self.outputs // self.group, each, -1]
        scaled = op.Mul(op.Reshape(self.w, grouped), op.Reshape(s, [self.group, 1, each, 1]))
        return op.Reshape(scaled, list(self.dims))

    def shifted_by(self, t: ir.Value) -> ir.Value:
        """What adding t[i] to every input channel adds to the outputs, without padding."""
        op, each = self.op, self.dims[1]
        taps = op.Reshape(self.w, [self.group, self.outputs // self.group, each, -1])
        weighted = op.Mul(op.ReduceSum(taps, [3], keepdims=0), op.Reshape(t, [self.group, 1, each]))
        return op.Reshape(op.ReduceSum(weighted, [2], keepdims=0), [self.outputs])

    def with_parts(self, x: ir.Value, w: ir.Value, bias: ir.Value | None) -> ir.Value:
        """The same convolution of other parts."""
        make = getattr(self.op, self.node.op_type)
        parts = [x, w] if bias is None else [x, w, bias]
        made: ir.Value = make(*parts, **dict(self.node.attributes))
        return made


def _batch_norm(
    op: Op, scale: ir.Value, bias: ir.Value, mean: ir.Value, var: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """The scale k and shift t of an inference batch norm: BN(y) = k y + t; vectors[C]."""
    is_root = op.root.op_type == "BatchNormalization"
    node = op.root if is_root else producing(op.root.inputs[0])
    require(attribute(node, "training_mode", 0) == 0, "batch norm in training mode")
    epsilon = attribute(node, "epsilon", 1e-5)
    require(
        np.all(const(var, "the variance") + epsilon > 0),
        "variance plus epsilon is not positive",
        var,
    )
    for v, what in ((scale, "gamma"), (bias, "beta"), (mean, "the mean")):
        const(v, what)
    k = op.Div(scale, op.Sqrt(op.Add(var, epsilon)))
    return k, op.Sub(bias, op.Mul(k, mean))


def _bn_of_conv(
    op: Op, x: ir.Value, w: ir.Value,
    scale: ir.Value, bias: ir.Value, mean: ir.Value, var: ir.Value,
) -> ir.Value:  # fmt: skip
    return op.BatchNormalization(op.Conv(x, w, ..., _as="y"), scale, bias, mean, var)


def _bn_of_conv_transpose(
    op: Op, x: ir.Value, w: ir.Value,
    scale: ir.Value, bias: ir.Value, mean: ir.Value, var: ir.Value,
) -> ir.Value:  # fmt: skip
    return op.BatchNormalization(op.ConvTranspose(x, w, ..., _as="y"), scale, bias, mean, var)


@rule(
    "fold-affine/batch-norm-after-conv",
    match=(_bn_of_conv, _bn_of_conv_transpose),
    exact=Exact.REASSOCIATED,
)
def batch_norm_after_conv(
    op: Op, x: ir.Value, w: ir.Value, y: ir.Value,
    scale: ir.Value, bias: ir.Value, mean: ir.Value, var: ir.Value,
) -> ir.Value:  # fmt: skip
    """BN(conv(x, W) + b) -> conv(x, k W) + (k b + t)."""
    conv = _Convolution(op, y, w)
    k, t = _batch_norm(op, scale, bias, mean, var)
    shifted = t if conv.bias is None else op.Add(op.Mul(k, conv.bias), t)
    return conv.with_parts(x, conv.scaled_outputs(k), shifted)


def _bn_of_matmul(
    op: Op, x: ir.Value, w: ir.Value,
    scale: ir.Value, bias: ir.Value, mean: ir.Value, var: ir.Value,
) -> ir.Value:  # fmt: skip
    return op.BatchNormalization(op.MatMul(x, w, _as="y"), scale, bias, mean, var)


def _bn_of_linear(
    op: Op, x: ir.Value, w: ir.Value, b: ir.Value,
    scale: ir.Value, bias: ir.Value, mean: ir.Value, var: ir.Value,
) -> ir.Value:  # fmt: skip
    return op.BatchNormalization(op.Add(op.MatMul(x, w), b, _as="y"), scale, bias, mean, var)


@rule(
    "fold-affine/batch-norm-after-linear",
    match=(_bn_of_matmul, _bn_of_linear),
    exact=Exact.REASSOCIATED,
)
def batch_norm_after_linear(
    op: Op, x: ir.Value, w: ir.Value, y: ir.Value,
    scale: ir.Value, bias: ir.Value, mean: ir.Value, var: ir.Value,
) -> ir.Value:  # fmt: skip
    """BN(x W + b) -> x (W diag k) + (k b + t), for y[B, C]."""
    store_once(w)
    channels = _dims(w, 2)[-1]
    require(known_rank(y) == 2, "the channels of batch norm are not the last axis", y)
    k, t = _batch_norm(op, scale, bias, mean, var)
    node = producing(y)
    if node.op_type == "Add":
        b = _per_channel(op, _constant_input(node), channels, -1, 2)
        t = op.Add(op.Mul(k, b), t)
    return op.Add(op.MatMul(x, op.Mul(w, k)), t)


def _constant_input(node: ir.Node) -> ir.Value:
    found = [v for v in node.inputs if v is not None and constant_tensor(v) is not None]
    require(len(found) == 1, "the bias is not constant")
    return found[0]


def _scaled_conv(op: Op, x: ir.Value, w: ir.Value, s: ir.Value) -> ir.Value:
    return op.Mul(op.Conv(x, w, ..., _as="y"), s)


def _scaled_conv_transpose(op: Op, x: ir.Value, w: ir.Value, s: ir.Value) -> ir.Value:
    return op.Mul(op.ConvTranspose(x, w, ..., _as="y"), s)


@rule(
    "fold-affine/scale-after-conv",
    match=(_scaled_conv, _scaled_conv_transpose),
    exact=Exact.REASSOCIATED,
)
def scale_after_conv(op: Op, x: ir.Value, w: ir.Value, s: ir.Value, y: ir.Value) -> ir.Value:
    """s (conv(x, W) + b) -> conv(x, s W) + s b."""
    conv = _Convolution(op, y, w)
    scale = _per_channel(op, s, conv.outputs, 1, known_rank(y))
    bias = None if conv.bias is None else op.Mul(conv.bias, scale)
    return conv.with_parts(x, conv.scaled_outputs(scale), bias)


def _shifted_conv(op: Op, x: ir.Value, w: ir.Value, t: ir.Value) -> ir.Value:
    return op.Add(op.Conv(x, w, ..., _as="y"), t)


def _shifted_conv_transpose(op: Op, x: ir.Value, w: ir.Value, t: ir.Value) -> ir.Value:
    return op.Add(op.ConvTranspose(x, w, ..., _as="y"), t)


@rule(
    "fold-affine/shift-after-conv",
    match=(_shifted_conv, _shifted_conv_transpose),
    exact=Exact.REASSOCIATED,
)
def shift_after_conv(op: Op, x: ir.Value, w: ir.Value, t: ir.Value, y: ir.Value) -> ir.Value:
    """(conv(x, W) + b) + t -> conv(x, W) + (b + t)."""
    conv = _Convolution(op, y, w)
    shift = _per_channel(op, t, conv.outputs, 1, known_rank(y))
    bias = shift if conv.bias is None else op.Add(conv.bias, shift)
    return conv.with_parts(x, conv.w, bias)


# --- before a convolution -----------------------------------------------------------------------


def _conv_of_scaled(op: Op, x: ir.Value, s: ir.Value, w: ir.Value) -> ir.Value:
    return op.Conv(op.Mul(x, s), w, ..., _as="y")


@rule("fold-affine/scale-before-conv", match=_conv_of_scaled, exact=Exact.REASSOCIATED)
def scale_before_conv(op: Op, x: ir.Value, s: ir.Value, w: ir.Value, y: ir.Value) -> ir.Value:
    """conv(s x, W) + b -> conv(x, W diag s) + b; padding stays zero under a scale."""
    conv = _Convolution(op, y, w)
    scale = _per_channel(op, s, conv.inputs, 1, known_rank(x))
    return conv.with_parts(x, conv.scaled_inputs(scale), conv.bias)


def _conv_of_shifted(op: Op, x: ir.Value, t: ir.Value, w: ir.Value) -> ir.Value:
    return op.Conv(op.Add(x, t), w, ..., _as="y")


@rule("fold-affine/shift-before-conv", match=_conv_of_shifted, exact=Exact.REASSOCIATED)
def shift_before_conv(op: Op, x: ir.Value, t: ir.Value, w: ir.Value, y: ir.Value) -> ir.Value:
    """conv(x + t, W) + b -> conv(x, W) + (b + sum_taps W t), without padding."""
    conv = _Convolution(op, y, w)
    require(not conv.is_padded, "the border would meet padding that was not shifted", y)
    moved = conv.shifted_by(_per_channel(op, t, conv.inputs, 1, known_rank(x)))
    return conv.with_parts(x, conv.w, moved if conv.bias is None else op.Add(conv.bias, moved))


def _conv_of_bn(
    op: Op, x: ir.Value, w: ir.Value,
    scale: ir.Value, bias: ir.Value, mean: ir.Value, var: ir.Value,
) -> ir.Value:  # fmt: skip
    return op.Conv(op.BatchNormalization(x, scale, bias, mean, var), w, ..., _as="y")


@rule("fold-affine/batch-norm-before-conv", match=_conv_of_bn, exact=Exact.REASSOCIATED)
def batch_norm_before_conv(
    op: Op, x: ir.Value, w: ir.Value, y: ir.Value,
    scale: ir.Value, bias: ir.Value, mean: ir.Value, var: ir.Value,
) -> ir.Value:  # fmt: skip
    """conv(BN(x), W) + b -> conv(x, W diag k) + (b + sum_taps W t), unpadded or with t = 0."""
    conv = _Convolution(op, y, w)
    k, t = _batch_norm(op, scale, bias, mean, var)
    require(
        not conv.is_padded or not np.any(op.exact(t)),
        "the border would meet padding that was not shifted",
        y,
    )
    moved = conv.shifted_by(t)
    total = moved if conv.bias is None else op.Add(conv.bias, moved)
    return conv.with_parts(x, conv.scaled_inputs(k), total)


RULES = (
    scale_after_matmul,
    scale_after_linear,
    scale_before_matmul,
    shift_before_linear,
    batch_norm_after_conv,
    batch_norm_after_linear,
    scale_after_conv,
    shift_after_conv,
    scale_before_conv,
    shift_before_conv,
    batch_norm_before_conv,
)
