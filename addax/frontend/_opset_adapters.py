"""How single operators of an old operator set are said in the new one.

An adapter is a generator: what comes before its `yield` may refuse, what comes after changes
the node. So a model is changed only once every adapter has agreed.

Sources: the operators' changelog in the ONNX specification; where it is silent (Resize 10,
Upsample, RoiAlign 10), what ONNX Runtime does.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir.model import scopes
from addax.ir.query import attribute, constant, rank

logger = logging.getLogger(__name__)

Adapter = Callable[[ir.Node, int, "Names"], Iterator[None]]


class Unchanged(Exception):  # noqa: N818 - a decision, not an error
    """A model cannot be said in the new operator set; says why."""


class Names:
    """Names for new values, unique in a model."""

    def __init__(self, model: ir.Model) -> None:
        self._taken: set[str | None] = set()
        for scope in scopes(model):
            values = [*scope.inputs, *(v for node in scope for v in node.outputs)]
            values += getattr(scope, "initializers", {}).values()
            self._taken.update(value.name for value in values)

    def insert(
        self, node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any
    ) -> ir.Value:
        """The output of a new node before `node`."""
        stem = f"{node.outputs[0].name}_{op_type.lower()}"
        name, count = stem, 0
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        attrs = ir.convenience.convert_attributes(attributes)
        made = ir.Node("", op_type, inputs, attrs, num_outputs=1, name=name)
        made.outputs[0].name = name
        made.metadata_props.update(node.metadata_props)
        if node.graph is not None:
            node.graph.insert_before(node, made)
        return made.outputs[0]

    def constant(self, node: ir.Node, array: np.ndarray) -> ir.Value:
        """A constant for `node` to read."""
        value = self.insert(node, "Constant", (), value=ir.tensor(array))
        value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        value.shape = ir.Shape(array.shape)
        return value


def _set_inputs(node: ir.Node, inputs: Sequence[ir.Value | None]) -> None:
    """Let `node` read `inputs`, without absent ones at the end."""
    count = max((i + 1 for i, value in enumerate(inputs) if value is not None), default=0)
    node.resize_inputs(count)
    for index, value in enumerate(inputs[:count]):
        node.replace_input_with(index, value)


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _set(node: ir.Node, **attributes: Any) -> None:
    for attr in ir.convenience.convert_attributes(attributes):
        node.attributes[attr.name] = attr


def _drop(node: ir.Node, *names: str) -> None:
    for name in names:
        node.attributes.pop(name, None)


def _is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _broadcast(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Version 6 broadcasts the second operand on demand, from its last axis unless it says so."""
    if attribute(node, "broadcast", 0) and attribute(node, "axis") is not None:
        raise Unchanged(f"{node.op_type} {node.name!r} broadcasts along an axis of its own")
    yield
    _drop(node, "broadcast", "axis")


