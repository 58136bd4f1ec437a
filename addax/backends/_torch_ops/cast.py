"""Changes of the element type."""

import math

import onnx_ir as ir
import torch

from addax.backends._torch_ops.dtypes import EIGHT_BIT_FLOATS, NARROW
from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor

OPS = Converters()

_LAST_E4M3FN = 464.0


@OPS.op("Cast", since=6)
def cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up", site: Site) -> Tensor:
    """The elements as type `to`; 8-bit floats stop at their greatest value if `saturate`."""
    return _converted(x, ir.DataType(to), saturate, round_mode, site)


@OPS.op("Cast")
def cast_by_name(x: Tensor, *, to: str, site: Site) -> Tensor:
    """The elements as the type called `to`."""
    return _converted(x, ir.DataType[to.upper()], 1, "up", site)


@OPS.op("CastLike")
def cast_like(
    x: Tensor, like: Tensor, *, saturate: int = 1, round_mode: str = "up", site: Site
) -> Tensor:
    """The elements as the type of another tensor."""
    return _converted(x, site.dtype(1), saturate, round_mode, site)


def _converted(x: Tensor, to: ir.DataType, saturate: int, round_mode: str, site: Site) -> Tensor:
    dtype = site.torch_dtype(to)
    site.require(to not in NARROW, f"torch cannot round to {to.name} and stay in its range")
    if to == ir.DataType.FLOAT8E8M0:
        site.require(round_mode == "nearest", f"torch does not round {round_mode!r} to powers of 2")
    if to in EIGHT_BIT_FLOATS and saturate:
        greatest = torch.finfo(dtype).max
        x = torch.clamp(x.to(torch.float32), -greatest, greatest)
    elif to == ir.DataType.FLOAT8E4M3FN:
        # torch saturates this one format by itself; 464 is the last number that rounds to 448.
        x = torch.where(torch.abs(x) > _LAST_E4M3FN, math.nan, x)
    return x.to(dtype)


@OPS.op("BitCast", since=26)
def bit_cast(x: Tensor, *, to: int, site: Site) -> Tensor:
    """The same bits as elements of another type of the same size."""
    return x.view(site.torch_dtype(to))
