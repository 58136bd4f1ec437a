"""Canonicalize heads: packed or separate, queries, keys and values are parts of one linear layer.

Algebra     P(reshape(y, [B, N, 3, H, d]))[i] = P'(reshape(y[i D : (i + 1) D], [B, N, H, d]))
            with y = x W + b and D = H d; so for [H, 3, d] after permuting the columns of W and b;
            (P x) W + b = P (x W + b) where P keeps the last axis, and so for reshapes that do
Source      Vaswani et al. 2017 (1706.03762) section 3.2.2; how timm, Hugging Face, Megatron and
            torch.nn.MultiheadAttention pack their projections
Exactness   bitwise where elements move; a product of the same rows and columns in another order
            has the same terms, which a runtime may add up in another order
Cost        moves fewer elements: what is selected is selected first. Slices that take a value
            apart become one Split (`partition`), separate projections one (`merge-linears`)
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from addax.ir import (
    Exact,
    Op,
    attribute,
    const,
    constant,
    decline,
    known_rank,
    known_shape,
    producer,
    producing,
    rank,
    require,
    rule,
    scalar,
    shape,
)
from addax.ir.query import constant_tensor, store_once
from addax.passes._family import Phase
from addax.passes._reshape_target import must_spell

PHASE = Phase.CANONICAL


Dims = Sequence[int | str]


def _order(node: ir.Node) -> list[int]:
    perm = attribute(node, "perm")
    return list(reversed(range(known_rank(node.inputs[0])))) if perm is None else list(perm)


def _transposed(op: Op, x: ir.Value, perm: Sequence[int]) -> ir.Value:
    return x if list(perm) == list(range(len(perm))) else op.Transpose(x, perm=list(perm))


def _reshaped(op: Op, x: ir.Value, dims: Dims) -> ir.Value:
    return x if shape(x) == tuple(dims) else must_spell(dims, shape(x)).apply(op, x)


# --- a part is selected before its axes are split and moved -------------------------------------


def _gathered(op: Op, x: ir.Value, index: ir.Value) -> ir.Value:
    return op.Gather(op.Transpose(op.Reshape(x, ..., _shared=True), _shared=True), index)


def _gathered_at_once(op: Op, x: ir.Value, index: ir.Value) -> ir.Value:
    return op.Gather(op.Reshape(x, ..., _shared=True), index)


@rule(
    "canonicalize-heads/gather-part",
    match=(_gathered, _gathered_at_once),
    exact=Exact.BITWISE,
)
def gather_part(op: Op, x: ir.Value, index: ir.Value) -> ir.Value:
    """P(reshape(x, [..., 3, H, d]))[i] -> P'(reshape(x[i D : (i + 1) D], [..., H, d]))."""
    number = const(index, "the index")
    require(number.ndim == 0 and number >= 0, "not a single index from the front", index)
    return _select(op, op.root, attribute(op.root, "axis", 0), int(number))


def _squeezed_part(op: Op, x: ir.Value) -> ir.Value:
    return op.Squeeze(x, ...)


@rule("canonicalize-heads/split-part", match=_squeezed_part, exact=Exact.BITWISE)
def split_part(op: Op, x: ir.Value) -> ir.Value:
    """squeeze(split(P(reshape(x, [..., 3, H, d])))_i) -> P'(reshape(x[i D : (i + 1) D], ...))."""
    moved = producer(x, "Transpose")
    part = x if moved is None else moved.inputs[0]
    split = producer(part, "Split")
    if split is None or part is None:
        decline("not a part of a Split", x)
    perm = list(range(known_rank(x))) if moved is None else _order(moved)
    axis = attribute(split, "axis", 0) % len(perm)
    ones = [(shape(v) or ())[axis : axis + 1] == (1,) for v in split.outputs]
    require(all(ones), "a part has more than one element", *split.outputs)
    dropped = constant(op.root.inputs[1]) if len(op.root.inputs) > 1 else None
    names = None if dropped is None else [perm[a] for a in dropped.tolist()]
    require(names == [axis], "other axes are dropped", x)
    made = _select(op, split, axis, split.outputs.index(part))
    return _transposed(op, made, [k - (k > axis) for k in perm if k != axis])