def _axes(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Attribute `axes` becomes an input; an absent one still means all axes."""
    yield
    axes = attribute(node, "axes")
    _drop(node, "axes")
    if axes:
        _set_inputs(node, [node.inputs[0], names.constant(node, np.array(axes, np.int64))])


def _split(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Attribute `split` becomes an input; equal parts are said by their number."""
    yield
    sizes = attribute(node, "split")
    _drop(node, "split")
    if sizes:
        _set_inputs(node, [node.inputs[0], names.constant(node, np.array(sizes, np.int64))])
    elif _input(node, 1) is None:
        _set(node, num_outputs=len(node.outputs))


def _slice(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Attributes `starts`, `ends`, `axes` become inputs."""
    starts, ends = attribute(node, "starts"), attribute(node, "ends")
    if not starts or not ends:
        raise Unchanged(f"Slice {node.name!r} has no starts or ends")
    yield
    axes = attribute(node, "axes") or range(len(starts))
    _drop(node, "starts", "ends", "axes")
    parts = [names.constant(node, np.array(part, np.int64)) for part in (starts, ends, axes)]
    _set_inputs(node, [node.inputs[0], *parts])


def _pad(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Attributes `pads`, `value` become inputs."""
    pads, filling = attribute(node, "pads"), attribute(node, "value", 0.0)
    element = node.inputs[0].dtype if node.inputs[0] is not None else None
    if not pads or (filling and element is None):
        raise Unchanged(f"Pad {node.name!r} has no pads, or a value of unknown type")
    yield
    _drop(node, "pads", "value")
    inputs = [node.inputs[0], names.constant(node, np.array(pads, np.int64))]
    if filling and element is not None:
        inputs.append(names.constant(node, np.array(filling, element.numpy())))
    _set_inputs(node, inputs)


def _top_k(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Attribute `k` becomes an input."""
    count = attribute(node, "k")
    if count is None:
        raise Unchanged(f"TopK {node.name!r} has no k")
    yield
    _drop(node, "k")
    _set_inputs(node, [node.inputs[0], names.constant(node, np.array([count], np.int64))])


def _clip(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Attributes `min`, `max` become inputs of the element type; an absent one is no bound."""
    bounds = attribute(node, "min"), attribute(node, "max")
    element = node.inputs[0].dtype if node.inputs[0] is not None else None
    if element is None and bounds != (None, None):
        raise Unchanged(f"the element type of Clip {node.name!r} is unknown")
    yield
    _drop(node, "min", "max")
    values: list[ir.Value | None] = [node.inputs[0]]
    for bound in bounds:
        if bound is None or element is None:
            values.append(None)
        else:
            values.append(names.constant(node, np.array(bound, element.numpy())))
    _set_inputs(node, values)


def _dropout(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Without a training mode, which older versions did not have, nothing is dropped."""
    if any(_is_used(value) for value in node.outputs[1:]):
        raise Unchanged(f"the mask of Dropout {node.name!r} is used")
    if since < 7 and not attribute(node, "is_test", 0):
        raise Unchanged(f"Dropout {node.name!r} is in training mode")
    yield
    _drop(node, "ratio", "is_test")
    node.resize_outputs(1)


def _softmax(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Older versions normalize over all axes from `axis` on, later ones over one.

    y = reshape(f(flatten(x, axis)), shape(x)), where f is over the last axis
    """
    axis = attribute(node, "axis", 1)
    value = node.inputs[0]
    known = rank(value)
    yield
    if axis == -1 or (known is not None and axis == known - 1):
        _set(node, axis=-1)
        return
    flat = names.insert(node, "Flatten", [value], axis=axis)
    inner = names.insert(node, node.op_type, [flat], axis=-1)
    shape = names.insert(node, "Shape", [value])
    node.op_type = "Reshape"
    _drop(node, "axis")
    _set_inputs(node, [inner, shape])


def _batch_normalization(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Statistics are for a channel, and only training returns them."""
    if not attribute(node, "spatial", 1):
        raise Unchanged(f"BatchNormalization {node.name!r} has statistics for each position")
    trains = since < 7 and not attribute(node, "is_test", 0)
    if trains or any(_is_used(value) for value in node.outputs[1:]):
        raise Unchanged(f"BatchNormalization {node.name!r} is in training mode")
    yield
    _drop(node, "spatial", "is_test")
    node.resize_outputs(1)


def _upsample(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Upsample is Resize with asymmetric coordinates, rounded down."""
    scales = attribute(node, "scales")
    if scales is None and _input(node, 1) is None:
        raise Unchanged(f"Upsample {node.name!r} has no scales")
    yield
    factors = names.constant(node, np.array(scales, np.float32)) if scales else node.inputs[1]
    _drop(node, "scales")
    _as_resize(node, factors)


def _as_resize(node: ir.Node, factors: ir.Value | None) -> None:
    node.op_type = "Resize"
    _set(node, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    _set_inputs(node, [node.inputs[0], None, factors])


def _resize(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Version 10 has the coordinates of Upsample; later ones mark what is absent by emptiness."""
    if since < 11:
        factors = constant(_input(node, 1))
        nearest = attribute(node, "mode", "nearest") == "nearest"
        if nearest and (factors is None or (factors < 1).any()):
            raise Unchanged(f"Resize {node.name!r} may shrink, and its rounding is not specified")
        yield
        _as_resize(node, _input(node, 1))
        return
    inputs = [_input(node, index) for index in range(4)]
    values = [None if value is None else constant(value) for value in inputs]
    if attribute(node, "coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        raise Unchanged(f"Resize {node.name!r} has coordinates that later versions do not know")
    if inputs[3] is not None and inputs[2] is not None and values[2] is None:
        raise Unchanged(f"Resize {node.name!r} has both scales and sizes")
    yield
    empty = [value is not None and value.size == 0 for value in values]
    _set_inputs(node, [None if gone else i for gone, i in zip(empty, inputs, strict=True)])


def _roi_align(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """The old coordinates are no longer the default."""
    yield
    _set(node, coordinate_transformation_mode="output_half_pixel")


def _scatter(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Scatter is called ScatterElements."""
    yield
    node.op_type = "ScatterElements"


def _grid_sample(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Modes have lost their prefix."""
    yield
    mode = attribute(node, "mode", "bilinear")
    _set(node, mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


def _dft(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Attribute `axis`, by default 1, becomes an input, by default -2."""
    yield
    axis = names.constant(node, np.array(attribute(node, "axis", 1), np.int64))
    _drop(node, "axis")
    _set_inputs(node, [node.inputs[0], _input(node, 1), axis])


def _average_pool(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Windows that begin in the padding at the end count differently since version 19."""
    if attribute(node, "ceil_mode", 0):
        raise Unchanged(f"AveragePool {node.name!r} rounds its size up")
    yield


def _layer_normalization(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """ONNX Runtime had it in the standard domain before the standard, for more mixes of types."""
    types = {value.dtype for value in node.inputs if value is not None}
    if None in types or len(types) > 1:
        raise Unchanged(f"LayerNormalization {node.name!r} has operands of several types")
    yield
    ignored = sorted(node.attributes.keys() - {"axis", "epsilon", "stash_type"})
    if since < 17 and ignored:  # ONNX Runtime checks no attributes of what it had by itself
        logger.warning("LayerNormalization %r ignores %s", node.name, ", ".join(ignored))
        _drop(node, *ignored)


def _prelu(node: ir.Node, since: int, names: Names) -> Iterator[None]:
    """Version 6 has a slope for each channel, axis 1; since 7 it broadcasts from the last axis."""
    slope, data = rank(node.inputs[1]), rank(node.inputs[0])
    if slope is None or data is None:
        raise Unchanged(f"PRelu {node.name!r} has operands of unknown rank")
    yield
    if slope == 1 and data > 2:
        axes = names.constant(node, np.arange(1, data - 1))
        _set_inputs(node, [node.inputs[0], names.insert(node, "Unsqueeze", [node.inputs[1], axes])])


_REDUCED = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
_ARITHMETIC = ("Add", "Div", "Gemm", "Mul", "Pow", "Sub")
_LOGICAL = ("And", "Equal", "Greater", "Less", "Or", "Xor")

ADAPTERS: dict[str, Adapter] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "DFT": _dft,
    "Dropout": _dropout,
    "GridSample": _grid_sample,
    "Hardmax": _softmax,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _softmax,
    "PRelu": _prelu,
    "Pad": _pad,
    "Resize": _resize,
    "RoiAlign": _roi_align,
    "Scatter": _scatter,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _axes,
    "TopK": _top_k,
    "Unsqueeze": _axes,
    "Upsample": _upsample,
    **dict.fromkeys(_ARITHMETIC + _LOGICAL, _broadcast),
    **{f"Reduce{kind}": _axes for kind in _REDUCED},
}
