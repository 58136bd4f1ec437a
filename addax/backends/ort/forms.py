"""Which nodes the library can compute: the form of their weights is the key of a kernel.

What is asked here is what `linear_weights.c` demands: a node that it would refuse must run through
its body, for a runtime that has a library no longer looks at bodies.
"""

import onnx_ir as ir

from addax.ir.dialect import DOMAIN
from addax.ir.query import attribute, constant_tensor, shape

_TILE = 64  # rows
_LARGEST = 2**31 - 1  # bytes of one tensor of weights: kernels count in 32 bits
_RANK = 16  # dimensions that the library takes
_GROUPS = (32, 64, 96, 128)
_TYPES = {
    "BinaryMatMul": (ir.DataType.UINT8, ir.DataType.UINT8, ir.DataType.FLOAT),
    "CodebookMatMul": (
        ir.DataType.UINT8,
        ir.DataType.INT8,
        ir.DataType.UINT8,
        ir.DataType.FLOAT,
    ),
    "Int8MatMul": (ir.DataType.INT8, ir.DataType.FLOAT),
}

Dims = tuple[int, ...]


def form_of(node: ir.Node) -> str | None:
    """The form of a node's weights, such as "codebook4" or "binary3"; None if no kernel fits.

    Kernels take float32 activations of a known width, and weights that are initializers of the
    node's own graph: the runtime does not tell a kernel what an outer graph holds.
    """
    types = _TYPES.get(node.op_type) if node.domain == DOMAIN else None
    if types is None or len(node.inputs) != len(types) + 1:
        return None
    columns = _columns(node.inputs[0])
    tensors = [_weights(node, value) for value in node.inputs[1:]]
    dims = [tuple(t.shape.numpy()) for t in tensors if t is not None]
    if columns is None or types != tuple(t.dtype for t in tensors if t is not None):
        return None
    if len(dims[-1]) != 1 or not dims[0]:
        return None
    tiles = -(-dims[-1][0] // _TILE)
    if node.op_type == "Int8MatMul":
        return "int8" if dims[0] == (tiles, -(-columns // 4), _TILE, 4) else None
    group = attribute(node, "group")
    if group not in _GROUPS:
        return None
    groups = -(-columns // group)
    if node.op_type == "BinaryMatMul":
        return _binary(dims, tiles, groups, group)
    return _codebook(dims, tiles, groups, group, attribute(node, "bits"))


def _binary(dims: list[Dims], tiles: int, groups: int, group: int) -> str | None:
    planes = dims[0][2] if len(dims[0]) == 7 else 0
    expected = [(tiles, groups, planes, 4, group // 32, 16, 4), (tiles, groups, planes, _TILE)]
    return f"binary{planes}" if planes and dims[:2] == expected else None


def _codebook(dims: list[Dims], tiles: int, groups: int, group: int, bits: int) -> str | None:
    if bits not in (2, 4):
        return None
    codes = (tiles, groups, group * bits // 32, _TILE, 4)
    expected = [codes, (2**bits,), (tiles, groups, _TILE)]
    return f"codebook{bits}" if dims[:3] == expected else None


def _columns(x: ir.Value | None) -> int | None:
    """The last dimension of float32 activations; None if they are not, or it is not known."""
    dims = shape(x)
    if x is None or x.dtype != ir.DataType.FLOAT or not dims or len(dims) > _RANK:
        return None
    return dims[-1] if isinstance(dims[-1], int) and dims[-1] > 0 else None


def _weights(node: ir.Node, value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of a constant that belongs to the node's own graph."""
    tensor = constant_tensor(value)
    if value is None or tensor is None or tensor.nbytes > _LARGEST:
        return None
    maker = value.producer()
    owner = value.graph if maker is None else maker.graph
    return tensor if owner is not None and owner is node.graph else None