def _select(op: Op, node: ir.Node, axis: int, index: int) -> ir.Value:
    """Element `index` of what `node` reads, along `axis`, selected where its data is made."""
    value = node.inputs[0]
    axis %= known_rank(value)
    moved = producer(value, "Transpose")
    perm = list(range(known_rank(value))) if moved is None else _order(moved)
    split = producer(value if moved is None else moved.inputs[0], "Reshape")
    if split is None or split.inputs[0] is None:
        decline("not what a Reshape has split", value)
    x, dims, axis = split.inputs[0], known_shape(split.outputs[0]), perm[axis]
    size = (shape(x) or (None,))[-1]
    require(_elements(dims[axis:]) == size, "not the first axis that the last is split into", x)
    width = _elements(dims[axis + 1 :]) or 0
    last = known_rank(x) - 1
    part = op.Slice(x, [index * width], [(index + 1) * width], [last])
    kept = [k for k in perm if k != axis]
    made = _reshaped(op, part, [*dims[:axis], *dims[axis + 1 :]])
    return _transposed(op, made, [k - (k > axis) for k in kept])


def _elements(dims: Dims) -> int | None:
    sizes = [d for d in dims if isinstance(d, int)]
    return math.prod(sizes) if len(sizes) == len(dims) else None


# --- packed head by head ------------------------------------------------------------------------


def _split_product(op: Op, x: ir.Value, w: ir.Value) -> ir.Value:
    return op.Reshape(op.MatMul(x, w, _as="y"), ...)


def _split_linear(op: Op, x: ir.Value, w: ir.Value, b: ir.Value) -> ir.Value:
    return op.Reshape(op.Add(op.MatMul(x, w), b, _as="y"), ...)


@rule(
    "canonicalize-heads/interleaved",
    match=(_split_product, _split_linear),
    exact=Exact.REASSOCIATED,
)
def interleaved(op: Op, x: ir.Value, w: ir.Value, y: ir.Value) -> ir.Value:
    """reshape(x W, [..., H, 3, d]) -> P(reshape(x W', [..., 3, H, d])) where the 3 are parted."""
    dims, last = known_shape(op.root.outputs[0]), known_rank(y) - 1
    tail = [d for d in dims[last:] if isinstance(d, int)]
    require(_elements(dims[last:]) == (shape(y) or (None,))[-1], "other axes are split", y)
    parted = _parted_axis(op.root.outputs[0])
    if parted is None or parted <= last:
        decline("no inner axis is taken apart", y)
    inner = parted - last
    moves = tail[inner] != 1 and _elements(tail[:inner]) != 1
    require(moves, "past axes of size 1 no column moves", y)
    store_once(w)
    front = [inner, *(k for k in range(len(tail)) if k != inner)]
    product = op.MatMul(x, _permuted(op, w, tail, front))
    node = producing(y)
    if node.op_type == "Add":
        product = op.Add(product, _permuted(op, _bias(node), tail, front))
    made = _reshaped(op, product, [*dims[:last], *(tail[k] for k in front)])
    back = [last + front.index(k) for k in range(len(tail))]
    return op.Transpose(made, perm=[*range(last), *back])


def _bias(node: ir.Node) -> ir.Value:
    known = [v for v in node.inputs if v is not None and constant_tensor(v) is not None]
    require(len(known) == 1, "the bias is not constant", *node.inputs)
    return known[0]


def _permuted(op: Op, w: ir.Value, tail: list[int], front: list[int]) -> ir.Value:
    """The columns of weights or of a bias, numbered as [tail], in the order of [front of tail]."""
    dims = const(w, "the weight").shape
    require(len(dims) in (1, 2) and dims[-1] == math.prod(tail), "not one row for each column", w)
    lead = list(dims[:-1])
    parts = op.Reshape(w, [*lead, *tail])
    moved = op.Transpose(parts, perm=[*range(len(lead)), *(len(lead) + k for k in front)])
    return op.Reshape(moved, list(dims))


