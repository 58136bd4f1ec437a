"""Canonicalize scores: the scale of attention scores moves to where it costs nothing.

Algebra     s (q k) = (s q) k;   q (s k) = (s q) k;   s P(x) = P(s x) for transposes and reshapes;
            s (x W + b)_i is folded into W and b (`fold-affine`) once the parts are separate
Source      Vaswani et al. 2017 (1706.03762) equation 1; how torch, timm and Hugging Face write it:
            on the scores, on q, or its root on both
Exactness   reassociated: |y' - y| <= (K + 3) eps |s| |q| |k|
Cost        never adds a node but where a packed projection is taken apart, which `merge-linears`
            puts together again; a scale moves to the smaller operand, or into weights
"""

import math

import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    const,
    known_rank,
    known_shape,
    producer,
    require,
    rule,
    single_use,
    static_shape,
)
from addax.ir.query import constant_tensor, is_constant_number, store_once
from addax.ir.rule import EveryNode
from addax.passes._family import Context, Phase
from addax.passes._scopes import open_scopes

PHASE = Phase.CANONICAL

_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze")
_FAR = 12  # nodes between a scale and the weights that it can be folded into


def reaches_weights(value: ir.Value | None) -> bool:
    """Whether a scale of `value` can be folded into the weights of the linear layer behind it."""
    for _ in range(_FAR):
        if value is None or not single_use(value):
            return False
        node = producer(value, *_MOVES, "Split", "Slice", "Add", "MatMul", "Conv")
        if node is None:
            return False
        if node.op_type in ("MatMul", "Conv"):
            return constant_tensor(node.inputs[1]) is not None
        if node.op_type == "Add" and constant_tensor(node.inputs[1]) is None:
            return False
        value = node.inputs[0]
        if node.op_type in ("Split", "Slice"):
            return _is_linear(value)  # perhaps of several parts
    return False


def _is_linear(value: ir.Value | None) -> bool:
    """Whether `value` is a product with constant weights, perhaps with a constant bias."""
    node = producer(value, "MatMul", "Add")
    if node is not None and node.op_type == "Add" and constant_tensor(node.inputs[1]) is not None:
        node = producer(node.inputs[0], "MatMul")
    return node is not None and constant_tensor(node.inputs[1]) is not None


def is_scaled(value: ir.Value) -> bool:
    """Whether all that is done with `value` is to multiply it by a constant number."""
    if not single_use(value):
        return False
    (reader,) = value.consumers()
    return (
        reader.op_type == "Mul"
        and not reader.domain
        and any(is_constant_number(v) for v in reader.inputs if v is not value)
    )


def _product(op: Op, q: ir.Value, k: ir.Value, s: ir.Value) -> ir.Value:
    return op.Mul(op.MatMul(q, k, _as="y"), s)


@rule("canonicalize-scores/scale-of-product", match=_product, exact=Exact.REASSOCIATED)
def scale_of_product(op: Op, q: ir.Value, k: ir.Value, s: ir.Value, y: ir.Value) -> ir.Value:
    """s (q k) -> (s q) k, or q (s k) where only k comes from weights."""
    require(is_constant_number(s), "the scale is not one number", s)
    require(constant_tensor(q) is None and constant_tensor(k) is None, "a factor is constant", q, k)
    if reaches_weights(q):
        return op.MatMul(op.Mul(q, s), k)
    if reaches_weights(k):
        return op.MatMul(q, op.Mul(k, s))
    require(producer(q, "Softmax") is None, "the first factor is attention itself", q)
    before, after = static_shape(q), static_shape(y)
    require(
        before is None or after is None or math.prod(before) <= math.prod(after),
        "the first factor is larger than the product", q,
    )  # fmt: skip
    return op.MatMul(op.Mul(q, s), k)


def _scaled_keys(op: Op, q: ir.Value, k: ir.Value, s: ir.Value) -> ir.Value:
    return op.MatMul(q, op.Mul(k, s))


@rule("canonicalize-scores/scale-of-keys", match=_scaled_keys, exact=Exact.REASSOCIATED)
def scale_of_keys(op: Op, q: ir.Value, k: ir.Value, s: ir.Value) -> ir.Value:
    """q (s k) -> (s q) k."""
    require(is_constant_number(s), "the scale is not one number", s)
    require(constant_tensor(q) is None and constant_tensor(k) is None, "a factor is constant", q, k)
    require(producer(q, "Softmax") is None, "the first factor is attention itself", q)
    scaled = producer(q, "Mul")
    is_known = scaled is not None and is_constant_number(scaled.inputs[1])
    source = scaled.inputs[0] if scaled is not None and is_known else q
    require(
        is_known or reaches_weights(source) or not reaches_weights(k),
        "only the second factor comes from weights", k,
    )  # fmt: skip
    return op.MatMul(op.Mul(q, s), k)


