"""Linear layers as a value has them: a product with constant weights, and the bias added to it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from addax.ir import attribute, constant, producer
from addax.passes._shift.sites import Site, product


@dataclass(frozen=True, eq=False)
class Linear:
    """x[..., K] weight[K, N] + bias[N], computed by `nodes`.

    Attributes:
        site: The product, and how its weights are stored.
        bias: float64[N]; zeros if there is none.
        nodes: The product, and the addition if there is one.
    """

    site: Site
    bias: np.ndarray
    nodes: tuple[ir.Node, ...]

    @property
    def x(self) -> ir.Value:
        """What the layer reads."""
        return self.site.x

    @property
    def size(self) -> tuple[int, int]:
        """K, N."""
        outputs, inner = self.site.size
        return inner, outputs

    @property
    def kind(self) -> np.dtype:
        """The type of its numbers."""
        array = constant(self.site.weight)
        return np.dtype(np.float32) if array is None else array.dtype

    @cached_property
    def weight(self) -> np.ndarray:
        """The weights, float64[K, N]."""
        return np.ascontiguousarray(self.site.matrix().T)


def linear(value: ir.Value | None) -> Linear | None:
    """A value as a linear layer of the last axis, with or without a bias; None if it is none."""
    node = producer(value, "MatMul", "Gemm", "Add")
    if node is None or node.op_type != "Add":
        return None if node is None else linear_product(node)
    for inner, added in (node.inputs, node.inputs[::-1]):
        multiplied = producer(inner, "MatMul")
        found = None if multiplied is None else linear_product(multiplied)
        bias = None if found is None else _bias(added, found.size[1])
        if found is not None and bias is not None:
            return Linear(found.site, bias, (*found.nodes, node))
    return None


def linear_product(node: ir.Node) -> Linear | None:
    """A MatMul or Gemm by constant weights, with a Gemm's own bias; None if it is none."""
    site = None if node.domain or node.op_type not in ("MatMul", "Gemm") else product(node)
    if not isinstance(site, Site):
        return None
    width = site.size[0]
    bias: np.ndarray | None = np.zeros(width)
    if site.bias is not None:
        bias = _bias(site.bias, width)
    if bias is None:
        return None
    return Linear(site, bias * attribute(node, "beta", 1.0), (node,))


def _bias(value: ir.Value | None, width: int) -> np.ndarray | None:
    """A constant that is the same for every row, float64[width]; None if it is none."""
    array = constant(value)
    if array is None or array.size not in (1, width):
        return None
    if array.size != (array.shape[-1] if array.ndim else 1):
        return None
    return np.broadcast_to(array.reshape(-1).astype(np.float64), (width,))
