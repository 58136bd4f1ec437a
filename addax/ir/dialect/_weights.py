"""What the products of the dialect share: the shape of the result, counts for the cost.

All linear layers take X[..., K] first and scale[N], floating, last, and give Y[..., N] of X's type.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from addax.ir.query import constant_tensor, shape


def set_linear_shape(node: ir.Node) -> None:
    """Y has X's type and shape, but for its last dimension, which is the number of scales."""
    x, scale = node.inputs[0], node.inputs[-1]
    out = node.outputs[0]
    if x is None or scale is None:
        return
    out.type = x.type
    if x.shape is not None and scale.shape is not None:
        out.shape = ir.Shape([*x.shape[:-1], scale.shape[0]])


def product_shape(rows: int, columns: int) -> Callable[[ir.Node], None]:
    """The shape rule of a product of two inputs: [..., K] and [..., N] make [..., N].

    Its type is that of the second.
    """

    def set_shape(node: ir.Node) -> None:
        x, w, out = node.inputs[rows], node.inputs[columns], node.outputs[0]
        if x is None or w is None:
            return
        out.type = w.type
        if x.shape is not None and w.shape is not None:
            out.shape = ir.Shape([*x.shape[:-1], w.shape[-1]])

    return set_shape


def columns(node: ir.Node, bind: Mapping[str, int]) -> int:
    """K, the last dimension of X; 1 if unknown."""
    dims = shape(node.inputs[0])
    last = dims[-1] if dims else None
    return last if isinstance(last, int) else bind.get(last or "", 1)


def are_powers_of_two(value: ir.Value | None) -> bool:
    """Whether a value is known and each of its integers is 0, 2^e or -2^e."""
    tensor = constant_tensor(value)
    if tensor is None:
        return False
    sizes = np.abs(tensor.numpy().astype(np.int64))
    return bool(np.all(sizes & (sizes - 1) == 0))