def _split_product(op: Op, x: ir.Value, w: ir.Value) -> ir.Value:
    return op.Split(op.MatMul(x, w), ...)


@rule("canonicalize-scores/part-product", match=_split_product, exact=Exact.REASSOCIATED)
def part_product(op: Op, x: ir.Value, w: ir.Value) -> tuple[ir.Value, ...]:
    """split(x W) -> x W_1, x W_2, ... where a scale is waiting to be folded into one of them."""
    return tuple(op.MatMul(x, part) for part in _parts(op, w))


def _split_linear(op: Op, x: ir.Value, w: ir.Value, b: ir.Value) -> ir.Value:
    return op.Split(op.Add(op.MatMul(x, w), b), ...)


@rule("canonicalize-scores/part-linear", match=_split_linear, exact=Exact.REASSOCIATED)
def part_linear(op: Op, x: ir.Value, w: ir.Value, b: ir.Value) -> tuple[ir.Value, ...]:
    """split(x W + b) -> x W_1 + b_1, x W_2 + b_2, ... where a scale is waiting for one of them."""
    bias = const(b, "the bias").shape
    require(bias == const(w, "the weight").shape[-1:], "the bias is not a vector", b)
    pieces = op.Split(b, _sizes(op), axis=0, _outputs=len(op.root.outputs))
    return tuple(
        op.Add(op.MatMul(x, part), piece) for part, piece in zip(_parts(op, w), pieces, strict=True)
    )


def _parts(op: Op, w: ir.Value) -> tuple[ir.Value, ...]:
    """The columns of W for each part of the root, a Split with a part that is only scaled."""
    node = op.root
    require(any(map(is_scaled, node.outputs)), "no part is scaled", *node.outputs)
    require(const(w, "the weight").ndim == 2, "a batch of weights", w)
    require(len(node.outputs) > 1, "there is one part", *node.outputs)
    store_once(w)
    made: tuple[ir.Value, ...] = op.Split(w, _sizes(op), axis=1, _outputs=len(node.outputs))
    return made


def _sizes(op: Op) -> list[int]:
    node = op.root
    last = known_rank(node.inputs[0]) - 1
    require(attribute(node, "axis", 0) % (last + 1) == last, "another axis is split")
    dims = [known_shape(value)[last] for value in node.outputs]
    sizes = [d for d in dims if isinstance(d, int)]
    require(len(sizes) == len(dims), "the size of a part is known only at run time", *node.outputs)
    require(op.opset >= 13, "sizes are an attribute before opset 13", *node.outputs)
    return sizes


RULES = (
    scale_of_product,
    scale_of_keys,
    part_product,
    part_linear,
)


# --- a scale moves to the weights that can take it in -------------------------------------------


@rule(
    "canonicalize-scores/scale-before-movement",
    match=EveryNode(lambda _: False),
    exact=Exact.BITWISE,
)
def scale_before_movement(op: Op, s: ir.Value, moves: list[ir.Node]) -> ir.Value:
    """s P(x) -> P(s x) where x comes from weights that can take in s."""
    value: ir.Value = op.Mul(moves[0].inputs[0], s)
    for node in moves:
        value = getattr(op, node.op_type)(value, *node.inputs[1:], **dict(node.attributes))
    return value


def run(model: ir.Model, context: Context) -> bool:
    """Find the scales that weights can take in, however far away the weights are."""
    changed = False
    for scope in open_scopes(model):
        for node in list(scope):
            if node.op_type != "Mul" or node.domain or not is_constant_number(node.inputs[1]):
                continue
            y = node.inputs[0]
            product = producer(y, "MatMul") if y is not None and single_use(y) else None
            if product is not None and any(map(reaches_weights, product.inputs)):
                # What it reads may have become weights since the rule was offered the product.
                changed |= context.driver.rewrite(
                    scale_of_product, node, *product.inputs, node.inputs[1], product.outputs[0]
                )
                continue
            moves = _moves_above(node.inputs[0])
            if moves and reaches_weights(node.inputs[0]):
                changed |= context.driver.rewrite(
                    scale_before_movement, node, node.inputs[1], moves
                )
    return changed


def _moves_above(value: ir.Value | None) -> list[ir.Node]:
    """The transposes and reshapes that `value` has come through, the first of them first."""
    moves: list[ir.Node] = []
    node = producer(value, *_MOVES)
    while node is not None:
        moves.insert(0, node)
        node = producer(node.inputs[0], *_MOVES)
    return moves
