"""Where a model has weights that codes can stand for, each read as y[..., N] = rows[..., K] W^T.

MatMul and Gemm by a constant; Conv of 1 x 1 and Conv whose kernel is its stride (the patch
embedding of a vision transformer), whose rows are the pixels or patches of its input.
"""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.ir import attribute, constant, producer, shape, static_shape
from addax.ir.query import constant_tensor

Dims = tuple[int, ...]

_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class View:
    """How a node's input and stored weights are rows [..., K] and a matrix [N, K].

    Attributes:
        is_turned: The weights are stored as [K, N].
        factor: The matrix is so many times what is stored.
        kernel, strides: Of a convolution's spatial axes; empty if the input's last axis is K.
    """

    is_turned: bool = False
    factor: float = 1.0
    kernel: Dims = ()
    strides: Dims = ()

    @property
    def is_pointwise(self) -> bool:
        """Whether it is a convolution that reads one pixel at a time."""
        return bool(self.kernel) and set(self.kernel) == {1}

    def matrix(self, stored: np.ndarray) -> np.ndarray:
        """The stored weights as float64[N, K]."""
        flat = stored.reshape(len(stored), -1).astype(np.float64)
        return (flat.T if self.is_turned else flat) * self.factor

    def rows(self, x: np.ndarray) -> np.ndarray:
        """The input as [..., K], its first axis in front."""
        if not self.kernel:
            return x
        if self.is_pointwise:
            every = tuple(slice(None, None, s) for s in (1, 1, *self.strides))
            return np.moveaxis(x[every], 1, -1)
        count = len(self.kernel)
        sizes = [size // k for size, k in zip(x.shape[2:], self.kernel, strict=True)]
        cut = tuple(slice(n * k) for n, k in zip(sizes, self.kernel, strict=True))
        whole = x[(slice(None), slice(None), *cut)]
        pairs = [d for n, k in zip(sizes, self.kernel, strict=True) for d in (n, k)]
        parts = whole.reshape(*x.shape[:2], *pairs)
        spatial = [2 + 2 * axis for axis in range(count)]
        turned = parts.transpose(0, *spatial, 1, *(axis + 1 for axis in spatial))
        return turned.reshape(len(x), *sizes, -1)


@dataclass(frozen=True, eq=False)
class Site:
    """A node `root` that multiplies rows of `x` by the constant `weight`, and adds `bias`."""

    root: ir.Node
    x: ir.Value
    weight: ir.Value
    view: View
    bias: ir.Value | None = None

    @property
    def size(self) -> tuple[int, int]:
        """N, K."""
        dims = static_shape(self.weight) or (0,)
        size = dims[0], math.prod(dims[1:])
        return (size[1], size[0]) if self.view.is_turned else size

    @property
    def has_bias(self) -> bool:
        """Whether constants are added to its outputs, so that one more costs nothing."""
        if self.bias is not None:
            return constant_tensor(self.bias) is not None
        made = self.root.outputs[0]
        readers = made.consumers()
        added = readers[0] if len(readers) == 1 and not made.is_graph_output() else None
        if added is None or added.op_type != "Add" or added.domain:
            return False
        return any(constant_tensor(value) is not None for value in added.inputs)

    def matrix(self) -> np.ndarray:
        """The weights, float64[N, K]."""
        stored = constant(self.weight)
        return self.view.matrix(np.zeros((0, 0)) if stored is None else stored)


def read(node: ir.Node) -> Site | str | None:
    """What `node` is; or why its weights cannot be codes; or None if it has no such weights."""
    found = product(node)
    if not isinstance(found, Site):
        return found
    if node.op_type == "MatMul" and len(shape(found.x) or ()) < 2:
        return "the rank of its input is unknown or 1"
    if found.x.dtype not in _TYPES:
        return f"its numbers are {found.x.dtype}, not float32, float16 or float64"
    return found


def product(node: ir.Node) -> Site | str | None:
    """As `read`, for numbers of any type and inputs of any rank."""
    reader = None if node.domain else _READERS.get(node.op_type)
    return None if reader is None else reader(node)


def readers(weight: ir.Value) -> list[Site] | None:
    """Every layer that reads these weights; None if something else reads them too."""
    found: list[Site] = []
    for node in weight.consumers():
        turn = node if node.op_type == "Transpose" and not node.domain else None
        for reader in [node] if turn is None else turn.outputs[0].consumers():
            site = read(reader)
            if not isinstance(site, Site) or site.weight is not weight:
                return None
            found.append(site)
        if turn is not None and turn.outputs[0].is_graph_output():
            return None
    return None if weight.is_graph_output() else found


def _stored(value: ir.Value | None) -> tuple[ir.Value, bool] | None:
    """A constant matrix, and whether `value` is its transpose."""
    turn = producer(value, "Transpose")
    turned = turn is not None and list(attribute(turn, "perm", [1, 0])) == [1, 0]
    stored = turn.inputs[0] if turn is not None and turned else value
    tensor = constant_tensor(stored)
    if stored is None or tensor is None or len(tensor.shape) != 2:
        return None
    return stored, turned


def _matmul(node: ir.Node) -> Site | None:
    x, found = node.inputs[0], _stored(node.inputs[1])
    if x is None or found is None or constant_tensor(x) is not None:
        return None
    return Site(node, x, found[0], View(is_turned=not found[1]))


def _gemm(node: ir.Node) -> Site | str | None:
    x, found = node.inputs[0], _stored(node.inputs[1])
    if x is None or found is None or constant_tensor(x) is not None:
        return None
    if attribute(node, "transA", 0):
        return "it reads its input transposed"
    turned = found[1] != bool(attribute(node, "transB", 0))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    view = View(is_turned=not turned, factor=attribute(node, "alpha", 1.0))
    return Site(node, x, found[0], view, bias)


def _conv(node: ir.Node) -> Site | str | None:
    x, weight = node.inputs[0], node.inputs[1]
    taps = static_shape(weight)
    if x is None or weight is None or taps is None or constant_tensor(weight) is None:
        return None
    if constant_tensor(x) is not None:
        return None
    kernel = taps[2:]
    if attribute(node, "group", 1) != 1:
        return "its channels are in groups"
    count = len(kernel)
    strides = tuple(attribute(node, "strides", [1] * count))
    padded = any(attribute(node, "pads", [0])) or attribute(node, "auto_pad", "NOTSET") not in {
        "NOTSET",
        "VALID",
    }
    pointwise = set(kernel) == {1}
    if not pointwise and (strides != kernel or set(attribute(node, "dilations", [1])) != {1}):
        size = " x ".join(map(str, kernel))
        return f"its kernel of {size} is not its stride, so that windows overlap or leave gaps"
    if padded:
        return "it pads its input"
    dims = shape(x)
    if dims is None or (not pointwise and not all(isinstance(d, int) for d in dims[1:])):
        return "the size of its input is known only at run time"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return Site(node, x, weight, View(kernel=kernel, strides=strides), bias)


_READERS = {"MatMul": _matmul, "Gemm": _gemm, "Conv": _conv}
