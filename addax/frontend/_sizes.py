"""Sizes of axes as files give them."""

import onnx_ir as ir

from addax.ir.model import scopes


def forget_negative_sizes(model: ir.Model) -> None:
    """Leave open the sizes that a file gives as -1: so some exporters write what they do not know.

    ONNX has no negative sizes, and ONNX Runtime takes them for unknown too.
    """
    for scope in scopes(model):
        for value in [*scope.inputs, *(v for node in scope for v in node.outputs)]:
            dims = [] if value.shape is None else list(value.shape)
            if any(isinstance(dim, int) and dim < 0 for dim in dims):
                value.shape = ir.Shape(
                    [None if isinstance(dim, int) and dim < 0 else dim for dim in dims]
                )
