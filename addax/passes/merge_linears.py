"""Merge linears: linear layers that read the same value become one.

Algebra     [x W_1 + b_1, x W_2 + b_2, ...] = split(x [W_1 W_2 ...] + [b_1 b_2 ...])
            x[..., K], W_i[K, N_i], b_i[N_i]; a layer without a bias has b_i = 0
Source      queries, keys and values of attention, gate and value of a gated feed-forward layer
Exactness   reassociated: the same products, which a runtime may add up in another order
Cost        the same products in fewer and larger matrices, and a copy by the Split; weights that
            somebody else reads too are not merged, since they would be stored twice
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from addax.ir import Exact, Op, attribute, producer, rank, rule, shape, single_use
from addax.ir.query import constant, constant_tensor
from addax.ir.rule import EveryNode
from addax.passes._family import Context, Phase
from addax.passes._scopes import open_scopes
from addax.passes.canonicalize_scores import is_scaled

PHASE = Phase.FOLD
AFTER = ("fold-affine", "branch-consolidation", "channel-idle")

_NEAR = 64  # values that are looked at to see what a layer is for
_SIZES_OPSET = 13  # from here on Split takes its sizes as an operand


@dataclass(frozen=True)
class _Layer:
    """x W + b, or x W where `bias` is None, up to the node whose outputs are replaced.

    The root is the product, the addition, or the Split that parts the layer's columns already;
    `sizes` are the widths of its outputs.
    """

    product: ir.Node
    root: ir.Node
    weight: ir.Value
    bias: ir.Value | None
    sizes: tuple[int, ...]

    @property
    def is_waiting(self) -> bool:
        """Whether a scale is still to be folded into the weights."""
        return any(map(is_scaled, self.root.outputs))


@dataclass
class _Merger:
    """The layers that become one, and the outputs of the one once it is made.

    `layers` are in the order of their columns, `places` in that of their roots.
    """

    layers: list[_Layer]
    places: list[_Layer]
    outputs: list[ir.Value] = field(default_factory=list)

    def parts(self, layer: _Layer) -> tuple[ir.Value, ...]:
        """What takes the place of a layer's outputs."""
        position = self.layers.index(layer)
        start = sum(len(other.sizes) for other in self.layers[:position])
        return tuple(self.outputs[start : start + len(layer.sizes)])


@rule("merge-linears/layers", match=EveryNode(lambda _: False), exact=Exact.REASSOCIATED)
def merge_layers(op: Op, merger: _Merger, layer: _Layer) -> tuple[ir.Value, ...]:
    """x W_1 + b_1, x W_2 + b_2, ... -> split(x [W_1 W_2 ...] + [b_1 b_2 ...])."""
    if not merger.outputs:
        layers = merger.layers
        # Asked now: merging the layers above may have given x another maker.
        x = layers[0].product.inputs[0]
        y = op.MatMul(x, op.Concat(*(each.weight for each in layers), axis=1))
        if any(each.bias is not None for each in layers):
            y = op.Add(y, op.Concat(*(_bias(op, each) for each in layers), axis=0))
        sizes = [size for each in layers for size in each.sizes]
        merger.outputs = list(op.Split(y, sizes, axis=_last(y), _outputs=len(sizes)))
    return merger.parts(layer)


def _bias(op: Op, layer: _Layer) -> ir.Value:
    tensor = constant_tensor(layer.weight)
    width = sum(layer.sizes)
    if layer.bias is not None:
        return op.Expand(layer.bias, [width])
    zeros = np.zeros(width, None if tensor is None else tensor.dtype.numpy())
    return op.initializer(zeros, "zeros")


def _last(y: ir.Value) -> int:
    known = rank(y)
    return -1 if known is None else known - 1


def run(model: ir.Model, context: Context) -> bool:
    """Find the layers that read the same value, and merge them."""
    if model.opset_imports.get("", 1) < _SIZES_OPSET:
        return False
    changed = False
    for scope in open_scopes(model):
        for merger in list(_mergers(scope)):
            done = [
                context.driver.rewrite(merge_layers, layer.root, merger, layer)
                for layer in merger.places
            ]
            changed |= any(done)
    return changed


def _mergers(scope: ir.Graph | ir.Function) -> Iterator[_Merger]:
    """The layers of each value that several layers read."""
    place: dict[ir.Node, int] = {}
    layers: dict[tuple[ir.Value, ir.DataType], list[_Layer]] = {}
    for position, node in enumerate(scope):
        place[node] = position
        layer = _layer(node)
        if layer is not None and node.inputs[0] is not None and layer.weight.dtype is not None:
            layers.setdefault((node.inputs[0], layer.weight.dtype), []).append(layer)
    for found in layers.values():
        if len(found) > 1 and not any(layer.is_waiting for layer in found):
            found.sort(key=lambda layer: place[layer.root])
            yield _Merger(sorted(found, key=lambda layer: _role(layer.root)), found)


def _role(root: ir.Node) -> int:
    """0 for what becomes the first factor of a product, 1 for the second, 2 if Softmax weighs it.

    So queries come before keys, and keys before values.
    """
    waiting, seen = deque(root.outputs[:1]), set(root.outputs[:1])
    while waiting and len(seen) < _NEAR:
        value = waiting.popleft()
        for reader in value.consumers():
            if reader.op_type == "MatMul":
                is_weighed = producer(reader.inputs[0], "Softmax") is not None
                return 0 if reader.inputs[0] is value else 2 if is_weighed else 1
            new = [v for v in reader.outputs if v not in seen]
            waiting.extend(new)
            seen.update(new)
    return 0


def _layer(node: ir.Node) -> _Layer | None:
    """The layer that begins with a MatMul; None if it is none, or its weights are not its own."""
    if node.op_type != "MatMul" or node.domain or constant_tensor(node.inputs[0]) is not None:
        return None
    weight = node.inputs[1]
    tensor = constant_tensor(weight)
    if weight is None or tensor is None or tensor.shape.rank() != 2 or len(weight.uses()) > 1:
        return None
    width, bias, root = tensor.shape.numpy()[1], None, node
    addition = _only_reader(node, "Add")
    if addition is not None:
        other = addition.inputs[1] if addition.inputs[0] is node.outputs[0] else addition.inputs[0]
        array = constant(other)
        if array is not None and array.ndim <= 1 and array.size in (1, width):
            bias, root = other, addition
    sizes: tuple[int, ...] = (width,)
    parting = _only_reader(root, "Split")
    if parting is not None:
        known = _part_sizes(parting)
        sizes, root = (known, parting) if known is not None else (sizes, root)
    return _Layer(node, root, weight, bias, sizes)


def _only_reader(node: ir.Node, op_type: str) -> ir.Node | None:
    if not single_use(node.outputs[0]):
        return None
    (reader,) = node.outputs[0].consumers()
    is_it = producer(reader.outputs[0], op_type) is reader and reader.graph is node.graph
    return reader if is_it else None


def _part_sizes(split: ir.Node) -> tuple[int, ...] | None:
    """The widths of the parts of a Split along the last axis, if they are numbers."""
    full = rank(split.inputs[0])
    if full is None or attribute(split, "axis", 0) % full != full - 1:
        return None
    sizes = [(shape(value) or (None,))[-1] for value in split.outputs]
    known = tuple(size for size in sizes if isinstance(size, int))
    return known if len(known) == len(sizes) else None