def _parted_axis(value: ir.Value) -> int | None:
    """The axis along which every reader of `value` takes single elements; None if some do not."""
    axes: set[int | None] = set()
    for reader in value.consumers():
        if reader.domain:
            return None
        if reader.op_type == "Transpose":
            inner = _parted_axis(reader.outputs[0])
            axes.add(None if inner is None else _order(reader)[inner])
        elif reader.op_type == "Gather" and reader.inputs[0] is value:
            is_one = scalar(reader.inputs[1]) is not None and rank(reader.inputs[1]) == 0
            axes.add(attribute(reader, "axis", 0) % known_rank(value) if is_one else None)
        elif reader.op_type == "Split":
            axes.add(attribute(reader, "axis", 0) % known_rank(value))
        else:
            return None
    return axes.pop() if len(axes) == 1 and not value.is_graph_output() else None


# --- linear layers come before the movement of other axes ---------------------------------------


def _linear_of_transposed(op: Op, x: ir.Value, w: ir.Value) -> ir.Value:
    return op.MatMul(op.Transpose(x, _as="moved"), w)


@rule("canonicalize-heads/transposed-input", match=_linear_of_transposed, exact=Exact.REASSOCIATED)
def transposed_input(op: Op, x: ir.Value, w: ir.Value, moved: ir.Value) -> ir.Value:
    """(P x) W -> P (x W) where P keeps the last axis."""
    require(const(w, "the weight").ndim == 2, "a batch of weights", w)
    perm = _order(producing(moved))
    require(list(perm[-1:]) == [len(perm) - 1], "the last axis moves", x)
    return op.Transpose(op.MatMul(x, w), perm=perm)


def _bias_of_transposed(op: Op, x: ir.Value, w: ir.Value, b: ir.Value) -> ir.Value:
    return op.Add(op.Transpose(op.MatMul(x, w), _as="moved"), b)


@rule("canonicalize-heads/transposed-product", match=_bias_of_transposed, exact=Exact.BITWISE)
def transposed_product(op: Op, b: ir.Value, moved: ir.Value) -> ir.Value:
    """P (x W) + b -> P (x W + b) where P keeps the last axis."""
    require(const(b, "the bias").ndim <= 1, "the bias is not a vector", b)
    node = producing(moved)
    perm = _order(node)
    require(list(perm[-1:]) == [len(perm) - 1], "the last axis moves", b)
    return op.Transpose(op.Add(node.inputs[0], b), perm=perm)


def _flattened_input(op: Op, x: ir.Value, w: ir.Value) -> ir.Value:
    return op.MatMul(op.Reshape(x, ..., _as="flat"), w)


@rule("canonicalize-heads/flattened-input", match=_flattened_input, exact=Exact.REASSOCIATED)
def flattened_input(op: Op, x: ir.Value, w: ir.Value, flat: ir.Value) -> ir.Value:
    """reshape(x, [B N, K]) W -> reshape(x W, [B N, M])."""
    weight = const(w, "the weight")
    require(weight.ndim == 2, "a batch of weights", w)
    require(known_shape(x)[-1:] == weight.shape[:1], "the last axis is reshaped", x)
    return _reshaped(op, op.MatMul(x, w), [*known_shape(flat)[:-1], weight.shape[1]])


def _flattened_product(op: Op, x: ir.Value, w: ir.Value, b: ir.Value) -> ir.Value:
    return op.Add(op.Reshape(op.MatMul(x, w, _as="y"), ..., _as="flat"), b)


def _flattened_transpose(op: Op, x: ir.Value, w: ir.Value, b: ir.Value) -> ir.Value:
    moved = op.Transpose(op.MatMul(x, w), _as="y")
    return op.Add(op.Reshape(moved, ..., _as="flat"), b)


@rule(
    "canonicalize-heads/flattened-product",
    match=(_flattened_product, _flattened_transpose),
    exact=Exact.BITWISE,
)
def flattened_product(op: Op, b: ir.Value, y: ir.Value, flat: ir.Value) -> ir.Value:
    """reshape(y, [B N, M]) + b -> reshape(y + b, [B N, M]) for y = x W or y = P (x W)."""
    require(const(b, "the bias").ndim <= 1, "the bias is not a vector", b)
    dims = known_shape(flat)
    require(dims and known_shape(y)[-1:] == dims[-1:], "the last axis is reshaped", y)
    return _reshaped(op, op.Add(y, b), dims)


def _split_transposed_product(op: Op, x: ir.Value, w: ir.Value) -> ir.Value:
    return op.Reshape(op.Transpose(op.MatMul(x, w, _as="y"), _as="moved"), ...)


