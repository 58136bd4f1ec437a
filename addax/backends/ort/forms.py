"""Which nodes the library can compute: the form of a node is the key of a kernel.

What is asked here is what the C files demand: a node that they would refuse must run through its
body, for a runtime that has a library no longer looks at bodies.
"""

from collections.abc import Callable, Mapping

import onnx_ir as ir

from addax.ir.dialect import DOMAIN
from addax.ir.query import attribute, constant_tensor, shape

_TILE = 64  # rows
_LANES = 16  # bits and widths of heads are multiples of it
_LARGEST = 2**31 - 1  # bytes of one tensor of weights: kernels count in 32 bits
_RANK = 16  # dimensions that the library takes
_GROUPS = (32, 64, 96, 128)
_CODE_BITS = 6
_FLOAT, _UINT8, _INT8 = ir.DataType.FLOAT, ir.DataType.UINT8, ir.DataType.INT8

Dims = tuple[int, ...]


def form_of(node: ir.Node) -> str | None:
    """The form of a node, such as "codebook4", "binary3" or "mixture"; None if no kernel fits.

    Kernels take float32 activations of a known width, and weights that are initializers of the
    node's own graph: the runtime does not tell a kernel what an outer graph holds.
    """
    find = _FORMS.get(node.op_type) if node.domain == DOMAIN else None
    return None if find is None else find(node)


def _codebook(node: ir.Node) -> str | None:
    found = _weights(node, _UINT8, _INT8, _UINT8, _FLOAT)
    columns, bits, group = _columns(node), attribute(node, "bits"), attribute(node, "group")
    if found is None or columns is None or bits not in (2, 4) or group not in _GROUPS:
        return None
    codes, table, multipliers, scale = found
    tiles, groups = _tiles(scale), -(-columns // group)
    fits = (
        codes == (tiles, groups, group * bits // 32, _TILE, 4)
        and table == (2**bits,)
        and multipliers == (tiles, groups, _TILE)
    )
    return f"codebook{bits}" if fits else None


def _binary(node: ir.Node) -> str | None:
    found = _weights(node, _UINT8, _UINT8, _FLOAT)
    columns, group = _columns(node), attribute(node, "group")
    if found is None or columns is None or group not in _GROUPS:
        return None
    planes, multipliers, scale = found
    tiles, groups, count = _tiles(scale), -(-columns // group), planes[2] if planes[2:] else 0
    fits = planes == (tiles, groups, count, 4, group // 32, 16, 4)
    return f"binary{count}" if fits and multipliers == (tiles, groups, count, _TILE) else None


def _int8(node: ir.Node) -> str | None:
    found, columns = _weights(node, _INT8, _FLOAT), _columns(node)
    if found is None or columns is None:
        return None
    weights, scale = found
    return "int8" if weights == (_tiles(scale), -(-columns // 4), _TILE, 4) else None


def _static(node: ir.Node) -> str | None:
    found, columns = _weights(node, _INT8, _INT8, _FLOAT), _columns(node)
    if found is None or columns is None:
        return None
    weights, table, scale = found
    fits = (
        weights == (_tiles(scale), -(-columns // 4), _TILE, 4)
        and table == (256,)
        and attribute(node, "step", 0.0) > 0
        and 0 <= attribute(node, "zero", -1) <= 255
    )
    return "static" if fits else None


def _mixture(node: ir.Node) -> str | None:
    found, columns = _weights(node, _FLOAT, _FLOAT, _INT8, _FLOAT, _FLOAT, first=2), _columns(node)
    expert = node.inputs[1] if len(node.inputs) > 1 else None
    if found is None or columns is None or expert is None or expert.dtype != ir.DataType.INT32:
        return None
    floats, bias, weights, scale, other = found
    outputs = floats[-1] if floats else 0
    fits = (
        floats == (columns, outputs)
        and bias == scale == other == (outputs,)
        and weights == (-(-outputs // _TILE), -(-columns // 4), _TILE, 4)
    )
    return "mixture" if fits else None


def _log_code(node: ir.Node) -> str | None:
    if len(node.inputs) != 3 or any(v is None or v.dtype != _FLOAT for v in node.inputs):
        return None
    scores, mask, values = (shape(value) for value in node.inputs)
    if scores is None or mask is None or values is None or not len(scores) == len(values) >= 2:
        return None
    bits, steps = attribute(node, "bits", 0), attribute(node, "codes_per_octave", 0)
    fits = (
        len(mask) <= len(scores) <= _RANK
        and None not in scores[:-2]
        and scores[:-2] == values[:-2]
        and 1 <= bits <= _CODE_BITS
        and steps >= 1
        and attribute(node, "delta", 1.0) == 0
    )
    return "log_code" if fits else None


def _linear_attention(node: ir.Node) -> str | None:
    if len(node.inputs) != 2 or any(v is None or v.dtype != _FLOAT for v in node.inputs):
        return None
    x, filters = (shape(value) for value in node.inputs)
    heads, bits, width = (attribute(node, name, 0) for name in ("heads", "bits", "width"))
    if x is None or filters is None or min(heads, bits, width) < 1:
        return None
    taps = filters[2] if len(filters) == 4 else 0
    fits = (
        len(x) == 3
        and x[2] == heads * (2 * bits + width)
        and bits % _LANES == width % _LANES == 0
        and isinstance(taps, int)
        and taps % 2 == 1
        and filters == (heads, 1, taps, 1)
    )
    return "linear_attention" if fits else None


def _tiles(scale: Dims) -> int:
    return -(-scale[0] // _TILE) if len(scale) == 1 else -1


def _columns(node: ir.Node) -> int | None:
    """The last dimension of float32 activations; None if they are not, or it is not known."""
    x = node.inputs[0]
    dims = shape(x)
    if x is None or x.dtype != _FLOAT or not dims or len(dims) > _RANK:
        return None
    return dims[-1] if isinstance(dims[-1], int) and dims[-1] > 0 else None


def _weights(node: ir.Node, *types: ir.DataType, first: int = 1) -> list[Dims] | None:
    """The shapes of the inputs from `first` on, if they are constants of these types."""
    if len(node.inputs) != first + len(types):
        return None
    tensors = [_own(node, value) for value in node.inputs[first:]]
    if any(t is None or t.dtype != kind for t, kind in zip(tensors, types, strict=True)):
        return None
    return [tuple(t.shape.numpy()) for t in tensors if t is not None]


def _own(node: ir.Node, value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of a constant that belongs to the node's own graph."""
    tensor = constant_tensor(value)
    if value is None or tensor is None or tensor.nbytes > _LARGEST:
        return None
    maker = value.producer()
    owner = value.graph if maker is None else maker.graph
    return tensor if owner is not None and owner is node.graph else None


_FORMS: Mapping[str, Callable[[ir.Node], str | None]] = {
    "BinaryLinearAttention": _linear_attention,
    "BinaryMatMul": _binary,
    "CodebookMatMul": _codebook,
    "Int8MatMul": _int8,
    "LogCodeAttention": _log_code,
    "RoutedMoE": _mixture,
    "StaticInt8MatMul": _static,
}
