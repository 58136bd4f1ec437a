"""What ONNX ops mean in torch: one family of converters a file, and what they are recorded with."""

from addax.backends._torch_ops import (
    activation,
    arithmetic,
    attention,
    cast,
    contrib,
    contrib_attention,
    control,
    convolution,
    fill,
    fourier,
    indexing,
    layout,
    logic,
    matmul,
    movement,
    normalization,
    pooling,
    quantization,
    random,
    recurrent,
    reduction,
    resize,
    scatter,
    sequence,
    slicing,
    sorting,
    vision,
)
from addax.backends._torch_ops.table import Converter, Converters

__all__ = ["CONVERTERS", "find"]

_FAMILIES = (
    activation,
    arithmetic,
    attention,
    cast,
    contrib,
    contrib_attention,
    control,
    convolution,
    fill,
    fourier,
    indexing,
    layout,
    logic,
    matmul,
    movement,
    normalization,
    pooling,
    quantization,
    random,
    recurrent,
    reduction,
    resize,
    scatter,
    sequence,
    slicing,
    sorting,
    vision,
)

CONVERTERS = Converters()
for _family in _FAMILIES:
    CONVERTERS.include(_family.OPS)


def find(domain: str, op_type: str, opset: int) -> Converter | None:
    """The converter of an op at an opset of its domain; None where torch has no meaning for it."""
    return CONVERTERS.find(domain, op_type, opset)