def _split_transposed_linear(op: Op, x: ir.Value, w: ir.Value, b: ir.Value) -> ir.Value:
    y = op.Add(op.MatMul(x, w), b, _as="y")
    return op.Reshape(op.Transpose(y, _as="moved"), ...)


@rule(
    "canonicalize-heads/split-transposed",
    match=(_split_transposed_product, _split_transposed_linear),
    exact=Exact.BITWISE,
)
def split_transposed(op: Op, y: ir.Value, moved: ir.Value) -> ir.Value:
    """reshape(P(x W), [..., H, d]) -> P'(reshape(x W, [..., H, d])): only the last is split."""
    perm, dims = _order(producing(moved)), known_shape(op.root.outputs[0])
    last = len(perm) - 1
    require(perm[-1] == last, "the last axis moves", y)
    require(dims[:last] == known_shape(moved)[:last], "other axes are split", y)
    tail = dims[last:]
    made = _reshaped(op, y, [*known_shape(y)[:last], *tail])
    return op.Transpose(made, perm=[*perm[:-1], *range(last, last + len(tail))])


def _unflattened_product(op: Op, x: ir.Value, w: ir.Value) -> ir.Value:
    return op.Reshape(op.MatMul(op.Reshape(x, ..., _shared=True), w, _as="y"), ...)


def _unflattened_linear(op: Op, x: ir.Value, w: ir.Value, b: ir.Value) -> ir.Value:
    product = op.MatMul(op.Reshape(x, ..., _shared=True), w)
    return op.Reshape(op.Add(product, b, _as="y"), ...)


@rule(
    "canonicalize-heads/unflatten",
    match=(_unflattened_product, _unflattened_linear),
    exact=Exact.REASSOCIATED,
)
def unflatten(op: Op, x: ir.Value, w: ir.Value, y: ir.Value) -> ir.Value:
    """reshape(reshape(x, [B N, K]) W + b, [B, N, M]) -> reshape(x, [B, N, K]) W + b."""
    weight, dims = const(w, "the weight"), known_shape(op.root.outputs[0])
    require(weight.ndim == 2, "a batch of weights", w)
    require(dims[-1] == weight.shape[1], "the last axis is reshaped", y)
    product = op.MatMul(_reshaped(op, x, [*dims[:-1], weight.shape[0]]), w)
    node = producing(y)
    if node.op_type == "MatMul":
        return product
    b = _bias(node)
    require(const(b, "the bias").ndim <= 1, "the bias is not a vector", b)
    return op.Add(product, b)


def _transposed_output(op: Op, x: ir.Value, w: ir.Value, b: ir.Value) -> ir.Value:
    joined = op.Reshape(op.Transpose(x, _as="moved"), ..., _as="joined")
    return op.Transpose(op.Add(op.MatMul(joined, w), b))


@rule("canonicalize-heads/transposed-output", match=_transposed_output, exact=Exact.REASSOCIATED)
def transposed_output(
    op: Op, x: ir.Value, w: ir.Value, b: ir.Value, moved: ir.Value, joined: ir.Value
) -> ir.Value:
    """Q(reshape(P x, [..., H d]) W + b) -> reshape(Q' P x, [..., H d]) W + b: one transpose."""
    require(const(w, "the weight").ndim == 2, "a batch of weights", w)
    require(const(b, "the bias").ndim <= 1, "the bias is not a vector", b)
    outer, inner = _order(op.root), _order(producing(moved))
    last = len(outer) - 1
    require(outer[-1] == last, "the last axis moves", x)
    before, after = known_shape(moved), known_shape(joined)
    require(before[:last] == after[:last], "other axes are joined", x)
    perm = [inner[k] for k in itertools.chain(outer[:-1], range(last, len(inner)))]
    turned = _reshaped(op, _transposed(op, x, perm), [*(after[k] for k in outer[:-1]), after[-1]])
    return op.Add(op.MatMul(turned, w), b)


RULES: tuple[Any, ...] = (
    gather_part,
    split_part,
    interleaved,
    transposed_input,
    transposed_product,
    flattened_input,
    flattened_product,
    split_transposed,
    unflatten,
    transposed_output,
)
